"""`python -m helpers generate`: answer one text or many with a routed policy, a run's, or the base policy."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.tasks import JSON_TASK, TASKS

if TYPE_CHECKING:
    from helpers.policy.serve.routing import Route
    from helpers.policy.serve.serving import Request

HELP = "answer a user's text with the policy that a route, or a run, names"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    parser.add_argument("--route", type=Path, help="a route file: each task is answered by its policy")
    parser.add_argument("--run", type=Path, help="a run folder whose adapter answers (default: the base policy)")
    parser.add_argument("--best", action="store_true", help="the adapter of the run's best evaluation, not its last")
    parser.add_argument("--recipe", help="the base policy's recipe (default v4.1); a run has its own")
    parser.add_argument("--profile", help="the base policy's: cpu, smallest, l4, or auto (default); a run has its own")
    parser.add_argument("--task", help=f"one of: {', '.join(TASKS)}")
    parser.add_argument("--input", help="the user's text, @FILE, or - for standard input; @FILE.jsonl with --out: many")
    parser.add_argument("--record", metavar="ID", help="ask what a shipped record asks, instead of --input")
    parser.add_argument("--mode", default="greedy", help="greedy (default) or sample (temperature 1)")
    parser.add_argument("--seed", type=int, default=1_000, help="sampling seed (default 1000)")
    parser.add_argument("--json", action="store_true", help="extraction: print the object read, and its repairs")
    parser.add_argument("--out", type=Path, help="write many answers there, one JSON object a line")
    parser.add_argument("--serve-command", action="store_true", help="print the route's vLLM commands and stop")


def run(args: argparse.Namespace) -> int:
    """Print the answer on stdout and who answered on stderr; 1 where `--json` found no object in the answer."""
    from helpers.core.errors import UserError, require_known
    from helpers.core.files import write_jsonl
    from helpers.policy.serve import routing

    require_known("mode", args.mode, ("sample", "greedy"))
    if args.route and (args.run or args.best or args.recipe or args.profile):
        raise UserError("--route says which policy answers; leave --run, --best, --recipe and --profile out")
    route = routing.read(args.route) if args.route else None
    if args.serve_command:
        return _print_serve_commands(route)
    asked = _requests(args)
    if args.json and (args.out or asked[0].task != JSON_TASK):
        raise UserError("--json reads the object of one extraction; leave it out for other tasks and with --out")
    rows = _answered(args, asked, route)
    _tell_policies(rows, args.mode)
    if args.out:
        write_jsonl(args.out, rows)
        return 0
    return _print_object(rows[0]["completion"]) if args.json else _print(rows[0]["completion"])


def _requests(args: argparse.Namespace) -> "list[Request]":
    """What is asked: a record, a text, or with `--out` the lines of a file."""
    from helpers.core.errors import UserError
    from helpers.policy.serve.serving import read_requests, record_request, request

    if args.record:
        if args.input or args.task:
            raise UserError("--record brings its task and its text; leave --task and --input out")
        return [record_request(args.record)]
    if not args.input:
        raise UserError("nothing to answer; give --task and --input TEXT, @FILE or -, or --record ID")
    if args.out:
        if args.task or not args.input.startswith("@"):
            raise UserError("--out takes --input @FILE.jsonl, each line with its own id, task and input; no --task")
        return read_requests(Path(args.input[1:]))
    if not args.task:
        raise UserError(f"--task is needed, one of: {', '.join(TASKS)}")
    return [request(args.task, _text(args.input))]


def _text(source: str) -> str:
    """The text that `--input` means: standard input, a file, or itself."""
    from helpers.core.errors import UserError

    try:
        if source == "-":
            return sys.stdin.read()
        return Path(source[1:]).read_text(encoding="utf-8") if source.startswith("@") else source
    except UnicodeDecodeError as error:
        raise UserError(f"{source}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        raise UserError(f"{source}: {error.strerror}; a text that begins with @ goes through -") from error


def _answered(args: argparse.Namespace, asked: "list[Request]", route: "Route | None") -> list[dict[str, Any]]:
    from helpers.policy.run_policy import find_policy
    from helpers.policy.serve import serving

    if route is not None:
        return serving.answer_by_route(asked, route, args.mode, args.seed)
    found = find_policy(args.run, args.best, args.recipe, args.profile)
    return serving.answer(asked, found, found.policy.name, args.mode, args.seed)


def _tell_policies(rows: list[dict[str, Any]], mode: str) -> None:
    """Who answered, and what was cut off, beside the answers and not among them."""
    for name, task in dict.fromkeys((row["policy"], row["task"]) for row in rows):
        own = [row for row in rows if (row["policy"], row["task"]) == (name, task)]
        clipped = sum(row["clipped"] for row in own)
        cut = f", {clipped} of {len(own)} cut off at the length limit" if clipped else ""
        print(f"{task}: answered by {name}, {mode}{cut}", file=sys.stderr)


def _print(completion: str) -> int:
    print(completion)
    return 0


def _print_object(completion: str) -> int:
    from helpers.parsing import parse_completion
    from helpers.tasks import REVIEW_FIELDS

    parsed = parse_completion(completion, REVIEW_FIELDS)
    shown = {"value": parsed.value, "repairs": list(parsed.repairs), "reason": parsed.reason}
    print(json.dumps(shown, ensure_ascii=False, indent=2))
    return int(parsed.value is None)


def _print_serve_commands(route: "Route | None") -> int:
    from helpers.core.errors import UserError
    from helpers.policy.serve.serving import serve_commands

    if route is None:
        raise UserError("--serve-command prints the commands of a route; name it with --route")
    print("\n".join(serve_commands(route)))
    return 0
