"""Figures of the two audits: what parsers make of each family of quirks, what rewards pay for each kind of probe."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from helpers.parsing.audit import by_family
from helpers.plots.style import MUTED, SERIES_COLORS, TASK_LABELS, WIDTH, panel
from helpers.rewards.probes.base import KINDS
from helpers.tasks import TASKS

_BAD = ("wrong", "false accept")
_OUTCOMES = {
    "right": (("right", "parsed"), SERIES_COLORS[2]),
    "missed": (("missed", "not parsed"), MUTED),
    "wrong or invented": (_BAD, SERIES_COLORS[3]),
    "exception or timeout": (("exception", "timeout"), SERIES_COLORS[7]),
}


def family_map(results: pd.DataFrame) -> Figure:
    """Families down, parsers across; the colour is the share of right answers, a number the invented ones in percent.

    `results` is `helpers.parsing.audit.audit`'s table. A cell with a number is worse than a dark one: there the parser
    returned an object that is not what the text says.
    """
    right, invented = by_family(results), by_family(results, _BAD)
    figure, axes = panel(1.0 + 0.2 * len(right))
    image = _heat_map(axes, right, [name.replace("_", " ") for name in right.index])
    axes.tick_params(axis="y", labelsize=8)
    for row, column in zip(*np.nonzero(invented.to_numpy()), strict=True):
        _write(axes, row, column, f"{invented.iat[row, column]:.0%}", right.iat[row, column], size=7)
    axes.set_title("Share of each family read right (numbers: share read wrong or invented)")
    figure.colorbar(image, ax=axes, label="read right", fraction=0.03)
    return figure


def outcome_bars(results: pd.DataFrame) -> Figure:
    """One bar per parser: right, missed, wrong or invented, exception or timeout, as shares of the cases."""
    parsers = list(dict.fromkeys(results["parser"]))[::-1]
    figure, axes = panel(0.9 + 0.35 * len(parsers))
    left = np.zeros(len(parsers))
    for label, (outcomes, color) in _OUTCOMES.items():
        hits = results.assign(hit=results["outcome"].isin(outcomes)).groupby("parser")["hit"].mean()
        share = hits.reindex(parsers).to_numpy()
        axes.barh(parsers, share, left=left, color=color, label=label)
        left += share
    axes.set(xlim=(0, 1), xlabel="share of cases")
    axes.legend(ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


def probe_heat_map(scores: pd.DataFrame, task: str) -> Figure:
    """One row per probe of `task`, one column per version, the mean total in each cell.

    `scores` is `helpers.rewards.audit.audit`'s table. A cell framed in orange holds totals outside of their bound.
    """
    chosen = scores[scores["task"] == task]
    probes = chosen.drop_duplicates(["kind", "probe"])
    probes = probes.sort_values("kind", key=lambda kinds: kinds.map(KINDS.index), kind="stable")
    index = pd.MultiIndex.from_frame(probes[["kind", "probe"]])
    grouped = chosen.groupby(["kind", "probe", "version"], sort=False)
    means, kept = grouped["total"].mean().unstack().loc[index], grouped["ok"].min().unstack().loc[index]
    figure, axes = panel(1.2 + 0.21 * len(means), WIDTH * 0.75)
    _draw_totals(figure, axes, means, kept, [f"{kind.replace('_', ' ')} · {probe}" for kind, probe in means.index])
    figure.suptitle(f"{TASK_LABELS[task]}: probes on {chosen['record_id'].nunique()} records", fontsize=11)
    return figure


def kind_heat_map(scores: pd.DataFrame) -> Figure:
    """One row per kind of probe, one column per task and version: the mean total; framed where a bound is broken."""
    both = scores.assign(column=scores["task"] + "\n" + scores["version"])
    index = pd.Index([kind for kind in KINDS if kind in set(both["kind"])], name="kind")
    columns = sorted(both["column"].unique(), key=lambda column: (TASKS.index(column.split("\n")[0]), column))
    grouped = both.groupby(["kind", "column"])
    means, kept = (
        grouped[name].agg(how).unstack().loc[index, columns] for name, how in (("total", "mean"), ("ok", "min"))
    )
    figure, axes = panel(1.4 + 0.42 * len(means))
    _draw_totals(figure, axes, means, kept, [kind.replace("_", " ") for kind in means.index])
    axes.tick_params(axis="x", labelsize=8)
    axes.set_title("Mean total by kind of probe")
    return figure


def _draw_totals(figure: Figure, axes: Axes, means: pd.DataFrame, kept: pd.DataFrame, labels: Sequence[str]) -> None:
    """Draw the grid, write each mean into its cell, frame the cells whose bound is broken."""
    image = _heat_map(axes, means, labels)
    for (row, column), mean in np.ndenumerate(means.to_numpy()):
        _write(axes, row, column, f"{mean:.2f}", mean, size=8)
        if not kept.iat[row, column]:
            frame = Rectangle((column - 0.49, row - 0.47), 0.98, 0.94, fill=False, edgecolor="#D55E00", linewidth=2)
            axes.add_patch(frame)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("framed: a probe's total is outside of what v4.2 owes to its kind")
    figure.colorbar(image, ax=axes, shrink=0.8, label="mean total")


def _heat_map(axes: Axes, shares: pd.DataFrame, labels: Sequence[str]) -> AxesImage:
    image = axes.imshow(shares.to_numpy(), cmap="cividis", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(shares.shape[1]), list(shares.columns))
    axes.set_yticks(range(len(shares)), labels)
    axes.grid(visible=False)
    return image


def _write(axes: Axes, row: int, column: int, text: str, share: float, size: int) -> None:
    """Write into the cell of `share`, in black where its colour is light."""
    color = "black" if share > 0.55 else "white"
    axes.text(column, row, text, ha="center", va="center", fontsize=size, color=color)
