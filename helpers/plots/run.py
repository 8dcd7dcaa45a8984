"""Figures of one run record, or of several side by side. A task has one colour everywhere (`style.TASK_COLORS`)."""

import html
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from helpers.plots.style import (
    ALL_TASKS_COLOR,
    MUTED,
    SERIES_COLORS,
    TASK_COLORS,
    TASK_LABELS,
    panel,
    panels,
    panels_for,
)
from helpers.rewards import WEIGHTS
from helpers.runs import analysis, stop_rules
from helpers.runs.analysis import ALL
from helpers.runs.decision import Effects
from helpers.runs.load import Run, evaluated_steps
from helpers.tasks import JSON_TASK, TASKS

_LINES = ("-", "--", ":", "-.")
_MARKERS = ("o", "s", "^", "D")
_STATES = ("no data", "ignored", "ok", "watch", "triggered")
_STATE_COLORS = ("#FFFFFF", "#DDDDDD", "#56B4E9", "#F0E442", "#D55E00")
_STATE_MARKS = {"watch": "?", "triggered": "!"}


def eval_curves(runs: Sequence[Run]) -> Figure:
    """Mean evaluation reward by step, a panel a task and one for all, with 95 % bands; runs differ in line style."""
    figure, (*axes, legend) = panels_for(len(TASKS) + 2, 3, row_height=2.7, sharex=True, sharey=True)
    for axis, task in zip(axes, (ALL, *TASKS), strict=True):
        for index, run in enumerate(runs):
            _band(axis, analysis.curve(run, task), _color(task), index)
        axis.set_title(_label(task))
        axis.set_ylim(0, 1)
    _outer_labels(axes, 3, "Training step", "Mean reward")
    _run_legend(legend, runs)
    return figure


def gain_bars(run: Run) -> Figure:
    """The paired gain over the base policy of each task, sampled at temperature 1 and greedy, with 95 % intervals."""
    figure, axis = panel(3.2)
    for offset, (mode, label) in zip((0.15, -0.15), _MODES.items(), strict=True):
        found = analysis.gains(run, mode=mode)
        for position, task in enumerate((ALL, *TASKS)):
            if task in found:
                _interval_mark(axis, found[task].difference, -position + offset, _color(task), filled=mode == "sample")
        axis.plot([], [], "o", color=MUTED, mfc=MUTED if mode == "sample" else "white", label=label)
    axis.axvline(0, color=MUTED, lw=1)
    axis.set_yticks([-i for i in range(len(TASKS) + 1)], [_label(task) for task in (ALL, *TASKS)])
    axis.set_ylim(-len(TASKS) - 0.5, 0.5)
    axis.set_xlabel("Gain of the mean reward over the base policy, same prompts")
    axis.grid(axis="y", visible=False)
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, 1.18), ncols=2)
    return figure


def reward_curve(run: Run) -> Figure:
    """The reward of the completions that the policy trains on: each step, its moving mean, and each task's."""
    figure, axes = panels(1, 2, height=3.4, sharey=True)
    left, right = axes.flat
    reward = run.series("train/reward")
    left.plot(reward.index, reward, ".", color=MUTED, ms=3, label="one step")
    left.plot(_moving(reward, run).index, _moving(reward, run), color=ALL_TASKS_COLOR, label=_window_label(run))
    for task in TASKS:
        series = run.series(f"train/reward/{task}")
        right.plot(_moving(series, run).index, _moving(series, run), color=_color(task), label=_label(task))
    left.set_title("All tasks")
    right.set_title("Each task, moving mean")
    left.set_ylabel("Mean reward in training")
    for axis in axes.flat:
        axis.set_xlabel("Training step")
        axis.set_ylim(0, 1)
        axis.legend(loc="best")
    return figure


def reward_parts(run: Run, split: str = "eval_subset") -> Figure:
    """What each task's evaluation reward is made of, by step: the weighted parts stacked up to the mean reward.

    The dashed line is the sum of all weights, 1: what lies between is the reward still to be won.
    """
    weights = WEIGHTS.get(run.reward_version, {})
    figure, axes = panels_for(len(TASKS), 2, row_height=3.0, sharex=True, sharey=True)
    for axis, task in zip(axes, TASKS, strict=True):
        shares = analysis.part_shares(run, task, split)
        parts = [part for part in shares if part in weights.get(task, {})]
        layers = [shares[part] * weights[task][part] for part in parts]
        if layers:
            labels = [f"{_words(part)}\n(at most {weights[task][part]:.2f})" for part in parts]
            axis.stackplot(
                shares.index, layers, labels=labels, colors=_tints(task, len(parts)), edgecolor="white", linewidth=0.8
            )
            _reversed_legend(axis)
        axis.axhline(1, color=MUTED, ls="--", lw=1)
        axis.set_title(_label(task))
        axis.set_ylim(0, 1.02)
    _outer_labels(axes, 2, "Training step", "Mean reward")
    return figure


