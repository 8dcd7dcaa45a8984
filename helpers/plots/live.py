"""What grows in the notebook while a run trains: one panel per task and the stop table, redrawn at each evaluation."""

from pathlib import Path
from typing import Any

import pandas as pd
from IPython.display import display

from helpers.plots.curves import eval_curves
from helpers.plots.health import stop_panel
from helpers.runs import load_run


class LivePlot:
    """Pass an instance as `on_eval` to `train_grpo`: it rewrites two displays from the run record as it grows."""

    def __init__(self) -> None:
        self.handles: list[Any] = []

    def __call__(self, folder: Path) -> None:
        """Redraw from the run record in `folder`."""
        run = load_run(folder)
        table = pd.DataFrame(stop_panel(run)).set_index("Watched")[["Value", "Expected", "State", "Because"]]
        items = [eval_curves([run]), table]
        if not self.handles:
            self.handles = [display(item, display_id=True) for item in items]
        else:
            for handle, item in zip(self.handles, items, strict=True):
                handle.update(item)
