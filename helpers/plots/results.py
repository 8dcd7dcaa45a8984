"""The README's figure: what one run learned, and what that was worth."""

from matplotlib.figure import Figure

from helpers.plots.gains import draw_gains
from helpers.plots.style import ALL_TASKS_COLOR, panels, task_color, task_label
from helpers.runs import analysis
from helpers.runs.analysis import ALL
from helpers.runs.load import Run
from helpers.tasks import TASKS


def run_at_a_glance(run: Run) -> Figure:
    """A run's evaluation curves by task (band: all tasks, 95 %), and its gains over the whole eval split."""
    figure, axes = panels(1, 2, height=3.7, width_ratios=(4, 5))
    left, right = axes[0]
    for task in (*TASKS, ALL):
        mean = analysis.curve(run, task)["mean"]
        left.plot(mean.index, mean, "-o", color=task_color(task), lw=3 if task == ALL else 1.6, label=task_label(task))
    band = analysis.curve(run)
    left.fill_between(band.index, band["low"], band["high"], color=ALL_TASKS_COLOR, alpha=0.15, lw=0)
    left.set(title="While it trains", xlabel="Training step", ylabel="Mean reward", ylim=(0, 1.02))
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower left", ncols=3)
    draw_gains(right, run)
    right.set(title="After training, over the base policy", xlabel="Gain of the mean reward, same prompts")
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower right")
    return figure
