"""The verbs of the command line, and how their errors are reported.

A verb lives in the module of the same name (`audit-parser` in `audit_parser.py`), which has `add_arguments(parser)` and
`run(arguments)`, which returns the exit code. Only the verb that is typed is imported.

Exit codes: 0 done; 1 the verb says no (a check failed, a notebook failed); 2 bad input; 130 interrupted.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from helpers.core.errors import UserError, require_known

VERBS: dict[str, str] = {
    "data": "build data/commerce.db and data/pairs from the simulator or from Olist's CSV files",
    "pairs": "make more records of one task from the database",
    "embedded": "build the embedded policies anew: another shop's pairs, tokenizer, weights, scores, model card",
    "recipe": "print a recipe whole, each value with its source, and what a profile changes",
    "train": "train a recipe with GRPO and leave a run record",
    "evaluate": "answer and score a split with the base policy or a run's adapter",
    "generate": "answer a user's text with the policy that a route, or a run, names",
    "export": "write a run's adapter or merged 16-bit model, and check that it answers as before",
    "audit-parser": "compare JSON parsers on the quirk corpus, and on your own completions",
    "audit-rewards": "score right answers in other dress, wrong ones and cheats under each reward version",
    "report": "write a run as one HTML page and print its decision",
    "compare": "put runs side by side, paired where the eval set is the same",
    "results": "make the tables of RESULTS.md, and the README's figure and times, from the shipped records",
    "preflight": "check policy, data and two training steps before a long run",
    "notebooks": "run notebooks in order; executed copies, HTML and run records go to runs/<time>/",
    "doctor": "tell what this machine is, which profile it gets, and what is off",
}
"""Verb to the line that `--help` shows; here, so that help needs no verb's module and no package."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are one line, reported like every other `UserError`."""

    def error(self, message: str) -> NoReturn:
        """Raise `UserError` with argparse's complaint and where to read what is accepted."""
        raise UserError(f"{message}; `{self.prog} --help` tells what is accepted")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the verb that `arguments` (default: the command line) name; the exit code."""
    try:
        code = _dispatch(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()
    except UserError as error:
        return _fail(str(error), 2)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except BrokenPipeError:
        # The reader (`| head`) is gone; what is left in the buffer has nowhere to go when Python exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.filename is not None:
            return _fail(f"{error.filename}: {error.strerror}", 1)
        return _fail(" ".join(str(error).split()) or type(error).__name__, 1)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("helpers"):
            raise
        return _fail(f"the package {error.name} is missing here: use .venv/bin/python, which `make venv` fills", 2)
    return code


def overview() -> str:
    """The text of `python -m helpers --help`: one line per verb."""
    lines = [f"  {verb:<14} {line}" for verb, line in VERBS.items()]
    return "\n".join(["usage: python -m helpers <verb> [options]", "", *lines, "", "`<verb> --help`: its options."])


def _dispatch(arguments: list[str]) -> int:
    if not arguments:
        raise UserError(f"a verb is needed, one of: {', '.join(VERBS)}")
    verb, *options = arguments
    if verb in ("-h", "--help"):
        print(overview())
        return 0
    require_known("verb", verb, tuple(VERBS))
    module = importlib.import_module(f"helpers.cli.{verb.replace('-', '_')}")
    parser = Parser(prog=f"python -m helpers {verb}", description=VERBS[verb])
    module.add_arguments(parser)
    return module.run(parser.parse_args(options))


def _fail(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code
