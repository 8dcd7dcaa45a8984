"""One look for every figure: a colour and a name for each task, sizes that read well at notebook width.

Colours are the Okabe-Ito palette (jfly.uni-koeln.de/color), which colour-blind readers can tell apart.
"""

import math
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from helpers.core.files import replacing
from helpers.runs.analysis import ALL
from helpers.tasks import ROWS

TASK_COLORS: dict[str, str] = {row.name: row.colour for row in ROWS}
TASK_LABELS: dict[str, str] = {row.name: row.label for row in ROWS}
ALL_TASKS_COLOR = "#333333"
MUTED = "#9A9A9A"
SERIES_COLORS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#F0E442", "#000000")
"""For what is not a task: reward parts, parser repairs, runs. Tell series apart by hatch or marker too."""

LINES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D")
MANY_POINTS = 30
"""Past this many points, markers and cell borders are left out."""
WIDTH = 9.0
"""Figure width in inches; at 90 dots per inch it fills a notebook cell."""
_DEFAULTS: dict[Any, Any] = {
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


def task_color(task: str) -> str:
    """The colour of a task, or of all tasks together (`ALL`)."""
    return ALL_TASKS_COLOR if task == ALL else TASK_COLORS[task]


def task_label(task: str) -> str:
    """The name of a task as figures and tables show it."""
    return "All tasks" if task == ALL else TASK_LABELS[task]


class NotebookFigure(Figure):
    """A figure that a notebook shows as a PNG of at most 256 colours: a third of the size, to the eye the same."""

    def _repr_png_(self) -> bytes:
        # A median cut would give a legend's small patch the colour of another task; maximum coverage does not.
        small = BytesIO()
        reduced = Image.open(BytesIO(png(self))).convert("RGB").quantize(256, method=Image.Quantize.MAXCOVERAGE)
        reduced.save(small, format="png", optimize=True)
        return small.getvalue()


def panels(rows: int, columns: int, height: float, width: float = WIDTH, **sharing: Any) -> tuple[Figure, np.ndarray]:
    """A styled grid of axes, sizes in inches, outside pyplot's state: never shown twice or kept in memory."""
    mpl.rcParams.update(_DEFAULTS)
    figure = NotebookFigure(figsize=(width, height))
    return figure, figure.subplots(rows, columns, squeeze=False, **sharing)


def panel(height: float, width: float = WIDTH) -> tuple[Figure, Axes]:
    """`panels` for a figure of one."""
    figure, axes = panels(1, 1, height, width)
    return figure, axes[0, 0]


def grid(count: int, columns: int, row_height: float, **sharing: Any) -> tuple[Figure, list[Axes]]:
    """`count` styled axes, `columns` per row; cells left over in the last row stay blank."""
    rows = math.ceil(count / columns)
    figure, axes = panels(rows, columns, rows * row_height, **sharing)
    cells = list(axes.flat)
    for cell in cells[count:]:
        cell.axis("off")
    return figure, cells[:count]


def name_rows(axis: Axes, labels: Sequence[str]) -> None:
    """Name the rows of a bar chart, the first at y = 0 and each one below the last at 1 less."""
    axis.set_yticks([-row for row in range(len(labels))], labels)
    axis.grid(axis="y", visible=False)


def label_outer(axes: Sequence[Axes], columns: int, x: str, y: str = "") -> None:
    """Label x under the lowest axes of each column of a `grid`, y beside the first axes of each row."""
    for position, axis in enumerate(axes):
        if position % columns == 0:
            axis.set_ylabel(y)
        if position + columns >= len(axes):
            axis.set_xlabel(x)
            axis.tick_params(labelbottom=True)


def png(figure: Figure) -> bytes:
    """The figure as a PNG in full colour."""
    drawn = BytesIO()
    figure.savefig(drawn, format="png")
    return drawn.getvalue()


def save_png(figure: Figure, path: Path) -> None:
    """Write the figure to `path` in one step: the old file stays until the new one is whole."""
    with replacing(path) as temporary:
        temporary.write_bytes(png(figure))
