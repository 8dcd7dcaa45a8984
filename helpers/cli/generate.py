"""`python -m helpers generate`: answer one text or many with a routed policy, a run's, or the base policy."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.cli.common import require_seed
from helpers.core.errors import UserError, require_known
from helpers.core.files import write_jsonl
from helpers.parsing import parse_completion
from helpers.tasks import JSON_TASK, REVIEW_FIELDS, TASKS

if TYPE_CHECKING:
    from helpers.policy.serve import Route
    from helpers.policy.serve.answer import Request


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    parser.add_argument("--route", type=Path, help="a route file: each task is answered by its policy")
    parser.add_argument("--run", type=Path, help="a run folder whose adapter answers (default: the base policy)")
    parser.add_argument("--best", action="store_true", help="the adapter of the run's best evaluation, not its last")
    parser.add_argument("--recipe", help="the base policy's recipe (default v4.1); a run has its own")
    parser.add_argument("--profile", help="the base policy's: cpu, smallest, l4, or auto (default); a run has its own")
    parser.add_argument("--task", help="extraction, sql_qa, insights or push")
    parser.add_argument("--input", help="the user's text, @FILE, or - for standard input; @FILE.jsonl with --out: many")
    parser.add_argument("--record", metavar="ID", help="ask what a shipped record asks, instead of --input")
    parser.add_argument("--mode", default="greedy", help="greedy (default) or sample (temperature 1)")
    parser.add_argument("--seed", type=int, default=1_000, help="sampling seed (default 1000)")
    parser.add_argument("--json", action="store_true", help="extraction: print the object read, and its repairs")
    parser.add_argument("--out", type=Path, help="write many answers there, one JSON object per line")
    parser.add_argument("--serve-command", action="store_true", help="print the route's vLLM commands and stop")


def run(args: argparse.Namespace) -> int:
    """Print the answer on stdout and who answered on stderr; 1 where `--json` found no object in the answer."""
    from helpers.policy import MODES, serve

    require_known("mode", args.mode, MODES)
    require_seed(args.seed)
    if args.route and (args.run or args.best or args.recipe or args.profile):
        raise UserError("--route says which policy answers; leave --run, --best, --recipe and --profile out")
    route = serve.read_route(args.route) if args.route else None
    if args.serve_command:
        if route is None:
            raise UserError("--serve-command prints the commands of a route; name it with --route")
        print("\n".join(serve.serve_commands(route)))
        return 0
    requests = _requests(args)
    if args.json and (args.out or requests[0].task != JSON_TASK):
        raise UserError("--json reads the object of one extraction; leave it out for other tasks and with --out")
    rows = _answers(args, requests, route)
    _print_policies(rows, args.mode)
    if args.out:
        write_jsonl(args.out, rows)
        return 0
    completion = rows[0]["completion"]
    if not args.json:
        print(completion)
        return 0
    parsed = parse_completion(completion, REVIEW_FIELDS)
    result = {"value": parsed.value, "repairs": list(parsed.repairs), "reason": parsed.reason}
    print(json.dumps(result, ensure_ascii=False, indent=2))
    return int(parsed.value is None)


def _requests(args: argparse.Namespace) -> "list[Request]":
    """What the flags ask: a record, a text, or with `--out` the lines of a file."""
    from helpers.policy import serve

    if args.record:
        if args.input or args.task:
            raise UserError("--record brings its task and its text; leave --task and --input out")
        return [serve.record_request(args.record)]
    if not args.input:
        raise UserError("nothing to answer; give --task and --input TEXT, @FILE or -, or --record ID")
    if args.out:
        if args.task or not args.input.startswith("@"):
            raise UserError("--out takes --input @FILE.jsonl, each line with its own id, task and input; no --task")
        return serve.read_requests(Path(args.input[1:]))
    if not args.task:
        raise UserError(f"--task is needed, one of: {', '.join(TASKS)}")
    return [serve.text_request(args.task, _text(args.input))]


def _text(source: str) -> str:
    """The text that `--input` means: standard input, a file, or itself."""
    try:
        if source == "-":
            return sys.stdin.read()
        return Path(source[1:]).read_text(encoding="utf-8") if source.startswith("@") else source
    except UnicodeDecodeError as error:
        raise UserError(f"{source}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        raise UserError(f"{source}: {error.strerror}; a text that begins with @ goes through -") from error


def _answers(args: argparse.Namespace, requests: "list[Request]", route: "Route | None") -> list[dict[str, Any]]:
    from helpers.policy import find_policy, serve

    if route is not None:
        return serve.answer_by_route(requests, route, args.mode, args.seed)
    run_policy = find_policy(args.run, args.best, args.recipe, args.profile)
    return serve.answer_requests(requests, run_policy, run_policy.policy.name, args.mode, args.seed)


def _print_policies(rows: list[dict[str, Any]], mode: str) -> None:
    """Print who answered, and how many answers were cut off, on stderr."""
    for name, task in dict.fromkeys((row["policy"], row["task"]) for row in rows):
        own = [row for row in rows if (row["policy"], row["task"]) == (name, task)]
        clipped = sum(row["clipped"] for row in own)
        cut = f", {clipped} of {len(own)} cut off at the length limit" if clipped else ""
        print(f"{task}: answered by {name}, {mode}{cut}", file=sys.stderr)
