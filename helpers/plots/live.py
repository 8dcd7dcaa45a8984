"""What grows in the notebook while a run trains: one panel a task and the stop table, redrawn at each evaluation."""

from pathlib import Path
from typing import Any

import pandas as pd

from helpers.plots.run import eval_curves
from helpers.runs import analysis, stop_rules
from helpers.runs.load import Run, load_run


class LivePlot:
    """Pass an instance as `on_eval` to `train_grpo`: it rewrites two displays from the run record as it grows."""

    def __init__(self) -> None:
        self.handles: list[Any] = []

    def __call__(self, folder: Path) -> None:
        """Redraw from the run record in `folder`."""
        from IPython.display import display

        run = load_run(folder)
        shown = [eval_curves([run]), stop_table(run)]
        if not self.handles:
            self.handles = [display(item, display_id=True) for item in shown]
        else:
            for handle, item in zip(self.handles, shown, strict=True):
                handle.update(item)


def stop_table(run: Run) -> pd.DataFrame:
    """The stop table as it stands: what is watched, its value, what was expected, the state and why."""
    rows = pd.DataFrame(stop_rules.status_panel(analysis.stop_statuses(run))).set_index("Watched")
    return rows[["Value", "Expected", "State", "Because"]]
