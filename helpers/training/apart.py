"""Training in a process of its own, watched through the run record that it writes.

For notebooks. On a GPU their kernel has imported transformers before it trains, which is too late for Unsloth, and a
vLLM engine frees its memory only when its process ends. On a CPU a second training takes the second core.
"""

import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

from helpers.core.progress import Progress, say
from helpers.runs.record import EVENTS, METRICS, rows_so_far

LOOK_EVERY_S = 2.0
LOG = "output.log"

T = TypeVar("T")


class Pending:
    """A training whose result is wanted later: started at once in a fresh interpreter, or when the result is asked for.

    `train` is picklable and returns the run's folder; if it starts later, it is called with `on_eval`. What the
    interpreter prints goes to `LOG` in the run's folder: a notebook would show it under whichever cell runs meanwhile.
    """

    def __init__(self, train: Callable[..., Path], folder: Path, steps: int, now: bool = True) -> None:
        self._train, self._folder, self._steps = train, folder, steps
        self._pool = _fresh_interpreter() if now else None
        self._future = self._pool.submit(_with_log, train, folder / LOG) if self._pool else None

    def result(self, on_eval: Callable[[Path], None] | None = None) -> Path:
        """Wait for the run and return its folder; exceptions of the training are raised here.

        Meanwhile one line shows the progress, warnings of the stop rules are printed, and `on_eval` is called with the
        folder after each new evaluation.
        """
        if self._future is None or self._pool is None:
            return self._train(on_eval=on_eval)
        watcher = Watcher(self._folder, self._steps, on_eval)
        with self._pool:
            while not wait([self._future], timeout=LOOK_EVERY_S).done:
                watcher.look()
            watcher.look()
            watcher.line.close("finished; waited" if self._future.exception() is None else "failed; waited")
            return self._future.result()


def call_apart(function: Callable[[], T]) -> T:
    """Call `function` (picklable) in a fresh interpreter and return what it returns; its exceptions are raised here."""
    with _fresh_interpreter() as pool:
        return pool.submit(function).result()


class Watcher:
    """Follows a run record that another process writes, and shows what is new in it."""

    def __init__(self, folder: Path, steps: int, on_eval: Callable[[Path], None] | None = None) -> None:
        self.folder, self.on_eval = folder, on_eval
        self.line = Progress(f"{folder.name}, in a process of its own", steps)
        self.events_seen = 0

    def look(self) -> None:
        """Show the newest step, print new warnings, and call `on_eval` if there are new evaluations."""
        rewards = [row for row in rows_so_far(self.folder / METRICS) if "train/reward" in row]
        if rewards:
            self.line.update(rewards[-1]["step"], f"reward {rewards[-1]['train/reward']:.3f}")
        events = rows_so_far(self.folder / EVENTS)
        new, self.events_seen = events[self.events_seen :], len(events)
        for event in new:
            if event["kind"] in ("warning", "stop"):
                say(f"{self.folder.name}, step {event['step']}, {event['kind']}: {event['message']}")
        if self.on_eval and any(event["kind"] == "eval" for event in new):
            self.on_eval(self.folder)


def _fresh_interpreter() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn"))


def _with_log(function: Callable[[], T], log: Path) -> T:
    """Call `function` with everything that this process prints appended to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    return function()
