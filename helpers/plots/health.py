"""How a run trained: signs of health by step, what it saw of each task, the parser's repairs, the stop rules."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from helpers.plots.curves import moving_mean
from helpers.plots.style import (
    ALL_TASKS_COLOR,
    LINES,
    MANY_POINTS,
    MARKERS,
    MUTED,
    SERIES_COLORS,
    grid,
    label_outer,
    name_rows,
    panel,
    task_color,
    task_label,
)
from helpers.runs import analysis, stop_rules
from helpers.runs.decision import Reference
from helpers.runs.load import Run
from helpers.tasks import TASKS

_STATES = {"no data": "#FFFFFF", "ignored": "#DDDDDD", "ok": "#56B4E9", "watch": "#F0E442", "triggered": "#D55E00"}
_STATE_MARKS = {"watch": "?", "triggered": "!"}


def training_health(run: Run) -> Figure:
    """Signs of a sound run: lengths, cut completions, groups without difference, gradient, rate, entropy; where they
    are recorded, clipped updates and how far vLLM's log-probabilities are from the trainer's."""
    limit = run.config.get("recipe", {}).get("max_completion_length")
    signs: tuple[tuple[str, str, float | None, str], ...] = (
        ("train/completion_length", "Completion length (tokens)", limit, f"limit {limit}"),
        ("train/clipped_ratio", "Share cut at the limit", 0.5, "stop above"),
        ("train/frac_reward_zero_std", "Groups with equal rewards", 0.5, "stop above, if sustained"),
        ("train/grad_norm", "Gradient norm", 2.0, "stop above"),
        ("train/learning_rate", "Learning rate applied", None, ""),
        ("train/entropy", "Entropy (nats per token)", None, ""),
        ("train/clip_ratio", "Share of tokens with a clipped update", None, ""),
        ("train/logp_difference", "Log-probs, engine against trainer", None, ""),
        ("train/importance_ratio", "Importance ratio, mean", None, ""),
    )
    signs = tuple(sign for place, sign in enumerate(signs) if place < 6 or run.series(sign[0]).any())
    figure, axes = grid(len(signs), columns=3, row_height=2.6, sharex=True)
    for axis, (key, title, threshold, label) in zip(axes, signs, strict=True):
        series = run.series(key)
        axis.plot(series.index, series, ".", color=MUTED, ms=2.5)
        smooth = series if key == "train/learning_rate" else moving_mean(series, run)
        axis.plot(smooth.index, smooth, color=ALL_TASKS_COLOR)
        axis.set_title(title)
        axis.set_ylim(0, axis.get_ylim()[1] if series.any() else 1)
        axis.ticklabel_format(axis="y", scilimits=(-2, 4))
        if threshold:
            _draw_threshold(axis, threshold, label)
    label_outer(axes, 3, "Training step")
    return figure


def _draw_threshold(axis: Axes, threshold: float, label: str) -> None:
    """A dashed line at `threshold`, or its label alone where it lies so far up that the curve would look flat."""
    red, top = SERIES_COLORS[3], axis.get_ylim()[1]
    if threshold > 10 * top:
        axis.set_ylim(0, 1.2 * top)
        axis.text(0.02, 0.9, f"{label} {threshold:g}", transform=axis.transAxes, color=red, fontsize=9)
        return
    axis.axhline(threshold, color=red, ls="--", lw=1.2)
    axis.text(0.02, threshold, label, transform=axis.get_yaxis_transform(), va="bottom", color=red, fontsize=9)
    axis.set_ylim(0, max(top, threshold * 1.15))


def coverage_bars(run: Run) -> Figure:
    """Of each task that the run is shown: records there are, prompts planned and prompts shown; beyond the records
    prompts repeat."""
    table = analysis.coverage(run)
    tasks = [task for task in TASKS if table.loc[task, "records"] != 0]
    figure, axis = panel(1.2 + 0.5 * len(tasks))
    for position, task in enumerate(tasks):
        records, expected, seen = (table.loc[task, column] for column in ("records", "expected", "seen"))
        axis.barh(-position, records, height=0.7, color="#EEEEEE", edgecolor=MUTED)
        axis.barh(-position, seen, height=0.4, color=task_color(task))
        axis.plot([expected, expected], [-position - 0.35, -position + 0.35], color=ALL_TASKS_COLOR, lw=2)
        axis.text(max(records, seen), -position, f"  {seen:.0f} shown, {seen / records:.0%}", va="center", fontsize=9)
    name_rows(axis, [task_label(task) for task in tasks])
    axis.set_xlabel("Prompts")
    axis.margins(x=0.22)
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
        color, marker = SERIES_COLORS[index % len(SERIES_COLORS)], MARKERS[index % len(MARKERS)]
        line = LINES[index // len(SERIES_COLORS) % len(LINES)]
        axis.plot(table.index, table[repair], line + marker, label=str(repair).replace("_", " "), color=color)
    if table.size:
        axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        axis.set_ylim(0, max(0.05, float(np.nanmax(table.to_numpy())) * 1.1))
    else:
        axis.text(0.5, 0.5, "no answer needed a repair", transform=axis.transAxes, ha="center", color=MUTED)
        axis.set_ylim(0, 1)
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axis.set(xlabel="Training step", ylabel="Share of extraction answers")
    return figure


def stop_panel(run: Run, reference: Reference | None = None) -> list[dict[str, str]]:
    """The stop table as it stands, one row per rule, against the extraction baseline of `reference`."""
    settings = _settings(run, reference)
    return stop_rules.status_panel(stop_rules.evaluate_rules(run.history, run.max_steps, **settings))


def stop_table_history(run: Run, reference: Reference | None = None) -> Figure:
    """The state of every stop rule at each evaluation, judged by what was logged by then."""
    history = stop_rules.rule_history(run.history, run.max_steps, **_settings(run, reference))
    labels = [rule.label for rule in stop_rules.RULES]
    figure, axis = panel(0.9 + 0.3 * len(labels))
    if history:
        _draw_states(axis, history)
    axis.set_yticks([row + 0.5 for row in range(len(labels))], labels)
    axis.invert_yaxis()
    axis.set_xlabel("Training step")
    axis.grid(visible=False)
    keys = [
        Patch(facecolor=color, edgecolor=MUTED, label=f"{state} {_STATE_MARKS.get(state, '')}".strip())
        for state, color in _STATES.items()
    ]
    axis.legend(handles=keys, loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=5)
    return figure


def _settings(run: Run, reference: Reference | None) -> dict[str, Any]:
    """The run's own settings of the rules; `reference`, where there is one, has measured extraction on more prompts."""
    settings = analysis.rule_settings(run)
    return settings | {"extraction_baseline": reference.baseline} if reference else settings


def _draw_states(axis: Axes, history: list[tuple[int, list[stop_rules.RuleStatus]]]) -> None:
    """One column per evaluation, one row per rule."""
    names = list(_STATES)
    states = np.array([[names.index(status.state) for status in statuses] for _, statuses in history]).T
    edge = 1.5 if len(history) <= MANY_POINTS else 0.3
    colors = ListedColormap(list(_STATES.values()))
    axis.pcolormesh(states, cmap=colors, vmin=-0.5, vmax=len(names) - 0.5, edgecolors="white", lw=edge)
    for (row, column), state in np.ndenumerate(states):
        axis.text(column + 0.5, row + 0.5, _STATE_MARKS.get(names[state], ""), ha="center", va="center", fontsize=9)
    ticks = range(0, len(history), max(1, len(history) // 12))
    axis.set_xticks([column + 0.5 for column in ticks], [str(history[column][0]) for column in ticks])
