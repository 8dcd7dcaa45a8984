"""`python -m helpers report`: a run as one HTML page, and its decision on the terminal."""

import argparse
from pathlib import Path

from helpers.plots.report import write_report
from helpers.runs import Run, latest_run, load, load_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    parser.add_argument(
        "run", type=Path, nargs="?", help="a run folder (default: the latest V4.1 run, own before shipped)"
    )
    parser.add_argument(
        "--out", type=Path, help="the page (default: report.html in the run folder, a shipped run's in runs/<run>)"
    )
    parser.add_argument("--examples", type=int, default=10, help="before/after completions per task (default 10)")


def run(args: argparse.Namespace) -> int:
    """Write the page; print warnings, the decision and where the page is."""
    run, source = (load_run(args.run), str(args.run)) if args.run else latest_run()
    print(source)
    for warning in run.warnings:
        print(f"warning: {warning}")
    page = args.out or _folder_for(run) / "report.html"
    print(write_report(run, page, args.examples))
    print(f"page: {page}")
    return 0


def _folder_for(run: Run) -> Path:
    """Where the run's page goes: beside its record, or where that ships with the project, to the user's own runs."""
    shipped = run.path.resolve().is_relative_to(load.SHIPPED_RUNS)
    return load.OWN_RUNS / run.name if shipped else run.path
