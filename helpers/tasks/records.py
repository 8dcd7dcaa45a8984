"""Records: the rows of `data/pairs/*.jsonl`, checked as they are read, and the fixed subset that steers a run."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from helpers.core.errors import UserError, require_known
from helpers.core.files import PROJECT_ROOT, read_jsonl
from helpers.core.text import graphemes
from helpers.tasks.spec import (
    COMPLAINT_CATEGORIES,
    LEVELS,
    MAX_COMPLAINT_CHARACTERS,
    MAX_PUSH_CHARACTERS,
    SENTIMENTS,
    TASKS,
)

PAIRS_DIR = PROJECT_ROOT / "data" / "pairs"
SPLITS = ("train", "eval", "test")
EVAL_SUBSET = {"extraction": 20, "sql_qa": 15, "insights": 15, "push": 15}

Rows = list[dict[str, Any]]


class Message(BaseModel):
    """One chat message of a prompt."""

    model_config = ConfigDict(extra="forbid")
    role: Literal["system", "user", "assistant"]
    content: Annotated[str, Field(min_length=1)]


def _short_complaint(text: str) -> str:
    if graphemes(text) > MAX_COMPLAINT_CHARACTERS:
        raise ValueError(f"longer than {MAX_COMPLAINT_CHARACTERS} characters")
    return text


class ReviewFields(BaseModel):
    """The ten fields of an extraction, with the types and ranges of `tasks.REVIEW_FIELDS`."""

    model_config = ConfigDict(extra="forbid", strict=True)
    sentiment: Literal[SENTIMENTS]  # type: ignore[valid-type]
    sentiment_score: Annotated[float, Field(ge=1.0, le=5.0)]
    complaint_category: Literal[COMPLAINT_CATEGORIES]  # type: ignore[valid-type]
    churn_risk: Literal[LEVELS]  # type: ignore[valid-type]
    urgency: Literal[LEVELS]  # type: ignore[valid-type]
    delivery_issue: bool
    product_issue: bool
    seller_issue: bool
    would_buy_again: bool
    main_complaint: Annotated[str, Field(min_length=1), AfterValidator(_short_complaint)] | None


class QueryResult(BaseModel):
    """The cached rows of a reference query."""

    columns: Annotated[list[str], Field(min_length=1)]
    rows: Annotated[list[list[Any]], Field(min_length=1, max_length=20)]


class Reference(BaseModel):
    """A good completion, and what the task's reward compares with."""

    model_config = ConfigDict(extra="allow")
    text: Annotated[str, Field(min_length=1)]
    fields: ReviewFields | None = None
    sql: str | None = None
    result: QueryResult | None = None


class Record(BaseModel):
    """One row of pairs: a task, its prompt, a reference, and facts about where it came from."""

    model_config = ConfigDict(extra="forbid")
    id: Annotated[str, Field(min_length=1)]
    task: Literal[TASKS]  # type: ignore[valid-type]
    prompt: Annotated[list[Message], Field(min_length=1)]
    reference: Reference
    meta: dict[str, Any]

    @model_validator(mode="after")
    def _has_what_its_task_needs(self) -> "Record":
        if not any(message.role == "user" for message in self.prompt):
            raise ValueError("prompt has no user message")
        if self.task == "extraction" and self.reference.fields is None:
            raise ValueError("reference.fields is missing")
        if self.task == "sql_qa" and (self.reference.sql is None or self.reference.result is None):
            raise ValueError("reference.sql or reference.result is missing")
        if self.task == "push" and graphemes(self.reference.text) > MAX_PUSH_CHARACTERS:
            raise ValueError(f"reference.text is longer than {MAX_PUSH_CHARACTERS} characters")
        missing = [name for name in _META[self.task] if name not in self.meta]
        if missing:
            raise ValueError(f"meta.{missing[0]} is missing")
        return self


_META = {
    "extraction": ("review_score", "status", "delay_days"),
    "sql_qa": ("family", "difficulty", "question", "ordered"),
    "insights": ("topic", "table"),
    "push": ("kind", "context"),
}


def load_records(path: str | Path) -> Rows:
    """The records of a JSONL file, in file order, as plain dictionaries.

    Raises `UserError` naming the file, the line and the field where a record is not one, or where an id repeats.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; `python -m helpers data` builds the shipped ones")
    rows: Rows = []
    first_seen: dict[str, int] = {}
    for number, row in read_jsonl(path):
        try:
            Record.model_validate(row)
        except ValidationError as error:
            raise UserError(f"{path}, line {number}: {_first_problem(error)}") from error
        if row["id"] in first_seen:
            raise UserError(f"{path}, line {number}: id {row['id']!r} is also on line {first_seen[row['id']]}")
        first_seen[row["id"]] = number
        rows.append(row)
    if not rows:
        raise UserError(f"{path}: no records; `python -m helpers data` builds the shipped ones")
    return rows


def load_split(name: str, directory: Path = PAIRS_DIR) -> Rows:
    """The records of one split: `train`, `eval` or `test`."""
    require_known("split", name, SPLITS)
    return load_records(directory / f"{name}.jsonl")


def eval_subset(records: Sequence[dict[str, Any]]) -> Rows:
    """The fixed 65 of the eval split that steer a run: 20 extraction, 15 of each other task, in file order.

    A task's records are taken at even steps over its rows (row `i * n // k` for the i-th of k out of n), which spreads
    them over whatever the file is sorted by. With fewer records than asked for, all of them are taken.
    """
    chosen: Rows = []
    for task, wanted in EVAL_SUBSET.items():
        rows = [record for record in records if record["task"] == task]
        count = min(wanted, len(rows))
        chosen += [rows[place * len(rows) // count] for place in range(count)]
    return chosen


def count_by_task(records: Iterable[dict[str, Any]]) -> dict[str, int]:
    """How many records each task has, in the order of `tasks.TASKS`.

    >>> count_by_task([{"task": "push"}, {"task": "push"}])
    {'extraction': 0, 'sql_qa': 0, 'insights': 0, 'push': 2}
    """
    counts = Counter(record["task"] for record in records)
    return {task: counts[task] for task in TASKS}


def _first_problem(error: ValidationError) -> str:
    """The first thing wrong with a record: its field, what is wrong, and what was found, in one line."""
    problem = error.errors()[0]
    message = problem["msg"].removeprefix("Value error, ")
    field = ".".join(str(part) for part in problem["loc"]) or "record"
    found = repr(problem["input"])
    shown = "" if isinstance(problem["input"], dict) else f" (found {found[:60]})"
    return f"field {field}: {message}{shown}" if problem["loc"] else message + shown
