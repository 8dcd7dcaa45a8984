"""`python -m helpers report`: a run as one HTML page, and its decision on the terminal."""

import argparse
from pathlib import Path

HELP = "write a run as one HTML page and print its decision"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    parser.add_argument(
        "run", type=Path, nargs="?", help="a run folder (default: the latest V4.1 run, own before shipped)"
    )
    parser.add_argument("--out", type=Path, help="the page (default: report.html in the run folder)")
    parser.add_argument("--examples", type=int, default=10, help="before/after completions a task (default 10)")


def run(args: argparse.Namespace) -> int:
    """Write the page; prints warnings, the decision and where the page is."""
    from helpers.plots import report
    from helpers.runs.load import latest_run, load_run

    if args.run:
        found, told = load_run(args.run), str(args.run)
    else:
        found, told = latest_run()
    print(told)
    for warning in found.warnings:
        print(f"warning: {warning}")
    page = args.out or found.path / "report.html"
    decided = report.write_report(found, page, args.examples)
    print(decided)
    print(f"page: {page}")
    return 0
