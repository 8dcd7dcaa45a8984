"""`score`: one completion, one record, one reward version -> the reward and its parts."""

from collections.abc import Mapping
from functools import partial
from importlib import import_module
from typing import Any

from helpers.core.errors import require_known
from helpers.parsing import parse_completion
from helpers.parsing.answer import answer_text
from helpers.parsing.baselines import PARSERS
from helpers.rewards.base import (
    ONE_TASK_VERSIONS,
    REPAIR_FLAG,
    VERSIONS,
    Parser,
    Score,
    TaskReward,
    parser_of,
    total_of,
    version_for,
)
from helpers.tasks import JSON_TASK, REVIEW_FIELDS, TASKS

MAX_CHARACTERS = 20_000
"""Text beyond this is not read: ten times the longest useful completion."""

_MODULES = {task: import_module(f"helpers.rewards.{task}") for task in TASKS}


def _weights(task: str, version: str) -> dict[str, float]:
    """v4.1 differs from v4 in its parser only."""
    return _MODULES[task].WEIGHTS["v4.2" if version_for(task, version) == "v4.2" else "v4.1"]


WEIGHTS: dict[str, dict[str, dict[str, float]]] = {
    version: {task: _weights(task, version) for task in TASKS} for version in (*VERSIONS, *ONE_TASK_VERSIONS)
}
"""version -> task -> part -> weight. The positive weights of a task sum to 1; a negative one is the cost of a fault."""

_FORM: dict[str, TaskReward] = {task: module.form for task, module in _MODULES.items()}
_CORRECTNESS: dict[str, TaskReward] = {task: module.correctness for task, module in _MODULES.items()}
_REWARDS: dict[str, dict[str, TaskReward]] = {"v4": _FORM, "v4.1": _FORM, "v4.2": _CORRECTNESS}
_TOLERANT = partial(parse_completion, fields=tuple(REVIEW_FIELDS))
_PARSER_OF: dict[str, Parser] = {"v4": PARSERS["regex"], "v4.1": _TOLERANT, "v4.2": _TOLERANT}


def score(
    task: str, completion: object, record: Mapping[str, Any], version: str = "v4.1", parser: Parser | None = None
) -> Score:
    """The reward of one completion under a reward version.

    `parser` replaces the version's own JSON parser (extraction only), to measure what the parser alone changes.
    Any completion gets a score: what is not text counts as empty. Raises `UserError` for an unknown task or version.

    >>> score("push", "Ana, seu tênis está 10% mais barato. Aproveite!", {"meta": {"context": {"name": "Ana"}}}).total
    1.0
    """
    require_known("task", task, TASKS)
    plain = version_for(task, version)
    text, noticed = _readable(completion, parsed=task == JSON_TASK, raw=plain == "v4")
    parts = _REWARDS[plain][task](text, record, parser or _PARSER_OF[plain])
    return Score(total_of(parts.shares, WEIGHTS[plain][task]), parts.shares, (*noticed, *parts.flags))


def score_row(record: dict[str, Any], completion: str, version: str, parser: str | None = None) -> dict[str, Any]:
    """A completion's score as plain values: total, parts, flags, and the repairs its parser made."""
    if parser is not None:
        require_known("parser", parser, tuple(PARSERS))
    scored = score(record["task"], completion, record, version, PARSERS[parser] if parser else None)
    return {
        "record_id": record["id"],
        "task": record["task"],
        "version": version,
        "parser": parser or parser_of(version),
        "total": scored.total,
        "parts": dict(scored.parts),
        "flags": [flag for flag in scored.flags if not flag.startswith(REPAIR_FLAG)],
        "repairs": list(scored.repairs),
        "completion": completion,
    }


def _readable(completion: object, parsed: bool, raw: bool) -> tuple[str, tuple[str, ...]]:
    """The answer of a completion, and what was noticed. A JSON parser finds it itself and tells what stood around it:
    v4's in the raw text, as the handoff has it; the later one wherever the thinking is not too long for it."""
    if not isinstance(completion, str):
        return "", ("not_text",)
    if not parsed or (len(completion) > MAX_CHARACTERS and not raw):
        completion = answer_text(completion) or ""
    if len(completion) > MAX_CHARACTERS:
        return completion[:MAX_CHARACTERS], ("cut",)
    return completion, ()
