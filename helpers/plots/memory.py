"""The figure of a memory plan: what fills a GPU while it generates, and while it trains."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from helpers.plots.style import ALL_TASKS_COLOR, MUTED, SERIES_COLORS, panel
from helpers.recipes.memory import PHASES, MemoryPlan

_LOOKS = {
    "Weights": (SERIES_COLORS[0], ""),
    "vLLM's copy of the weights": (SERIES_COLORS[4], "///"),
    "vLLM's work space": (SERIES_COLORS[1], "///"),
    "KV cache": (SERIES_COLORS[2], ""),
    "LoRA, gradients, optimiser": (SERIES_COLORS[3], "..."),
    "Activations kept": (SERIES_COLORS[5], "xxx"),
    "Logits, then a block": (SERIES_COLORS[6], ""),
    "CUDA and fragmentation": (MUTED, "..."),
}
"""Colour and hatch of each consumer, the same in every figure; they read without colours too."""

_NARROW = 0.06
"""The share of the card below which a segment is too narrow for its number."""


def plan_bars(plans: Sequence[MemoryPlan]) -> Figure:
    """One stacked bar a model and phase, in GiB, against the memory that torch sees of the card (vertical line)."""
    bars = [(plan, phase) for plan in plans for phase in PHASES]
    figure, axis = panel(1.5 + 0.5 * len(bars))
    there = {row.consumer for plan in plans for row in plan.rows if row.gib}
    for position, (plan, phase) in enumerate(bars):
        _stack(axis, -position, plan, phase)
    for consumer in _LOOKS:
        if consumer in there:
            axis.barh(0, 0, label=consumer, **_look(consumer))
    axis.set_yticks(
        [-i for i in range(len(bars))], [f"{plan.model}\non {plan.profile}, {phase}" for plan, phase in bars]
    )
    axis.set_ylim(0.6 - len(bars), 0.6)
    axis.set_xlim(0, 1.18 * max(max(plan.available, plan.peak) for plan in plans))
    axis.set_xlabel("Planned memory (GiB); the line is what torch sees of the card")
    axis.grid(axis="y", visible=False)
    figure.legend(loc="outside upper center", ncols=4)
    return figure


def _stack(axis: Axes, y: float, plan: MemoryPlan, phase: str) -> None:
    left = 0.0
    for row in plan.rows:
        if phase in row.phases and row.gib:
            axis.barh(y, row.gib, left=left, height=0.6, **_look(row.consumer))
            if row.gib > _NARROW * plan.available:
                box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
                axis.text(left + row.gib / 2, y, f"{row.gib:.1f}", ha="center", va="center", fontsize=9, bbox=box)
            left += row.gib
    axis.plot([plan.available] * 2, [y - 0.42, y + 0.42], color=ALL_TASKS_COLOR, lw=2)
    verdict = f"{left:.1f} of {plan.available:g}" if left <= plan.available else f"{left:.1f}: too much"
    axis.text(max(left, plan.available), y, f"  {verdict}", va="center", fontsize=9)


def _look(consumer: str) -> dict[str, Any]:
    color, hatch = _LOOKS[consumer]
    return {"color": color, "hatch": hatch, "edgecolor": "white"}
