"""`python -m helpers report`: a run as one HTML page, and its decision on the terminal."""

import argparse
from pathlib import Path

from helpers.plots.report import write_report
from helpers.runs import latest_run, load_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    parser.add_argument(
        "run", type=Path, nargs="?", help="a run folder (default: the latest V4.1 run, own before shipped)"
    )
    parser.add_argument("--out", type=Path, help="the page (default: report.html in the run folder)")
    parser.add_argument("--examples", type=int, default=10, help="before/after completions per task (default 10)")


def run(args: argparse.Namespace) -> int:
    """Write the page; print warnings, the decision and where the page is."""
    run, source = (load_run(args.run), str(args.run)) if args.run else latest_run()
    print(source)
    for warning in run.warnings:
        print(f"warning: {warning}")
    page = args.out or run.path / "report.html"
    print(write_report(run, page, args.examples))
    print(f"page: {page}")
    return 0
