"""`python -m helpers notebooks`: run the series, or a part of it; executed copies, HTML and run records go to one
folder of `runs/`."""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import nbformat
import papermill
from nbclient.exceptions import DeadKernelError
from nbconvert import HTMLExporter
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillExecutionError

from helpers.core import tracking
from helpers.core.errors import UserError
from helpers.core.files import PROJECT_ROOT, write_text
from helpers.core.progress import clock
from helpers.recipes import profiles
from helpers.recipes.profiles import Profile
from helpers.runs import decide, latest_run, summary

FOLDER = PROJECT_ROOT / "notebooks"
RUNS = PROJECT_ROOT / "runs"
KERNEL_LOG = "kernels.log"
MAIN_JOB = ("01", "02", "03")
SIDE_BY_SIDE = ("04a", "04c", "04b")
"""The branches need nothing of one another; 04b, which trains two policies at once, begins last."""
AT_ONCE = 2
"""Notebooks of a group that run at the same time."""
SECONDS_BETWEEN_NOTES = 10.0


class _NoKernelError(Exception):
    """The kernel did not start; the message says why."""


class NotebookError(Exception):
    """A cell failed, or its kernel died or did not start; the message says where. The partial copy is kept."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--notebooks", nargs="+", metavar="NAME", help="numbers or names (default 01 02 03, then the decided branch)"
    )
    which.add_argument("--all", action="store_true", help="every notebook of the series")
    parser.add_argument("--in-place", action="store_true", help="also put the new outputs into notebooks/")


def run(args: argparse.Namespace) -> int:
    """Run them in order; 1 at the first that fails."""
    chosen = find(() if args.all else args.notebooks or MAIN_JOB, FOLDER)
    folder = new_folder(RUNS)
    print(f"run records, executed copies and HTML: {folder}")
    ahead = None if args.notebooks else _answer_ahead(folder / KERNEL_LOG)
    try:
        for group in groups(chosen):
            _run_group(group, folder, args.in_place)
        if not args.all and not args.notebooks:
            _run_branch(folder, args.in_place)
    except NotebookError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"what ran is kept in {folder}", file=sys.stderr)
        raise
    finally:
        if ahead:
            ahead.kill()
    _print_summary(folder)
    return 0


def _answer_ahead(log: Path) -> BaseProcess | None:
    """Start answering the eval split with what 02 and 04a train, beside 01, which leaves a core idle."""
    profile = profiles.get("auto")
    if not profile.leaves_a_core:
        return None
    process = get_context("spawn").Process(target=_answers_of, args=(profile, log), daemon=True)
    process.start()
    return process


def _answers_of(profile: Profile, log: Path) -> None:
    from helpers.training import base_answers  # loads torch

    with log.open("a", encoding="utf-8") as file, redirect_stdout(file), redirect_stderr(file):
        base_answers.answer_ahead(("v4.1", "v4.2a"), profile)


def _run_group(group: list[Path], folder: Path, in_place: bool) -> None:
    """Run one notebook here, or several two at a time in a process each; failures are reported when all are done."""
    if len(group) == 1:
        _run_one(group[0], folder, in_place)
        return
    with ProcessPoolExecutor(AT_ONCE, get_context("spawn")) as pool:
        runs = [pool.submit(_run_one, notebook, folder, in_place) for notebook in group]
    errors = [error for error in (run.exception() for run in runs) if error]
    for error in errors:
        if not isinstance(error, NotebookError):
            raise error
    if errors:
        raise NotebookError("\n".join(map(str, errors)))


def _run_one(notebook: Path, folder: Path, in_place: bool) -> None:
    print(f"==> {notebook.stem}", flush=True)
    started = time.monotonic()
    copy = execute(notebook, folder)
    if in_place:
        refresh(notebook, copy)
    print(f"==> {notebook.stem}: done in {clock(time.monotonic() - started)}", flush=True)


def _run_branch(folder: Path, in_place: bool) -> None:
    """Run the notebook that the decision on this folder's V4.1 run names, where it names one."""
    decided = decide(latest_run(folder)[0])
    if decided.notebook is None:
        print(f"==> no branch is run: {decided.title.lower()}; next: {decided.next_step}")
        return
    print(f"==> scenario {decided.scenario}, {decided.title.lower()}: the branch is {decided.notebook}")
    summary.add({"branch": f"scenario {decided.scenario}, notebook {decided.notebook}"}, folder)
    _run_one(find([decided.notebook], FOLDER)[0], folder, in_place)


