"""Where an unexpected error inside a reward function goes: to a person, never into the score.

Outside `recording` such an error is raised. Inside, training goes on: the error is counted and handed, with the
completion that caused it, to a sink (the run record's `events.jsonl`), and the row's reward is None, because a
fault of ours says nothing about the completion.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

Sink = Callable[[dict[str, Any]], None]


@dataclass
class ErrorRecorder:
    """Counts scoring errors and passes each on: {"task", "version", "record_id", "error", "completion"}."""

    sink: Sink
    count: int = 0

    def add(self, event: dict[str, Any]) -> None:
        """Count one error and hand it to the sink."""
        self.count += 1
        self.sink(event)


_current: ContextVar[ErrorRecorder | None] = ContextVar("reward_error_recorder", default=None)


def current() -> ErrorRecorder | None:
    """The recorder in force; None means strict: errors are raised."""
    return _current.get()


@contextmanager
def recording(sink: Sink) -> Iterator[ErrorRecorder]:
    """Record scoring errors to `sink` for the length of the block instead of raising them.

    >>> events = []
    >>> with recording(events.append) as recorder:
    ...     recorder.add({"error": "example"})
    >>> recorder.count, events
    (1, [{'error': 'example'}])
    """
    recorder = ErrorRecorder(sink)
    token = _current.set(recorder)
    try:
        yield recorder
    finally:
        _current.reset(token)
