"""The verbs of the command line, and how their errors are told.

A verb lives in the module of the same name (`audit-parser` in `audit_parser.py`), which has `HELP`, one line;
`add_arguments(parser)`; and `run(arguments)`, which returns the exit code. Only the verb asked for is imported.

Exit codes: 0 done; 1 the verb says no (a check failed, a notebook failed); 2 bad input; 130 interrupted.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import NoReturn

from helpers.core.errors import UserError, require_known

VERBS = (
    "data",
    "pairs",
    "recipe",
    "train",
    "evaluate",
    "generate",
    "export",
    "audit-parser",
    "audit-rewards",
    "report",
    "compare",
    "preflight",
    "notebooks",
    "doctor",
)


_VENV_PYTHON = ".venv/bin/python"


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are one line, told like every other `UserError`."""

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
        return _fail(_told(error), 1)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("helpers"):
            raise
        return _fail(f"the package {error.name} is missing here: use {_VENV_PYTHON}, which `make venv` fills", 2)
    return code


def overview() -> str:
    """The text of `python -m helpers --help`: one line a verb."""
    lines = [f"  {verb:<14} {_module(verb).HELP}" for verb in VERBS]
    return "\n".join(["usage: python -m helpers <verb> [options]", "", *lines, "", "`<verb> --help`: its options."])


def _dispatch(arguments: list[str]) -> int:
    if not arguments:
        raise UserError(f"a verb is needed, one of: {', '.join(VERBS)}")
    verb, *options = arguments
    if verb in ("-h", "--help"):
        print(overview())
        return 0
    require_known("verb", verb, VERBS)
    module = _module(verb)
    parser = Parser(prog=f"python -m helpers {verb}", description=module.HELP)
    module.add_arguments(parser)
    return module.run(parser.parse_args(options))


def _module(verb: str) -> ModuleType:
    return importlib.import_module(f"helpers.cli.{verb.replace('-', '_')}")


def _fail(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code


def _told(error: OSError) -> str:
    """An operating-system error in one line that names the file, where it has one."""
    if error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__