def training_health(run: Run) -> Figure:
    """Six signs of a sound run: lengths, cut completions, groups without difference, gradient, rate, entropy."""
    figure, axes = panels_for(len(_HEALTH), 3, row_height=2.6, sharex=True)
    for axis, (key, title, note) in zip(axes, _HEALTH, strict=True):
        series = run.series(key)
        axis.plot(series.index, series, ".", color=MUTED, ms=2.5)
        smooth = series if key == "train/learning_rate" else _moving(series, run)
        axis.plot(smooth.index, smooth, color=ALL_TASKS_COLOR)
        axis.set_title(title)
        note(axis, run)
    _outer_labels(axes, 3, "Training step", "")
    return figure


def coverage_bars(run: Run) -> Figure:
    """Of each task: records there are, prompts planned and prompts shown; beyond the records prompts repeat."""
    table = analysis.coverage(run)
    figure, axis = panel(3.2)
    for position, task in enumerate(TASKS):
        records, expected, seen = (table.loc[task, column] for column in ("records", "expected", "seen"))
        axis.barh(-position, records, height=0.7, color="#EEEEEE", edgecolor=MUTED)
        axis.barh(-position, seen, height=0.4, color=_color(task))
        axis.plot([expected, expected], [-position - 0.35, -position + 0.35], color=ALL_TASKS_COLOR, lw=2)
        axis.text(max(records, seen), -position, f"  {seen:.0f} shown, {seen / records:.0%}", va="center", fontsize=9)
    axis.set_yticks([-i for i in range(len(TASKS))], [_label(task) for task in TASKS])
    axis.set_xlabel("Prompts")
    axis.margins(x=0.22)
    axis.grid(axis="y", visible=False)
    keys = [
        Patch(facecolor="#EEEEEE", edgecolor=MUTED, label="records in the train split"),
        Patch(facecolor=MUTED, label="prompts shown"),
        Patch(facecolor=ALL_TASKS_COLOR, label="prompts planned"),
    ]
    axis.legend(handles=keys, loc="upper center", bbox_to_anchor=(0.5, 1.18), ncols=3)
    return figure


def repairs_over_time(run: Run) -> Figure:
    """Share of extraction answers in which the parser had to mend something, by kind of repair and step."""
    table = analysis.repairs_by_step(run)
    figure, axis = panel(3.2)
    for index, repair in enumerate(table):
        color, marker = SERIES_COLORS[index % len(SERIES_COLORS)], _MARKERS[index % len(_MARKERS)]
        line = _LINES[index // len(SERIES_COLORS) % len(_LINES)]
        axis.plot(table.index, table[repair], line + marker, label=_words(str(repair)), color=color)
    if table.empty or not len(table.columns):
        axis.text(0.5, 0.5, "no answer needed a repair", transform=axis.transAxes, ha="center", color=MUTED)
    else:
        axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    axis.set_ylim(0, max(0.05, float(np.nanmax(table.to_numpy())) * 1.1 if table.size else 1))
    axis.yaxis.set_major_formatter(_percent)
    axis.set_xlabel("Training step")
    axis.set_ylabel("Share of extraction answers")
    return figure


def reward_distributions(run: Run, mode: str = "sample") -> Figure:
    """How the rewards of a task's prompts are spread at the start (outline) and at the end (filled)."""
    split = analysis.comparison_split(run, mode)
    steps = evaluated_steps(run, split, mode) if split else []
    figure, axes = panels_for(len(TASKS), 2, row_height=2.6, sharex=True)
    for axis, task in zip(axes, TASKS, strict=True):
        for step, filled in zip((steps[0], steps[-1]) if steps else (), (False, True), strict=False):
            rewards = list(analysis.prompt_rewards(run, step, split or "", mode).get(task, {}).values())
            look: dict[str, Any] = _FILLED if filled else _OUTLINE
            axis.hist(
                rewards, bins=_BINS, color=_color(task) if filled else ALL_TASKS_COLOR, label=f"step {step}", **look
            )
        axis.set_title(_label(task))
        axis.yaxis.get_major_locator().set_params(integer=True)
        if steps:
            axis.set_ylim(0, axis.get_ylim()[1] * 1.3)
            axis.legend(loc="upper center", ncols=2)
    _outer_labels(axes, 2, "Reward of a prompt", "Prompts")
    return figure


def parser_effects(effects: Effects) -> Figure:
    """Extraction reward of the same completions under three parsers, at the start and the end of a run."""
    figure, axis = panel(2.6)
    for position, (start, end) in enumerate(effects.means.values()):
        _interval_mark(axis, start, -position + 0.12, _color(JSON_TASK), filled=False)
        _interval_mark(axis, end, -position - 0.12, _color(JSON_TASK), filled=True)
    axis.plot([], [], "o", color=_color(JSON_TASK), mfc="white", label="base policy's answers")
    axis.plot([], [], "o", color=_color(JSON_TASK), label="answers at the end")
    axis.set_yticks([-i for i in range(len(effects.means))], [_PARSERS.get(name, name) for name in effects.means])
    axis.set_xlim(0, 1.02)
    axis.set_ylim(0.5 - len(effects.means), 0.5)
    axis.set_xlabel("Mean extraction reward (form, v4.1)")
    axis.grid(axis="y", visible=False)
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, 1.22), ncols=2)
    return figure


