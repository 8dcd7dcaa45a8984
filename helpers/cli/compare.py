"""`python -m helpers compare`: runs side by side, paired where they answered the same prompts."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from helpers.core.errors import UserError
from helpers.plots.curves import eval_curves
from helpers.plots.style import save_png
from helpers.runs import Run, analysis, compare, load_run
from helpers.runs.analysis import ALL
from helpers.tasks import TASKS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="two or more run folders")
    parser.add_argument("--figure", type=Path, help="also save the curves of all runs there, as PNG")


def run(args: argparse.Namespace) -> int:
    """Print each run's end, then how far each lies above the first."""
    if len(args.runs) < 2:
        raise UserError("compare needs two run folders or more; `report` shows one")
    runs = [load_run(path) for path in args.runs]
    for run in runs:
        if not analysis.end_rewards(run):
            raise UserError(f"{run.path}: no evaluation at step {run.max_steps}; resume the run, then compare")
        for warning in run.warnings:
            print(f"warning: {run.name}: {warning}")
    _print_ends(runs)
    for other in runs[1:]:
        _print_difference(runs[0], other)
    if args.figure:
        save_png(eval_curves(runs), args.figure)
        print(f"figure: {args.figure}")
    return 0


def _print_ends(runs: Sequence[Run]) -> None:
    """One column per run: how it was trained, the mean reward of each task at the end, the gain over its base."""

    def line(title: str, values: Sequence[Any]) -> None:
        print(f"{title:<14}" + "".join(f"{value!s:>26}" for value in values))

    line("", [run.name for run in runs])
    line("recipe", [run.recipe for run in runs])
    line("reward", [_reward(run) for run in runs])
    line("steps", [run.last_step for run in runs])
    for task in (ALL, *TASKS):
        line(task, [analysis.task_interval(analysis.end_rewards(run), task) for run in runs])
    gains = [analysis.gains(run).get(ALL) for run in runs]
    line("gain over base", [gain.difference.signed() if gain else "-" for gain in gains])


def _print_difference(first: Run, other: Run) -> None:
    overall, how = compare.difference(first, other)
    why = f"the same {overall.n} prompts" if how == "paired" else "their eval sets differ, so the interval is wider"
    print(f"\n{other.name} minus {first.name}, {how}: {why}")
    if _reward(first) != _reward(other):
        print("  rewarded differently: the difference holds the parser's effect beside the learning's")
    print(f"  {ALL:<12} {overall.signed()}")
    for task in TASKS:
        if task in analysis.end_rewards(first) and task in analysis.end_rewards(other):
            print(f"  {task:<12} {compare.difference(first, other, task)[0].signed()}")


def _reward(run: Run) -> str:
    return f"{run.reward_version} {run.config.get('parser', '')}"
