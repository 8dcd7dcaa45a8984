"""Figures of notebook 02: what a recipe will do, and what a run is doing now."""

from matplotlib.figure import Figure

from helpers import recipes
from helpers.plots.style import MUTED, TASK_COLORS, TASK_LABELS, panel
from helpers.recipes import Recipe


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


def coverage(plan: dict[str, dict[str, float]]) -> Figure:
    """Per task: the records there are, and how many of them the run is expected to show."""
    figure, axis = panel(2.4)
    for row, (task, numbers) in enumerate(plan.items()):
        axis.barh(row, numbers["records"], color="#E6E6E6")
        axis.barh(row, min(numbers["expected_prompts"], numbers["records"]), color=TASK_COLORS[task], height=0.5)
        text = f"{numbers['expected_prompts']:.0f} of {numbers['records']} ({numbers['share']:.0%})"
        axis.text(numbers["records"], row, f"  {text}", va="center")
    axis.set_yticks(range(len(plan)), [TASK_LABELS[task] for task in plan])
    axis.set(xlabel="train records (grey), prompts the run shows (colour)", title="What the run will see of each task")
    axis.invert_yaxis()
    axis.margins(x=0.18)
    return figure
