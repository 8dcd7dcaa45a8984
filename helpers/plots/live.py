"""What grows in the notebook while a run trains: a panel per task, its reward parts, and the stop table."""

from pathlib import Path
from typing import Any

import pandas as pd

from helpers.plots.curves import eval_curves, training_parts
from helpers.plots.health import stop_panel
from helpers.runs import load_run


class LivePlot:
    """Pass an instance as `on_eval`: after each evaluation it redraws three displays from the run record so far."""

    def __init__(self) -> None:
        self.handles: list[Any] = []

    def __call__(self, folder: Path) -> None:
        """Redraw from the run record in `folder`."""
        from IPython.display import display  # not of the training set, which draws reports too

        run = load_run(folder)
        table = pd.DataFrame(stop_panel(run)).set_index("Watched")[["Value", "Expected", "State", "Because"]]
        items = [eval_curves([run]), training_parts(run), table]
        if not self.handles:
            self.handles = [display(item, display_id=True) for item in items]
        else:
            for handle, item in zip(self.handles, items, strict=True):
                handle.update(item)
