"""The plot that grows in the notebook while a run trains: one panel a task, redrawn after each evaluation."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from helpers.plots.style import ALL_TASKS_COLOR, TASK_COLORS, TASK_LABELS, apply_style
from helpers.run_record import METRICS
from helpers.tasks import TASKS


class LivePlot:
    """Pass an instance as `on_eval` to `train_grpo`: it redraws one display from the run record, as the run writes it."""

    def __init__(self) -> None:
        self.handle: Any = None

    def __call__(self, folder: Path) -> None:
        """Redraw from the run record in `folder`."""
        from IPython.display import display

        figure = eval_curves(read_evaluations(folder), folder.name)
        if self.handle is None:
            self.handle = display(figure, display_id=True)
        else:
            self.handle.update(figure)
        plt.close(figure)


def read_evaluations(folder: Path) -> list[dict[str, Any]]:
    """The evaluation rows of a run record, finished or still being written."""
    rows = [json.loads(line) for line in (folder / METRICS).read_text(encoding="utf-8").splitlines()]
    return [row for row in rows if "eval/mean_reward" in row]


def eval_curves(rows: Iterable[dict[str, Any]], name: str) -> Figure:
    """Mean reward and each task's reward against the step, with 95 % bands."""
    apply_style()
    rows = list(rows)
    figure, axes = plt.subplots(1, 1 + len(TASKS), figsize=(9, 2.6), sharey=True)
    panels = [("mean_reward", "All tasks", ALL_TASKS_COLOR)]
    panels += [(task, TASK_LABELS[task], TASK_COLORS[task]) for task in TASKS]
    for axis, (key, label, color) in zip(axes, panels, strict=True):
        steps = [row["step"] for row in rows if f"eval/{key}" in row]
        mean, low, high = ([row[f"eval/{key}{end}"] for row in rows if f"eval/{key}" in row] for end in ("", "_low", "_high"))
        axis.fill_between(steps, low, high, color=color, alpha=0.2, linewidth=0)
        axis.plot(steps, mean, "o-", color=color)
        axis.set_title(label, fontsize=9)
        axis.set(xlabel="step", ylim=(0, 1))
    axes[0].set_ylabel(f"reward, {name}")
    return figure