def _print_summary(folder: Path) -> None:
    numbers = summary.read(folder)
    if numbers:
        print("\nmain numbers", *(f"  {title}: {value}" for title, value in numbers.items()), sep="\n")
    print("\nread them in context", *(f"  {path}" for path in sorted(folder.glob("*.html"))), sep="\n")


def find(names: Sequence[str], folder: Path) -> list[Path]:
    """The notebooks called `names` (a number such as `04a`, or the whole name), in that order; without names, all.

    Raises `UserError` listing the notebooks there are where one is unknown.
    """
    by_name = {path.stem: path for path in sorted(folder.glob("[0-9]*.ipynb"))}
    either = {_number(path): path for path in by_name.values()} | by_name
    for name in names:
        if name not in either:
            raise UserError(f"no notebook {name!r} in {folder}; there are: {', '.join(by_name) or 'none'}")
    return [either[name] for name in names] if names else list(by_name.values())


def _number(notebook: Path) -> str:
    return notebook.stem.split("_")[0]


def groups(notebooks: Sequence[Path]) -> list[list[Path]]:
    """The notebooks in the order in which they begin; of one group, `AT_ONCE` run at the same time.

    Only on a CPU with a core for each of those: a GPU trains one policy at a time.
    """
    branches = {_number(path): path for path in notebooks} if profiles.get("auto").leaves_a_core else {}
    together = [branches[number] for number in SIDE_BY_SIDE if number in branches]
    first = next((path for path in notebooks if path in together), None)
    return [together if path == first else [path] for path in notebooks if path == first or path not in together]


def new_folder(runs: Path) -> Path:
    """Make the folder of one run of the notebooks in `runs`, named after the time."""
    folder = runs / time.strftime("%Y%m%d-%H%M%S")
    folder.mkdir(parents=True)
    return folder


def environment(run_folder: Path) -> dict[str, str]:
    """The kernel's environment: nothing in it can ask for a login, or the network where the policy is embedded."""
    defaults = {
        "JUPYTER_PREFER_ENV_PATH": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "WANDB_MODE": tracking.wandb_mode()[0],
        "WANDB_SILENT": "true",
    }
    if profiles.get("auto").embedded:
        defaults["HF_HUB_OFFLINE"] = "1"
    python_path = os.pathsep.join(filter(None, [str(PROJECT_ROOT), os.environ.get("PYTHONPATH")]))
    return defaults | os.environ | {"HELPERS_RUN_DIR": str(run_folder.resolve()), "PYTHONPATH": python_path}


def execute(notebook: Path, run_folder: Path) -> Path:
    """Run `notebook` in its own folder with this interpreter; the executed copy, with an HTML version beside it.

    Raises `NotebookError` at the first failing cell. The copy is saved after every cell, so what ran is never lost.
    """
    copy, log = run_folder / notebook.name, run_folder / KERNEL_LOG
    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")  # a kernel of the user's home never stands in for .venv
    try:
        papermill.execute_notebook(
            notebook,
            copy,
            engine_name=_Engine.NAME,
            kernel_name="python3",
            cwd=notebook.parent,
            progress_bar=False,
            run_folder=run_folder,
            name=_number(notebook),
        )
    except _NoKernelError as error:
        raise NotebookError(f"{notebook.stem}: its kernel did not start: {error} (see {log})") from error
    except DeadKernelError as error:
        reason = f"its kernel died, most often for want of memory (see {log})"
        raise NotebookError(f"{notebook.stem}: {reason}\n  what ran is kept in {copy}") from error
    except PapermillExecutionError as error:
        reason = f"failed in code cell {error.exec_count}: {error.ename}: {error.evalue}"
        raise NotebookError(f"{notebook.stem} {reason}\n  what ran is kept in {copy}") from error
    html, _ = HTMLExporter().from_filename(str(copy))
    write_text(copy.with_suffix(".html"), html)
    return copy


