"""`python -m helpers export`: a run's adapter and merged model as files for elsewhere, checked against the run."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    parser.add_argument("run", type=Path, help="a run folder with its adapter")
    parser.add_argument("--out", type=Path, required=True, help="the folder to make; it must not be there yet")
    parser.add_argument("--merged", action="store_true", help="also base and adapter as one bfloat16 model")
    parser.add_argument(
        "--prompts", type=int, default=40, help="eval prompts of the check, a quarter per task (default 40)"
    )


def run(args: argparse.Namespace) -> int:
    """Export and print the check; 1 where the export does not agree with the run."""
    from helpers.policy import serve

    done = serve.export_run(args.run, args.out, args.merged, args.prompts)
    for part, agreement in done.checks.items():
        print(f"{part:<8} {agreement}")
    print(f"export: {done.folder}")
    return 0 if done.agrees else 1
