"""Figures of the parser audit: what each parser makes of each family of quirks."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from helpers.parsing.audit import by_family
from helpers.plots.style import MUTED, SERIES_COLORS, panel

_BAD = ("wrong", "false accept")


def family_map(results: pd.DataFrame) -> Figure:
    """Families down, parsers across; the colour is the share of right answers, a number the invented ones in percent.

    `results` is `parser_audit.audit`'s table. A cell with a number is worse than a dark one: there the parser returned
    an object that is not what the text says.
    """
    right, invented = by_family(results), by_family(results, _BAD)
    figure, axes = panel(1.0 + 0.2 * len(right))
    image = axes.imshow(right.to_numpy(), cmap="cividis", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(right.columns)), list(right.columns))
    axes.set_yticks(range(len(right)), [name.replace("_", " ") for name in right.index], fontsize=8)
    axes.grid(visible=False)
    for row, column in zip(*np.nonzero(invented.to_numpy()), strict=True):
        shade = "black" if right.iat[row, column] > 0.6 else "white"
        axes.text(column, row, f"{invented.iat[row, column]:.0%}", ha="center", va="center", color=shade, fontsize=7)
    axes.set_title("Share of each family read right (numbers: share read wrong or invented)")
    figure.colorbar(image, ax=axes, label="read right", fraction=0.03)
    return figure


def outcome_bars(results: pd.DataFrame) -> Figure:
    """One bar a parser: right, missed, wrong or invented, exception or timeout, as shares of the cases."""
    groups = {
        "right": (("right", "parsed"), SERIES_COLORS[2]),
        "missed": (("missed", "not parsed"), MUTED),
        "wrong or invented": (_BAD, SERIES_COLORS[3]),
        "exception or timeout": (("exception", "timeout"), SERIES_COLORS[7]),
    }
    parsers = list(dict.fromkeys(results["parser"]))[::-1]
    figure, axes = panel(0.9 + 0.35 * len(parsers))
    left = np.zeros(len(parsers))
    for label, (outcomes, color) in groups.items():
        chosen = results.assign(hit=results["outcome"].isin(outcomes)).groupby("parser")["hit"].mean()
        share = chosen.reindex(parsers).to_numpy()
        axes.barh(parsers, share, left=left, color=color, label=label)
        left += share
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of cases")
    axes.legend(ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure
