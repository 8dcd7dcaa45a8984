"""The rewards as TRL calls them, each silent (None) on other tasks' rows, and where an error inside one goes."""

import json
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from helpers.core.errors import UserError
from helpers.rewards.base import Score, version_for
from helpers.rewards.scoring import score
from helpers.tasks import TASKS

Sink = Callable[[dict[str, Any]], None]
LogMetric = Callable[[str, float], None]
"""TRL's `log_metric`: the values given under one name are averaged over the completions of a step."""

_ASSISTANT = ("assistant", "model")
"""How chat templates call the policy's own turns."""


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
        self,
        prompts: Any,
        completions: Sequence[Any],
        completion_ids: Any = None,
        log_metric: LogMetric | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """Score the rows of this task; None for the others, which TRL leaves out.

        `columns` holds `task` and `record` (a dict or its JSON) of each row. Through `log_metric` TRL logs the mean of
        each part (`parts/<task>/<part>`) and the number of this task's rows (`rows/<task>`). Raises `UserError` where
        a column is missing or a row's task is none of ours, because such a row would train nothing; `ValueError` where
        the numbers of rows differ; for errors inside scoring see `record_errors`.
        """
        tasks = _column(columns, "task", len(completions))
        records = _column(columns, "record", len(completions))
        for number, task in enumerate(tasks):
            if task not in TASKS:
                raise UserError(f"row {number} of the batch: task is {task!r}; the valid ones are: {', '.join(TASKS)}")
        rows = zip(tasks, completions, records, strict=True)
        scores = [self._score(text, record) if task == self.task else None for task, text, record in rows]
        if log_metric:
            self._log(scores, list(tasks).count(self.task), log_metric)
        return [None if scored is None else scored.total for scored in scores]

    def _log(self, scores: Sequence[Score | None], rows: int, log_metric: LogMetric) -> None:
        """Log each completion's parts one by one: TRL's mean is then over completions, however many processes."""
        log_metric(f"rows/{self.task}", float(rows))
        for scored in scores:
            for part, share in scored.parts.items() if scored else ():
                log_metric(f"parts/{self.task}/{part}", share)

    def _score(self, completion: Any, record: str | dict[str, Any]) -> Score | None:
        try:
            parsed = _parsed(record) if isinstance(record, str) else _without_padding(record)
            return score(self.task, completion_text(completion), parsed, self.version)
        except UserError:
            raise
        except Exception as error:
            recorder = _recorder.get()
            if recorder is None:
                raise
            recorder.add({"task": self.task, "version": self.version, **_described(error, completion, record)})
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
        """Count one error and hand it to the sink; a sink that fails is a warning, not the end of the run."""
        self.count += 1
        try:
            self.sink(event)
        except Exception as failure:  # noqa: BLE001
            warnings.warn(f"a reward error of {event.get('task')} was not recorded: {_text_of(failure)}", stacklevel=2)


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


def completion_text(completion: Any) -> str:
    """The text of a completion: a string as it is, bytes as UTF-8, the assistant's turns of a conversation joined.

    A turn's content may be a list of parts; a turn without content, such as a tool call, says nothing. Raises
    `TypeError` for what holds no text at all.

    >>> completion_text([{"role": "assistant", "content": "Oi"}])
    'Oi'
    >>> completion_text(({"role": "model", "content": [{"type": "text", "text": "Oi"}, {"type": "image"}]},))
    'Oi'
    """
    if isinstance(completion, str):
        return completion
    if isinstance(completion, bytes):
        return completion.decode("utf-8", errors="replace")
    if isinstance(completion, Mapping):
        return _content_text(completion.get("content")) if completion.get("role", "assistant") in _ASSISTANT else ""
    if isinstance(completion, list | tuple):
        return "".join(map(completion_text, completion))
    raise TypeError(f"a completion of type {type(completion).__name__} holds no text")


def _content_text(content: Any) -> str:
    """The text of a message's content: a string, or parts of which those with a `text` count."""
    if content is None:
        return ""
    if isinstance(content, list | tuple):
        texts = [part.get("text") if isinstance(part, Mapping) else part for part in content]
        return "".join(completion_text(text) for text in texts if text is not None)
    return completion_text(content)


def _described(error: Exception, completion: Any, record: Any) -> dict[str, Any]:
    """What a recorded error says; it cannot fail, whatever the error, the completion and the record are."""
    match = re.search(r'"id": ?"([^"]*)"', record) if isinstance(record, str) else None
    record_id = record.get("id") if isinstance(record, Mapping) else match and match[1]
    try:
        text = completion_text(completion)
    except Exception:  # noqa: BLE001
        text = _text_of(completion)
    return {"record_id": record_id, "error": _text_of(error), "completion": text}


def _text_of(value: Any) -> str:
    try:
        return repr(value)
    except Exception:  # noqa: BLE001
        return f"a {type(value).__name__} that cannot be shown"


def _without_padding(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record without the keys that `datasets` adds as None so that all rows of a column have the same ones.

    Among the fields of an extraction None is a value, and no key is ever missing there.
    """
    parts = {key: value for key, value in record.items() if value is not None}
    for name in ("meta", "reference"):
        if isinstance(parts.get(name), Mapping):
            parts[name] = {key: value for key, value in parts[name].items() if value is not None}
    context = parts.get("meta", {}).get("context")
    if isinstance(context, Mapping):
        parts["meta"]["context"] = {key: value for key, value in context.items() if value is not None}
    return parts


@lru_cache(maxsize=8192)
def _parsed(line: str) -> dict[str, Any]:
    return json.loads(line)


def _column(columns: dict[str, Any], name: str, rows: int) -> Sequence[Any]:
    if name not in columns:
        raise UserError(f"the training data has no column {name!r}; the rewards need the columns task and record")
    if len(columns[name]) != rows:
        raise ValueError(f"{rows} completions but {len(columns[name])} rows in column {name!r}")
    return columns[name]
