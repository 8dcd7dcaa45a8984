"""`python -m helpers notebooks`: run the series, or a part of it, from the terminal."""

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

HELP = "run notebooks in order; executed copies, HTML and run records go to runs/<time>/"


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
    from helpers import notebooks

    main_job = not args.all and not args.notebooks
    chosen = notebooks.find(() if args.all else args.notebooks or notebooks.MAIN_JOB, notebooks.FOLDER)
    folder = notebooks.new_folder(notebooks.RUNS)
    print(f"run records, executed copies and HTML: {folder}")
    try:
        for group in notebooks.groups(chosen):
            _run_group(group, folder, args.in_place)
        if main_job:
            _run_branch(folder, args.in_place)
    except notebooks.NotebookError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"what ran is kept in {folder}", file=sys.stderr)
        raise
    _print_summary(folder)
    return 0


def _run_group(group: list[Path], folder: Path, in_place: bool) -> None:
    """Run one notebook here, or several two at a time in a process each; what failed is told when all are done."""
    from helpers import notebooks

    if len(group) == 1:
        return _run_one(group[0], folder, in_place)
    with ProcessPoolExecutor(notebooks.AT_ONCE, get_context("spawn")) as pool:
        runs = [pool.submit(_run_one, notebook, folder, in_place) for notebook in group]
    failed = [error for error in (run.exception() for run in runs) if error]
    for error in failed:
        if not isinstance(error, notebooks.NotebookError):
            raise error
    if failed:
        raise notebooks.NotebookError("\n".join(map(str, failed)))
    return None


def _run_one(notebook: Path, folder: Path, in_place: bool) -> None:
    from helpers import notebooks
    from helpers.progress import clock

    print(f"==> {notebook.stem}", flush=True)
    started = time.monotonic()
    copy = notebooks.execute(notebook, folder)
    if in_place:
        notebooks.refresh(notebook, copy)
    print(f"==> {notebook.stem}: done in {clock(time.monotonic() - started)}", flush=True)


def _run_branch(folder: Path, in_place: bool) -> None:
    """The notebook that the decision on this folder's V4.1 run names, where it names one."""
    from helpers import analysis, decision, notebooks, summary

    found = decision.decide(analysis.latest_run(folder)[0])
    if found.notebook is None:
        print(f"==> no branch is run: {found.title.lower()}; next: {found.next_step}")
        return
    print(f"==> scenario {found.scenario}, {found.title.lower()}: the branch is {found.notebook}")
    summary.add({"branch": f"scenario {found.scenario}, notebook {found.notebook}"}, folder)
    _run_one(notebooks.find([found.notebook], notebooks.FOLDER)[0], folder, in_place)


def _print_summary(folder: Path) -> None:
    from helpers import summary

    numbers = summary.read(folder)
    if numbers:
        print("\nmain numbers")
    for title, value in numbers.items():
        print(f"  {title}: {value}")
    print("\nread them in context")
    for path in sorted(folder.glob("*.html")):
        print(f"  {path}")
