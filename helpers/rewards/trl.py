"""The rewards as TRL calls them: four functions a version, each silent (None) on other tasks' rows."""

import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from helpers.core.errors import UserError
from helpers.rewards import errors
from helpers.rewards.base import version_for
from helpers.rewards.scoring import score
from helpers.tasks import TASKS

RewardFunction = Callable[..., list[float | None]]


def completion_text(completion: Any) -> Any:
    """The text of a completion: a string as it is, a conversation's assistant turns joined.

    >>> completion_text([{"role": "assistant", "content": "Oi"}])
    'Oi'
    """
    if isinstance(completion, list):
        return "".join(message.get("content") or "" for message in completion if message.get("role") == "assistant")
    return completion


@lru_cache(maxsize=8192)
def _record(line: str) -> dict[str, Any]:
    return json.loads(line)


def _column(columns: dict[str, Any], name: str, rows: int) -> Sequence[Any]:
    if name not in columns:
        raise UserError(f"the training data has no column {name!r}; the rewards need the columns task and record")
    if len(columns[name]) != rows:
        raise ValueError(f"{rows} completions but {len(columns[name])} rows in column {name!r}")
    return columns[name]


def _reward(task: str, version: str, completion: Any, record: str | dict[str, Any]) -> float | None:
    parsed = _record(record) if isinstance(record, str) else record
    try:
        return score(task, completion_text(completion), parsed, version).total
    except UserError:
        raise
    except Exception as error:
        recorder = errors.current()
        if recorder is None:
            raise
        event = {"task": task, "version": version, "record_id": parsed.get("id"), "error": repr(error)}
        recorder.add({**event, "completion": completion_text(completion)})
        return None


def _adapter(task: str, version: str, qualified_name: str) -> RewardFunction:
    def reward(prompts: Any, completions: Sequence[Any], completion_ids: Any = None, **columns: Any) -> list[Any]:
        """Score the rows of this task; None for the others, which TRL leaves out."""
        tasks = _column(columns, "task", len(completions))
        records = _column(columns, "record", len(completions))
        rows = zip(tasks, completions, records, strict=True)
        return [_reward(task, version, text, record) if row == task else None for row, text, record in rows]

    # TRL logs `rewards/<__name__>`: one name a task, so that versions share a curve. Pickle goes by __qualname__.
    reward.__name__, reward.__qualname__ = task, qualified_name
    reward.__doc__ = f"Reward {version} of {task} rows for TRL; None for the rows of other tasks."
    return reward


extraction_v4 = _adapter("extraction", "v4", "extraction_v4")
sql_qa_v4 = _adapter("sql_qa", "v4", "sql_qa_v4")
insights_v4 = _adapter("insights", "v4", "insights_v4")
push_v4 = _adapter("push", "v4", "push_v4")

extraction_v41 = _adapter("extraction", "v4.1", "extraction_v41")
sql_qa_v41 = _adapter("sql_qa", "v4.1", "sql_qa_v41")
insights_v41 = _adapter("insights", "v4.1", "insights_v41")
push_v41 = _adapter("push", "v4.1", "push_v41")

extraction_v42 = _adapter("extraction", "v4.2", "extraction_v42")
sql_qa_v42 = _adapter("sql_qa", "v4.2", "sql_qa_v42")
insights_v42 = _adapter("insights", "v4.2", "insights_v42")
push_v42 = _adapter("push", "v4.2", "push_v42")

_FUNCTIONS: dict[str, dict[str, RewardFunction]] = {
    "v4": {"extraction": extraction_v4, "sql_qa": sql_qa_v4, "insights": insights_v4, "push": push_v4},
    "v4.1": {"extraction": extraction_v41, "sql_qa": sql_qa_v41, "insights": insights_v41, "push": push_v41},
    "v4.2": {"extraction": extraction_v42, "sql_qa": sql_qa_v42, "insights": insights_v42, "push": push_v42},
}


def reward_functions(version: str) -> list[RewardFunction]:
    """The four TRL reward functions of a version, in the order of `helpers.tasks.TASKS`.

    Each is called as f(prompts, completions, completion_ids=None, **columns) with the columns `task` and `record`
    (a dict or its JSON) and returns one float or None a row. Raises `UserError` for an unknown version or a missing
    column, `ValueError` where the numbers of rows differ; see `helpers.rewards.errors` for errors inside scoring.

    >>> [function.__name__ for function in reward_functions("v4.1")]
    ['extraction', 'sql_qa', 'insights', 'push']
    """
    return [_FUNCTIONS[version_for(task, version)][task] for task in TASKS]