def refresh(notebook: Path, executed: Path) -> None:
    """Put the outputs and execution counts of `executed` into `notebook`, how long it took and on what; no paths."""
    target, source = (nbformat.read(path, as_version=4) for path in (notebook, executed))
    for old, new in zip(target.cells, source.cells, strict=True):
        if old.cell_type == "code":
            old.outputs, old.execution_count = new.outputs, new.execution_count
    seconds, profile = round(source.metadata.papermill.duration), profiles.get("auto").name
    target.metadata.measured = {"seconds": seconds, "profile": profile, "cores": os.cpu_count()}
    write_text(notebook, nbformat.writes(target) + "\n")


class _Client(PapermillNotebookClient):
    """Papermill's client, which prints which cell runs, and what a long cell's own progress line says."""

    def __init__(self, nb_man: Any, name: str, **options: Any) -> None:
        super().__init__(nb_man, **options)
        self.on_cell_execute = self.begin
        self.name, self.cell, self.printed, self.started = name, 0, 0.0, time.monotonic()
        self.cells = sum(cell.cell_type == "code" for cell in nb_man.nb.cells)

    def start_new_kernel(self, **options: Any) -> None:
        """Start the kernel's process; `_NoKernelError` where it is not installed."""
        try:
            super().start_new_kernel(**options)
        except (KeyError, OSError) as error:  # jupyter_client's NoSuchKernel is a KeyError
            raise _NoKernelError(str(error)) from error

    def start_new_kernel_client(self, **options: Any) -> Any:
        """Wait until the kernel answers; `_NoKernelError` where it ends or stays silent."""
        try:
            return super().start_new_kernel_client(**options)
        except RuntimeError as error:  # jupyter_client's
            raise _NoKernelError(str(error)) from error

    def begin(self, cell: Any, **_: Any) -> None:
        """Print which cell begins: its first line that is no comment or magic."""
        self.cell += 1
        lines = cell.source.strip().splitlines()
        self.say(next((line for line in lines if not line.startswith(("#", "%"))), lines[0]))

    def process_message(self, msg: dict[str, Any], *rest: Any, **named: Any) -> Any:
        """Say what a display says that rewrites itself (a progress line), at most once in `SECONDS_BETWEEN_NOTES`."""
        rewritten = msg["msg_type"] == "update_display_data"
        if rewritten and time.monotonic() - self.printed >= SECONDS_BETWEEN_NOTES:
            self.say(msg["content"]["data"].get("text/plain", ""))
        return super().process_message(msg, *rest, **named)

    def say(self, text: str) -> None:
        """Print one line about the cell that runs."""
        self.printed = time.monotonic()
        elapsed = clock(self.printed - self.started)
        print(f"  {elapsed:>6}  {self.name}  cell {self.cell}/{self.cells}  {text[:90]}", flush=True)


class _Engine(NBClientEngine):
    """Papermill's engine with our client, our environment for the kernel, and no time limit on a cell.

    What a kernel writes outside its cells goes to a log file, so that the terminal shows the progress alone.
    """

    NAME = "helpers"

    @classmethod
    def execute_managed_notebook(  # type: ignore[override]
        cls, nb_man: Any, kernel_name: str, run_folder: Path, name: str, **_: Any
    ) -> None:
        """Run the cells; `run_folder` gets the kernel's log, `name` stands before each line printed."""
        client = _Client(nb_man, name, kernel_name=kernel_name, timeout=None, startup_timeout=120)
        with (run_folder / KERNEL_LOG).open("a", encoding="utf-8") as log:
            client.execute(env=environment(run_folder), stderr=log)


papermill_engines.register(_Engine.NAME, _Engine)
