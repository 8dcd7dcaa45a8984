"""The plot that grows in the notebook while a run trains: one panel a task, redrawn after each evaluation."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from helpers.analysis import load_run
from helpers.plots.run import eval_curves


class LivePlot:
    """Pass an instance as `on_eval` to `train_grpo`: it redraws one display from the run record as it grows."""

    def __init__(self) -> None:
        self.handle: Any = None

    def __call__(self, folder: Path) -> None:
        """Redraw from the run record in `folder`."""
        from IPython.display import display

        figure = eval_curves([load_run(folder)])
        if self.handle is None:
            self.handle = display(figure, display_id=True)
        else:
            self.handle.update(figure)
        plt.close(figure)
