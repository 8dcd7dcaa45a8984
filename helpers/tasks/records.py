"""Records: the rows of `data/pairs/*.jsonl`, checked as they are read, and the fixed subset that steers a run."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from helpers.core.errors import UserError, require_known
from helpers.core.files import PROJECT_ROOT, read_jsonl
from helpers.core.text import graphemes
from helpers.tasks.review import ReviewFields
from helpers.tasks.spec import ROWS, TASKS, task

PAIRS_DIR = PROJECT_ROOT / "data" / "pairs"
SPLITS = ("train", "eval", "test")
EVAL_SUBSET = {row.name: row.eval_subset for row in ROWS}

Rows = list[dict[str, Any]]


class Message(BaseModel):
    """One chat message of a prompt."""

    model_config = ConfigDict(extra="forbid")
    role: Literal["system", "user", "assistant"]
    content: Annotated[str, Field(min_length=1)]


class QueryResult(BaseModel):
    """The cached rows of a reference query."""

    columns: Annotated[list[str], Field(min_length=1)]
    rows: Annotated[list[list[Any]], Field(min_length=1, max_length=20)]


class Reference(BaseModel):
    """A good completion, and what the task's reward compares with."""

    model_config = ConfigDict(extra="allow")
    text: Annotated[str, Field(min_length=1)]
    fields: ReviewFields | None = None  # type: ignore[valid-type]
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
        row = task(self.task)
        if any(getattr(self.reference, key, None) is None for key in row.reference_keys):
            raise ValueError(f"{' or '.join(f'reference.{key}' for key in row.reference_keys)} is missing")
        if row.max_characters and graphemes(self.reference.text) > row.max_characters:
            raise ValueError(f"reference.text is longer than {row.max_characters} characters")
        missing = [key for key in row.meta_keys if key not in self.meta]
        if missing:
            raise ValueError(f"meta.{missing[0]} is missing")
        return self


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


def eval_subset(records: Sequence[dict[str, Any]], counts: Mapping[str, int] = EVAL_SUBSET) -> Rows:
    """So many records of each task, in file order: by default the fixed part of the eval split that steers a run.

    A task's records are taken at even steps over its rows (row `i * n // k` for the i-th of k out of n), which spreads
    them over whatever the file is sorted by. With fewer records than asked for, all of them are taken.
    """
    chosen: Rows = []
    for name, wanted in counts.items():
        rows = [record for record in records if record["task"] == name]
        count = min(wanted, len(rows))
        chosen += [rows[place * len(rows) // count] for place in range(count)]
    return chosen


def count_by_task(records: Iterable[dict[str, Any]]) -> dict[str, int]:
    """How many records each task has, in the order of `tasks.TASKS`.

    >>> count_by_task([{"task": "push"}, {"task": "push"}])
    {'extraction': 0, 'sql_qa': 0, 'insights': 0, 'push': 2}
    """
    counts = Counter(record["task"] for record in records)
    return {name: counts[name] for name in TASKS}


def _first_problem(error: ValidationError) -> str:
    """The first thing wrong with a record: its field, what is wrong, and what was found, in one line."""
    problem = error.errors()[0]
    message = problem["msg"].removeprefix("Value error, ")
    field = ".".join(str(part) for part in problem["loc"])
    value = "" if isinstance(problem["input"], dict) else f" (found {repr(problem['input'])[:60]})"
    return f"field {field}: {message}{value}" if field else message + value
