"""Figures of the step report: where the seconds of a training step go."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from helpers.plots.style import MUTED, SERIES_COLORS, panel
from helpers.runs import speed
from helpers.runs.load import Run
from helpers.runs.record import PHASES

_HATCHES = ("", "//", "", "\\\\", "", "..", "xx", "")
_COLORS = dict(zip(PHASES, (*SERIES_COLORS[: len(PHASES) - 1], MUTED), strict=True))


def phase_bars(runs: Sequence[Run]) -> Figure:
    """Mean seconds per step by phase, stacked, one bar per run; a run without step reports is named and left empty."""
    figure, axis = panel(1.5 + 0.55 * len(runs))
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.5}
    longest = max((speed.phase_seconds(run).mean().sum() for run in runs), default=0.0)
    for row, run in enumerate(runs):
        means = speed.phase_seconds(run).mean()
        left = 0.0
        for phase, hatch in zip(PHASES, _HATCHES, strict=True):
            seconds = float(means.get(phase, 0.0))
            axis.barh(row, seconds, left=left, color=_COLORS[phase], hatch=hatch, edgecolor="white", height=0.6)
            if seconds > 0.07 * longest:
                axis.text(left + seconds / 2, row, f"{seconds:.2g}", ha="center", va="center", bbox=box)
            left += seconds
        axis.text(left, row, f"  {left:.3g} s" if left else f"  {speed.NOT_RECORDED}", va="center")
    axis.set_yticks(range(len(runs)), [run.name for run in runs])
    axis.set(xlim=(0, 1.12 * longest or 1), ylim=(len(runs) - 0.4, -0.6), xlabel="Mean seconds per step")
    axis.grid(axis="y", visible=False)
    keys = [
        Patch(facecolor=_COLORS[phase], hatch=hatch, edgecolor="white", label=speed.PHASE_LABELS[phase])
        for phase, hatch in zip(PHASES, _HATCHES, strict=True)
    ]
    figure.legend(handles=keys, loc="outside upper center", ncols=4)
    return figure
