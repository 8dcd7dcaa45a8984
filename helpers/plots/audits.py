"""Figures of the reward audit: what each probe, and each kind of probe, scores under each version."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from helpers.plots.style import TASK_LABELS, WIDTH, panel
from helpers.rewards.probes.base import KINDS
from helpers.tasks import TASKS

_COLORMAP = "cividis"
_DARK = 0.55
_ROW_INCHES = 0.21
_BAD = "#D55E00"


def probe_heat_map(scores: pd.DataFrame, task: str) -> Figure:
    """One row a probe of `task`, one column a version, the mean total in each cell.

    `scores` is `helpers.rewards.audit.audit`'s table. A cell framed in orange holds totals outside of their bound.
    """
    chosen = scores[scores["task"] == task]
    names = chosen.drop_duplicates(["kind", "probe"]).sort_values("kind", key=_rank, kind="stable")
    index = pd.MultiIndex.from_frame(names[["kind", "probe"]])
    means, broken = (_grid(chosen, column, how, index) for column, how in (("total", "mean"), ("ok", "min")))
    figure, axes = panel(1.2 + _ROW_INCHES * len(means), WIDTH * 0.75)
    image = _cells(axes, means, broken)
    axes.set_yticks(range(len(means)), [f"{kind.replace('_', ' ')} · {probe}" for kind, probe in means.index])
    figure.suptitle(f"{TASK_LABELS[task]}: probes on {chosen['record_id'].nunique()} records", fontsize=11)
    _bar(figure, axes, image)
    return figure


def kind_heat_map(scores: pd.DataFrame) -> Figure:
    """One row a kind of probe, one column a task and version: the mean total; framed where a probe breaks its bound."""
    both = scores.assign(column=scores["task"] + "\n" + scores["version"])
    index = pd.Index([kind for kind in KINDS if kind in set(both["kind"])], name="kind")
    columns = sorted(both["column"].unique(), key=lambda column: (TASKS.index(column.split("\n")[0]), column))
    grouped = both.groupby(["kind", "column"])
    means = grouped["total"].mean().unstack().loc[index, columns]
    broken = grouped["ok"].min().unstack().loc[index, columns]
    figure, axes = panel(1.4 + 0.42 * len(means))
    image = _cells(axes, means, broken)
    axes.set_yticks(range(len(means)), [kind.replace("_", " ") for kind in means.index])
    axes.tick_params(axis="x", labelsize=8)
    axes.set_title("Mean total by kind of probe")
    _bar(figure, axes, image)
    return figure


def _rank(kinds: pd.Series) -> pd.Series:
    return kinds.map(KINDS.index)


def _grid(scores: pd.DataFrame, column: str, how: str, index: pd.MultiIndex) -> pd.DataFrame:
    return scores.groupby(["kind", "probe", "version"], sort=False)[column].agg(how).unstack().loc[index]


def _cells(axes: Axes, means: pd.DataFrame, kept: pd.DataFrame) -> AxesImage:
    """Draw the grid, write each mean into its cell, frame the cells whose bound is broken."""
    image = axes.imshow(means.to_numpy(), cmap=_COLORMAP, vmin=0, vmax=1, aspect="auto")
    for (row, column), mean in np.ndenumerate(means.to_numpy()):
        axes.text(column, row, f"{mean:.2f}", ha="center", va="center", fontsize=8, color=_ink(mean))
        if not kept.iat[row, column]:
            frame = Rectangle((column - 0.49, row - 0.47), 0.98, 0.94, fill=False, edgecolor=_BAD, linewidth=2)
            axes.add_patch(frame)
    axes.set_xticks(range(means.shape[1]), means.columns)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    return image


def _ink(mean: float) -> str:
    return "black" if mean > _DARK else "white"


def _bar(figure: Figure, axes: Axes, image: AxesImage) -> None:
    figure.colorbar(image, ax=axes, shrink=0.8, label="mean total")
    axes.set_xlabel("framed: a probe's total is outside of what v4.2 owes to its kind")
