"""Figures of a recipe before it runs: its learning rates, what it will show of each task, the memory it needs."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from helpers import recipes
from helpers.plots.style import ALL_TASKS_COLOR, MUTED, SERIES_COLORS, name_rows, panel, task_color, task_label
from helpers.recipes import Recipe
from helpers.recipes.memory import PHASES, MemoryPlan

_LOOKS: dict[str, dict[str, Any]] = {
    "Weights": {"color": SERIES_COLORS[0], "hatch": ""},
    "vLLM's copy of the weights": {"color": SERIES_COLORS[4], "hatch": "///"},
    "vLLM's work space": {"color": SERIES_COLORS[1], "hatch": "///"},
    "KV cache": {"color": SERIES_COLORS[2], "hatch": ""},
    "LoRA, gradients, optimiser": {"color": SERIES_COLORS[3], "hatch": "..."},
    "Activations kept": {"color": SERIES_COLORS[5], "hatch": "xxx"},
    "Logits, then a block": {"color": SERIES_COLORS[6], "hatch": ""},
    "CUDA and fragmentation": {"color": MUTED, "hatch": "..."},
}
"""Colour and hatch of each consumer, the same in every figure; they read without colours too."""


def schedules(old: Recipe, new: Recipe) -> Figure:
    """The learning rate at each step of both recipes, and the share of the peak that the old one had left at 65 %."""
    figure, axis = panel(3.4)
    for recipe, color in ((old, MUTED), (new, "#0072B2")):
        rates = recipes.learning_rates(recipe)
        axis.plot(range(1, len(rates) + 1), rates, color=color, label=f"{recipe.name}: {recipe.lr_schedule}")
    rates = recipes.learning_rates(old)
    step = round(0.65 * old.max_steps)
    axis.plot(step, rates[step - 1], "o", color=MUTED)
    share = rates[step - 1] / max(rates)
    axis.annotate(f"step {step}: {share:.0%} of its peak", (step, rates[step - 1]), (8, 6), textcoords="offset points")
    axis.set(xlabel="optimiser step", ylabel="learning rate", title="Learning rate that each step uses", ylim=(0, None))
    axis.legend()
    return figure


def planned_coverage(plan: dict[str, dict[str, float]]) -> Figure:
    """Per task: the records there are, and how many of them the run is expected to show."""
    figure, axis = panel(0.8 + 0.4 * len(plan))
    for row, (task, numbers) in enumerate(plan.items()):
        axis.barh(row, numbers["records"], color="#E6E6E6")
        axis.barh(row, min(numbers["expected_prompts"], numbers["records"]), color=task_color(task), height=0.5)
        text = f"{numbers['expected_prompts']:.0f} of {numbers['records']} ({numbers['share']:.0%})"
        axis.text(numbers["records"], row, f"  {text}", va="center")
    axis.set_yticks(range(len(plan)), [task_label(task) for task in plan])
    axis.set(xlabel="train records (grey), prompts the run shows (colour)", title="What the run will see of each task")
    axis.invert_yaxis()
    axis.margins(x=0.18)
    return figure


def plan_bars(plans: Sequence[MemoryPlan]) -> Figure:
    """One stacked bar per model and phase, in GiB, against the memory that torch sees of the card (vertical line)."""
    bars = [(plan, phase) for plan in plans for phase in PHASES]
    figure, axis = panel(1.5 + 0.5 * len(bars))
    consumers = {row.consumer for plan in plans for row in plan.rows if row.gib}
    for position, (plan, phase) in enumerate(bars):
        _stack(axis, -position, plan, phase)
    for consumer, look in _LOOKS.items():
        if consumer in consumers:
            axis.barh(0, 0, label=consumer, edgecolor="white", **look)
    name_rows(axis, [f"{plan.model}\non {plan.profile}, {phase}" for plan, phase in bars])
    axis.set_xlim(0, 1.18 * max(max(plan.available, plan.peak) for plan in plans))
    axis.set(ylim=(0.6 - len(bars), 0.6), xlabel="Planned memory (GiB); the line is what torch sees of the card")
    figure.legend(loc="outside upper center", ncols=4)
    return figure


def _stack(axis: Axes, y: float, plan: MemoryPlan, phase: str) -> None:
    narrow = 0.06 * plan.available  # a segment below this has no room for its number
    left = 0.0
    for row in plan.rows:
        if phase in row.phases and row.gib:
            axis.barh(y, row.gib, left=left, height=0.6, edgecolor="white", **_LOOKS[row.consumer])
            if row.gib > narrow:
                box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
                axis.text(left + row.gib / 2, y, f"{row.gib:.1f}", ha="center", va="center", fontsize=9, bbox=box)
            left += row.gib
    axis.plot([plan.available] * 2, [y - 0.42, y + 0.42], color=ALL_TASKS_COLOR, lw=2)
    verdict = f"{left:.1f} of {plan.available:g}" if left <= plan.available else f"{left:.1f}: too much"
    axis.text(max(left, plan.available), y, f"  {verdict}", va="center", fontsize=9)