def stop_table_history(run: Run, extraction_baseline: float = stop_rules.EXTRACTION_BASELINE) -> Figure:
    """The state of every stop rule at each evaluation, judged by what was logged by then."""
    settings = analysis.rule_settings(run) | {"extraction_baseline": extraction_baseline}
    found = stop_rules.rule_history(analysis.watched_history(run), run.max_steps, **settings)
    figure, axis = panel(4.2)
    if found:
        _draw_states(axis, found)
    labels = [rule.label for rule in stop_rules.RULES]
    axis.set_yticks([row + 0.5 for row in range(len(labels))], labels)
    axis.invert_yaxis()
    axis.set_xlabel("Training step")
    axis.grid(visible=False)
    names = [f"{name} {_STATE_MARKS.get(name, '')}".strip() for name in _STATES]
    keys = [Patch(facecolor=c, edgecolor=MUTED, label=n) for c, n in zip(_STATE_COLORS, names, strict=True)]
    axis.legend(handles=keys, loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=5)
    return figure


def _draw_states(axis: Axes, found: Sequence[tuple[int, list[stop_rules.RuleStatus]]]) -> None:
    states = np.array([[_STATES.index(status.state) for status in statuses] for _, statuses in found]).T
    edge = 1.5 if len(found) <= _MANY else 0.3
    axis.pcolormesh(states, cmap=ListedColormap(_STATE_COLORS), vmin=-0.5, vmax=4.5, edgecolors="white", lw=edge)
    for (row, column), state in np.ndenumerate(states):
        mark = _STATE_MARKS.get(_STATES[state], "")
        axis.text(column + 0.5, row + 0.5, mark, ha="center", va="center", fontsize=9)
    shown = range(0, len(found), max(1, len(found) // 12))
    axis.set_xticks([column + 0.5 for column in shown], [str(found[column][0]) for column in shown])


def before_after_table(run: Run, task: str, n: int = 10, mode: str = "sample") -> str:
    """HTML table: `n` completions of a task at the start and the end, from the largest loss to the largest gain."""
    rows = analysis.before_after(run, task, n, mode)
    body = "".join(
        f"<tr><td>{html.escape(row.record_id)}</td><td>{_answer(row.before)}</td><td>{row.reward_before:.2f}</td>"
        f"<td>{_answer(row.after)}</td><td>{row.reward_after:.2f}</td></tr>"
        for row in rows.itertuples()
    )
    head = "<th>Record</th><th>At the start</th><th>Reward</th><th>At the end</th><th>Reward</th>"
    return (
        f'<table class="before-after" style="{_TABLE}"><caption style="text-align:left;font-weight:bold">'
        f"{_label(task)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


_TABLE = "table-layout:auto;width:100%;text-align:left;vertical-align:top;border-collapse:collapse"
_MANY = 30
_BINS = [position / 20 for position in range(21)]
_FILLED = {"alpha": 0.5}
_OUTLINE = {"histtype": "step", "linewidth": 1.6}
_MODES = {"sample": "sampled at temperature 1", "greedy": "greedy"}
_PARSERS = {"regex": "V4's regular expression", "handoff": "the handoff's fix", "tolerant": "ours"}


def _answer(text: str) -> str:
    shown = text if len(text) <= 600 else text[:600] + " …"
    return f'<div style="white-space:pre-wrap;text-align:left;max-width:26em">{html.escape(shown)}</div>'


def _band(axis: Axes, curve: pd.DataFrame, color: str, index: int) -> None:
    marker = _MARKERS[index % len(_MARKERS)] if len(curve) <= _MANY else ""
    axis.plot(
        curve.index,
        curve["mean"],
        _LINES[index % len(_LINES)] + marker,
        color=color,
        mfc=color if index == 0 else "white",
    )
    axis.fill_between(curve.index, curve["low"], curve["high"], color=color, alpha=0.18 if index == 0 else 0.10, lw=0)


def _run_legend(axis: Axes, runs: Sequence[Run]) -> None:
    axis.axis("off")
    for index, run in enumerate(runs):
        style = _LINES[index % len(_LINES)] + _MARKERS[index % len(_MARKERS)]
        axis.plot([], [], style, color=ALL_TASKS_COLOR, mfc=ALL_TASKS_COLOR if index == 0 else "white", label=run.name)
    axis.legend(loc="center", title="Run (band: 95 % interval)")


def _interval_mark(axis: Axes, interval: Any, y: float, color: str, filled: bool) -> None:
    axis.plot([interval.low, interval.high], [y, y], color=color, lw=2)
    axis.plot([interval.mean], [y], "o", color=color, mfc=color if filled else "white", ms=7)


def _moving(series: pd.Series, run: Run) -> pd.Series:
    return series.rolling(_window(run), min_periods=1, center=True).mean()


def _window(run: Run) -> int:
    return max(5, run.max_steps // 20)


def _window_label(run: Run) -> str:
    return f"mean of {_window(run)} steps"


def _limit_line(axis: Axes, run: Run) -> None:
    limit = run.config.get("recipe", {}).get("max_completion_length")
    if limit:
        axis.axhline(limit, color=SERIES_COLORS[3], ls="--", lw=1.2)
        _beside_line(axis, limit, f"limit {limit}")
        axis.set_ylim(0, limit * 1.12)


def _beside_line(axis: Axes, y: float, told: str) -> None:
    axis.text(0.02, y, told, transform=axis.get_yaxis_transform(), va="bottom", color=SERIES_COLORS[3], fontsize=9)


def _threshold(value: float, told: str) -> Callable[[Axes, Run], None]:
    def draw(axis: Axes, run: Run) -> None:
        """Draw the threshold with its words, and make room for it."""
        axis.axhline(value, color=SERIES_COLORS[3], ls="--", lw=1.2)
        _beside_line(axis, value, told)
        axis.set_ylim(0, max(axis.get_ylim()[1], value * 1.15))

    return draw


def _from_zero(axis: Axes, run: Run) -> None:
    axis.set_ylim(bottom=0)


_HEALTH: tuple[tuple[str, str, Callable[[Axes, Run], None]], ...] = (
    ("train/completion_length", "Completion length (tokens)", _limit_line),
    ("train/clipped_ratio", "Share cut at the limit", _threshold(0.5, "stop above")),
    ("train/frac_reward_zero_std", "Groups with equal rewards", _threshold(0.5, "stop above, if sustained")),
    ("train/grad_norm", "Gradient norm", _threshold(2.0, "stop above")),
    ("train/learning_rate", "Learning rate applied", _from_zero),
    ("train/entropy", "Entropy (nats a token)", _from_zero),
)


def _percent(value: float, _: Any) -> str:
    return f"{value:.0%}"


def _outer_labels(axes: Sequence[Axes], columns: int, x: str, y: str) -> None:
    """Label the lowest axes of each column and the first of each row."""
    for axis in axes[-columns:]:
        axis.set_xlabel(x)
        axis.tick_params(labelbottom=True)  # shared axes hide it where a blank follows below
    for axis in axes[::columns]:
        axis.set_ylabel(y)


def _reversed_legend(axis: Axes) -> None:
    """Legend entries in the order in which the layers are seen, top first, beside the axes: no layer lies under it."""
    handles, labels = axis.get_legend_handles_labels()
    axis.legend(handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)


def _tints(task: str, count: int) -> list[tuple[float, ...]]:
    """`count` shades of the task's colour, dark to light."""
    base = np.array([int(TASK_COLORS[task][i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return [tuple(base + (1 - base) * share) for share in np.linspace(0.0, 0.75, count)]


def _color(task: str) -> str:
    return TASK_COLORS.get(task, ALL_TASKS_COLOR)


def _label(task: str) -> str:
    return TASK_LABELS.get(task, "All tasks")


def _words(name: str) -> str:
    return name.replace("_", " ")
