"""The command line: verbs, exit codes, and errors told in one line."""

import errno
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from types import ModuleType

import pytest

from helpers import cli
from helpers.core.errors import UserError

ROOT = Path(__file__).resolve().parent.parent


def run_as_a_program(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "helpers", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def verb_that(monkeypatch: pytest.MonkeyPatch, raises: BaseException) -> None:
    """Make `doctor` a verb that fails with `raises`."""

    def run(_: Namespace) -> int:
        raise raises

    module = ModuleType("failing")
    module.__dict__.update(add_arguments=lambda parser: None, run=run)
    monkeypatch.setitem(sys.modules, "helpers.cli.doctor", module)


def test_help_lists_every_verb_with_one_line_and_loads_no_verb() -> None:
    program = (
        "import sys; from helpers.cli import main; main(['--help'])\n"
        "assert not [name for name in sys.modules if name.startswith('helpers.cli.')], sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    listed = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")]
    assert listed == list(cli.VERBS)


@pytest.mark.parametrize("options", [["--help"], ["doctor", "--json"]])
def test_help_and_the_doctor_answer_where_no_package_is_installed(options: list[str]) -> None:
    command = [sys.executable, "-S", "-m", "helpers", *options]  # -S: no site-packages
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.stdout and not done.stderr, done.stderr


def test_every_verb_has_a_module_and_every_module_a_verb() -> None:
    modules = {path.stem.replace("_", "-") for path in (ROOT / "helpers" / "cli").glob("*.py")}
    assert modules == {*cli.VERBS, "--init--", "common"}


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_explains_its_options(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ending:
        cli.main([verb, "--help"])

    assert ending.value.code == 0
    told = capsys.readouterr().out
    assert told.startswith(f"usage: python -m helpers {verb}")
    assert "\n" not in cli.VERBS[verb]


def test_an_unknown_verb_is_answered_with_the_valid_ones() -> None:
    done = run_as_a_program("trian")

    assert done.returncode == 2
    assert done.stderr == f"error: unknown verb 'trian'; the valid ones are: {', '.join(cli.VERBS)}\n"


def test_no_verb_at_all_is_answered_with_the_valid_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert ", ".join(cli.VERBS) in capsys.readouterr().err


def test_an_unknown_option_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--fast"]) == 2
    assert capsys.readouterr().err == (
        "error: unrecognized arguments: --fast; `python -m helpers doctor --help` tells what is accepted\n"
    )


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["evaluate", "--samples", "0"], "--samples 0: at least 1 completion"),
        (["evaluate", "--samples", "-1"], "--samples -1: at least 1 completion"),
        (["evaluate", "--seed", "-1"], "--seed -1: a whole number from 0 to 4294967295"),
        (["evaluate", "--seed", str(2**32)], "--seed 4294967296: a whole number from 0 to 4294967295"),
        (["generate", "--record", "push-eval-0001", "--seed", "-1"], "--seed -1: "),
        (["preflight", "--seed", "-1"], "--seed -1: "),
        (["data", "--seed", "-1"], "--seed -1: "),
        (["pairs", "--task", "push", "--add", "1", "--seed", "-1"], "--seed -1: "),
    ],
)
def test_a_number_that_nothing_can_use_is_one_line(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {line}") and error.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("pairs/train.jsonl, line 3: no task"), 2, "error: pairs/train.jsonl, line 3: no task\n"),
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
        (OSError(errno.ENOSPC, "No space left on device", "runs/x.json"), 1, "runs/x.json: No space left on device\n"),
        (PermissionError(errno.EACCES, "Permission denied", "data"), 1, "error: data: Permission denied\n"),
        (ModuleNotFoundError("No module named 'trl'", name="trl"), 2, "the package trl is missing here"),
    ],
)
def test_an_error_of_the_users_world_is_one_line_and_an_exit_code(
    error: BaseException, code: int, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    verb_that(monkeypatch, raises=error)

    assert cli.main(["doctor"]) == code
    told = capsys.readouterr()
    assert line in told.err
    assert told.err.count("\n") == 1
    assert told.out == ""


def test_a_defect_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    verb_that(monkeypatch, raises=ZeroDivisionError("ours"))

    with pytest.raises(ZeroDivisionError):
        cli.main(["doctor"])


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    command = f"{sys.executable} -m helpers doctor --json | head -n 1"
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.stdout == "[\n"
    assert done.stderr == ""
