"""`python -m helpers compare`: runs side by side, paired where they answered the same prompts."""

import argparse
from pathlib import Path

HELP = "put runs side by side, paired where the eval set is the same"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="two or more run folders")
    parser.add_argument("--figure", type=Path, help="also save the curves of all runs there, as PNG")


def run(args: argparse.Namespace) -> int:
    """Print each run's end, then how far each lies above the first."""
    from helpers.core.errors import UserError
    from helpers.core.files import replacing
    from helpers.plots import report
    from helpers.plots.run import eval_curves
    from helpers.runs import analysis
    from helpers.runs.load import load_run

    if len(args.runs) < 2:
        raise UserError("compare needs two run folders or more; `report` shows one")
    runs = [load_run(path) for path in args.runs]
    for found in runs:
        if not analysis.end_rewards(found):
            raise UserError(f"{found.path}: no evaluation at step {found.max_steps}; resume the run, then compare")
        for warning in found.warnings:
            print(f"warning: {found.name}: {warning}")
    print(report.comparison(runs))
    if args.figure:
        with replacing(args.figure) as temporary:
            eval_curves(runs).savefig(temporary, format="png")
        print(f"figure: {args.figure}")
    return 0
