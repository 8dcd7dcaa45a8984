"""One look for every figure: a colour and a name for each task, sizes that read well at notebook width.

Colours are the Okabe-Ito palette (jfly.uni-koeln.de/color), which colour-blind readers can tell apart.
"""

from io import BytesIO
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from helpers.tasks import ROWS

TASK_COLORS: dict[str, str] = {row.name: row.colour for row in ROWS}
TASK_LABELS: dict[str, str] = {row.name: row.label for row in ROWS}
ALL_TASKS_COLOR = "#333333"
MUTED = "#9A9A9A"
SERIES_COLORS: tuple[str, ...] = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#56B4E9",
    "#CC79A7",
    "#F0E442",
    "#000000",
)
"""For what is not a task: reward parts, parser repairs, runs. Tell series apart by hatch or marker too."""

WIDTH = 9.0
"""Figure width in inches; at 90 dots an inch it fills a notebook cell."""


def apply_style() -> None:
    """Set matplotlib's defaults for this project; every plotting function calls it, so figures need no set-up."""
    mpl.rcParams.update(
        {
            "figure.dpi": 90,
            "savefig.dpi": 90,
            "figure.figsize": (WIDTH, 3.6),
            "figure.constrained_layout.use": True,
            "font.size": 10,
            "axes.titlesize": 11,
            "axes.titlelocation": "left",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": "#E6E6E6",
            "grid.linewidth": 0.8,
            "lines.linewidth": 1.8,
            "lines.markersize": 4,
            "legend.frameon": False,
            "legend.fontsize": 9,
        }
    )


class Picture(Figure):
    """A figure that a notebook shows as a PNG of at most 256 colours: a third of the size, to the eye the same.

    The colours are chosen to cover all there are; a median cut gives a legend's small patch the colour of another task.
    Committed notebooks hold a dozen of them; no pyplot and no inline backend is needed.
    """

    def _repr_png_(self) -> bytes:
        drawn, small = BytesIO(), BytesIO()
        self.savefig(drawn, format="png")
        reduced = Image.open(drawn).convert("RGB").quantize(256, method=Image.Quantize.MAXCOVERAGE)
        reduced.save(small, format="png", optimize=True)
        return small.getvalue()


def panels(rows: int, columns: int, height: float, width: float = WIDTH, **sharing: Any) -> tuple[Figure, np.ndarray]:
    """A styled grid of axes, sizes in inches, outside pyplot's state: never shown twice or kept in memory."""
    apply_style()
    figure = Picture(figsize=(width, height))
    return figure, figure.subplots(rows, columns, squeeze=False, **sharing)


def panels_for(count: int, columns: int, row_height: float, **sharing: Any) -> tuple[Figure, list[Any]]:
    """`count` axes, row by row in a grid of `columns`; what the grid has beyond them is left blank."""
    rows = -(-count // columns)
    figure, axes = panels(rows, columns, row_height * rows, **sharing)
    for spare in axes.flat[count:]:
        spare.axis("off")
    return figure, list(axes.flat[:count])


def panel(height: float, width: float = WIDTH) -> tuple[Figure, Axes]:
    """`panels` for a figure of one."""
    figure, axes = panels(1, 1, height, width)
    return figure, axes[0, 0]
