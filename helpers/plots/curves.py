"""Learning curves of one run, or of several: rewards in evaluation and in training, their parts and their spread."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from helpers.plots.style import (
    ALL_TASKS_COLOR,
    LINES,
    MANY_POINTS,
    MARKERS,
    MUTED,
    SERIES_COLORS,
    grid,
    label_outer,
    panels,
    task_color,
    task_label,
)
from helpers.rewards import WEIGHTS
from helpers.runs import analysis
from helpers.runs.analysis import ALL
from helpers.runs.load import Run, evaluated_steps
from helpers.runs.record import PARTS
from helpers.tasks import TASKS


def eval_curves(runs: Sequence[Run]) -> Figure:
    """Mean evaluation reward by step, a panel per task and one for all, with 95 % bands; runs differ in line style."""
    figure, (*axes, legend) = grid(len(TASKS) + 2, columns=3, row_height=2.7, sharex=True, sharey=True)
    for axis, task in zip(axes, (ALL, *TASKS), strict=True):
        for index, run in enumerate(runs):
            _draw_band(axis, analysis.curve(run, task), task_color(task), index)
        axis.set(title=task_label(task), ylim=(0, 1))
    label_outer(axes, 3, "Training step", "Mean reward")
    legend.axis("off")
    for index, run in enumerate(runs):
        style = LINES[index % len(LINES)] + MARKERS[index % len(MARKERS)]
        face = ALL_TASKS_COLOR if index == 0 else "white"
        legend.plot([], [], style, color=ALL_TASKS_COLOR, mfc=face, label=run.name)
    legend.legend(loc="center", title="Run (band: 95 % interval)")
    return figure


def _draw_band(axis: Axes, curve: pd.DataFrame, color: str, index: int) -> None:
    marker = MARKERS[index % len(MARKERS)] if len(curve) <= MANY_POINTS else ""
    face = color if index == 0 else "white"
    axis.plot(curve.index, curve["mean"], LINES[index % len(LINES)] + marker, color=color, mfc=face)
    axis.fill_between(curve.index, curve["low"], curve["high"], color=color, alpha=0.18 if index == 0 else 0.10, lw=0)


def reward_curve(run: Run) -> Figure:
    """The reward of the completions that the policy trains on: each step, its moving mean, and that of each task."""
    figure, axes = panels(1, 2, height=3.4, sharey=True)
    left, right = axes.flat
    reward = run.series("train/reward")
    mean = moving_mean(reward, run)
    left.plot(reward.index, reward, ".", color=MUTED, ms=3, label="one step")
    left.plot(mean.index, mean, color=ALL_TASKS_COLOR, label=f"mean of {_window(run)} steps")
    for task in TASKS:
        mean = moving_mean(run.series(f"train/reward/{task}"), run)
        right.plot(mean.index, mean, color=task_color(task), label=task_label(task))
    left.set(title="All tasks", ylabel="Mean reward in training")
    right.set_title("Each task, moving mean")
    for axis in axes.flat:
        axis.set(xlabel="Training step", ylim=(0, 1))
        axis.legend(loc="best")
    return figure


def training_parts(run: Run) -> Figure:
    """The share that each part of each task's reward reaches in training, as a moving mean: which part moves.

    A run that is shown one task alone has one panel.
    """
    only = run.config.get("recipe", {}).get("only_task")
    tasks = [only] if only else TASKS
    columns = min(2, len(tasks))
    figure, axes = grid(len(tasks), columns, row_height=2.2, sharex=True, sharey=True)
    for axis, task in zip(axes, tasks, strict=True):
        for index, part in enumerate(WEIGHTS.get(run.reward_version, {}).get(task, {})):
            mean = moving_mean(run.series(f"{PARTS}{task}/{part}"), run)
            # The ninth part has the first one's colour, and another dash.
            color, style = SERIES_COLORS[index % len(SERIES_COLORS)], LINES[(index + index // len(SERIES_COLORS)) % 4]
            axis.plot(mean.index, mean, style, color=color, label=part.replace("_", " "))
        axis.set(title=task_label(task), ylim=(-0.02, 1.02))
        if axis.lines:
            axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
    label_outer(axes, columns, "Training step", "Share in training")
    return figure


def moving_mean(series: pd.Series, run: Run) -> pd.Series:
    """The mean of each step and its neighbours, over a twentieth of the run."""
    return series.rolling(_window(run), min_periods=1, center=True).mean()


def _window(run: Run) -> int:
    return max(5, run.max_steps // 20)


def reward_parts(run: Run) -> Figure:
    """What each task's evaluation reward is made of, by step: the weighted parts stacked up to the mean reward.

    The dashed line is the sum of all weights, 1: what lies between is the reward still to be won.
    """
    weights = WEIGHTS.get(run.reward_version, {})
    figure, axes = grid(len(TASKS), columns=2, row_height=3.0, sharex=True, sharey=True)
    for axis, task in zip(axes, TASKS, strict=True):
        shares = analysis.part_shares(run, task)
        parts = [part for part in shares if part in weights.get(task, {})]
        if parts:
            layers = [shares[part] * weights[task][part] for part in parts]
            labels = [f"{part.replace('_', ' ')}\n(at most {weights[task][part]:.2f})" for part in parts]
            axis.stackplot(
                shares.index, layers, labels=labels, colors=_tints(task, len(parts)), edgecolor="white", linewidth=0.8
            )
            # Top layer first, as it is seen; beside the axes, so that no layer lies under the legend.
            handles, labels = axis.get_legend_handles_labels()
            axis.legend(handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
        axis.axhline(1, color=MUTED, ls="--", lw=1)
        axis.set(title=task_label(task), ylim=(0, 1.02))
    label_outer(axes, 2, "Training step", "Mean reward")
    return figure


def _tints(task: str, count: int) -> list[Any]:
    """`count` shades of the task's colour, dark to light."""
    base = np.array(to_rgb(task_color(task)))
    return [tuple(base + (1 - base) * share) for share in np.linspace(0.0, 0.75, count)]


def reward_distributions(run: Run) -> Figure:
    """How the rewards of each task's prompts are spread at the start (outline) and at the end (filled)."""
    split = analysis.comparison_split(run) or ""
    steps = evaluated_steps(run, split)
    figure, axes = grid(len(TASKS), columns=2, row_height=2.6, sharex=True)
    for axis, task in zip(axes, TASKS, strict=True):
        start: dict[str, Any] = {"color": ALL_TASKS_COLOR, "histtype": "step", "linewidth": 1.6}
        end: dict[str, Any] = {"color": task_color(task), "alpha": 0.5}
        for step, look in zip(steps[:1] + steps[-1:], (start, end), strict=False):
            rewards = analysis.values_of(analysis.prompt_rewards(run, step, split), task)
            axis.hist(rewards, bins=[position / 20 for position in range(21)], label=f"step {step}", **look)
        axis.set_title(task_label(task))
        locator: Any = axis.yaxis.get_major_locator()
        locator.set_params(integer=True)
        if steps:
            axis.set_ylim(0, axis.get_ylim()[1] * 1.3)
            axis.legend(loc="upper center", ncols=2)
    label_outer(axes, 2, "Reward of a prompt", "Prompts")
    return figure
