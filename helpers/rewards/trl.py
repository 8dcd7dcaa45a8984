"""The rewards as TRL calls them, each silent (None) on other tasks' rows, and where an error inside one goes."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from helpers.core.errors import UserError
from helpers.rewards.base import version_for
from helpers.rewards.scoring import score
from helpers.tasks import TASKS

Sink = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class RewardFunction:
    """The reward of one task under one version, as `GRPOTrainer` takes it in `reward_funcs`; it pickles."""

    task: str
    version: str

    @property
    def __name__(self) -> str:
        """The task: TRL logs `rewards/<__name__>`, so that the versions of a task share a curve."""
        return self.task

    def __call__(
        self, prompts: Any, completions: Sequence[Any], completion_ids: Any = None, **columns: Any
    ) -> list[float | None]:
        """Score the rows of this task; None for the others, which TRL leaves out.

        `columns` holds `task` and `record` (a dict or its JSON) of each row. Raises `UserError` where one of them is
        missing, `ValueError` where the numbers of rows differ; for errors inside scoring see `record_errors`.
        """
        tasks = _column(columns, "task", len(completions))
        records = _column(columns, "record", len(completions))
        rows = zip(tasks, completions, records, strict=True)
        return [self._reward(text, record) if task == self.task else None for task, text, record in rows]

    def _reward(self, completion: Any, record: str | dict[str, Any]) -> float | None:
        parsed = _parsed(record) if isinstance(record, str) else record
        text = completion_text(completion)
        try:
            return score(self.task, text, parsed, self.version).total
        except UserError:
            raise
        except Exception as error:
            recorder = _recorder.get()
            if recorder is None:
                raise
            place = {"task": self.task, "version": self.version, "record_id": parsed.get("id")}
            recorder.add({**place, "error": repr(error), "completion": text})
            return None


def reward_functions(version: str) -> list[RewardFunction]:
    """The TRL reward functions of a version, one per task in the order of `helpers.tasks.TASKS`.

    Raises `UserError` for an unknown version.

    >>> [function.__name__ for function in reward_functions("v4.1")]
    ['extraction', 'sql_qa', 'insights', 'push']
    """
    return [RewardFunction(task, version_for(task, version)) for task in TASKS]


@dataclass
class ErrorRecorder:
    """Counts scoring errors and passes each on: {"task", "version", "record_id", "error", "completion"}."""

    sink: Sink
    count: int = 0

    def add(self, event: dict[str, Any]) -> None:
        """Count one error and hand it to the sink."""
        self.count += 1
        self.sink(event)


_recorder: ContextVar[ErrorRecorder | None] = ContextVar("reward_error_recorder", default=None)


@contextmanager
def record_errors(sink: Sink) -> Iterator[ErrorRecorder]:
    """Hand unexpected errors inside scoring to `sink` for the length of the block; outside of it they are raised.

    The row's reward is None and training goes on: a fault of ours says nothing about the completion.

    >>> events = []
    >>> with record_errors(events.append) as recorder:
    ...     recorder.add({"error": "example"})
    >>> recorder.count, events
    (1, [{'error': 'example'}])
    """
    recorder = ErrorRecorder(sink)
    token = _recorder.set(recorder)
    try:
        yield recorder
    finally:
        _recorder.reset(token)


def completion_text(completion: Any) -> Any:
    """The text of a completion: a string as it is, a conversation's assistant turns joined.

    >>> completion_text([{"role": "assistant", "content": "Oi"}])
    'Oi'
    """
    if isinstance(completion, list):
        return "".join(message.get("content") or "" for message in completion if message.get("role") == "assistant")
    return completion


@lru_cache(maxsize=8192)
def _parsed(line: str) -> dict[str, Any]:
    return json.loads(line)


def _column(columns: dict[str, Any], name: str, rows: int) -> Sequence[Any]:
    if name not in columns:
        raise UserError(f"the training data has no column {name!r}; the rewards need the columns task and record")
    if len(columns[name]) != rows:
        raise ValueError(f"{rows} completions but {len(columns[name])} rows in column {name!r}")
    return columns[name]
