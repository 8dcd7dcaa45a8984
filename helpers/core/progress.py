"""A progress line that reads well in a terminal, in a notebook, and in a notebook run by a machine."""

import sys
import time
from typing import Any, ClassVar

from tqdm import tqdm

from helpers.core import processes


def in_notebook() -> bool:
    """Whether this runs in a Jupyter kernel, driven by a person or by a machine."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return type(shell).__name__ == "ZMQInteractiveShell"


def clock(seconds: float) -> str:
    """Seconds as minutes and seconds.

    >>> clock(125.4)
    '2:05'
    """
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def say(text: str) -> None:
    """Print a line above the progress line; of several processes only the first one prints."""
    if processes.is_first():
        tqdm.write(text)


class Progress:
    """One line that shows how far a job is: steps, a note, time elapsed and left.

    In a notebook it rewrites one display, so that the saved output holds only the last state.
    """

    running: ClassVar[list["Progress"]] = []

    def __init__(self, label: str, total: int) -> None:
        self.label, self.total, self.started = label, total, time.monotonic()
        self.running.append(self)
        self.handle: Any = None
        self.bar: Any = None
        if in_notebook():
            from IPython.display import display

            self.handle = display({"text/plain": f"{label}: starting"}, raw=True, display_id=True)
        else:
            silent = not processes.is_first()
            self.bar = tqdm(
                total=total, desc=label, file=sys.stderr, mininterval=1.0, dynamic_ncols=True, disable=silent
            )

    def update(self, done: int, note: str = "") -> None:
        """Show that `done` of `total` steps are done."""
        if self.bar is not None:
            self.bar.set_postfix_str(note, refresh=False)
            self.bar.update(done - self.bar.n)
            return
        gone = time.monotonic() - self.started
        left = gone / done * (self.total - done) if done else 0.0
        text = f"{self.label}: {done}/{self.total} {note} [{clock(gone)} gone, {clock(left)} left]"
        self.handle.update({"text/plain": text}, raw=True)

    def close(self, note: str = "") -> None:
        """End the line, leaving `note` as its last state."""
        if self in self.running:
            self.running.remove(self)
        if self.bar is not None:
            self.bar.set_postfix_str(note)
            self.bar.close()
        else:
            elapsed = clock(time.monotonic() - self.started)
            self.handle.update({"text/plain": f"{self.label}: {note} [{elapsed}]"}, raw=True)


def close_all(note: str) -> None:
    """End every line whose job broke off, so that what is printed next begins a line of its own."""
    for line in list(Progress.running):
        line.close(note)
