"""Records are checked as they are read; what is wrong is told with file, line and field."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from helpers.core.errors import UserError
from helpers.tasks import REVIEW_FIELDS, TASKS
from helpers.tasks.records import (
    EVAL_SUBSET,
    SPLITS,
    count_by_task,
    eval_subset,
    load_records,
    load_split,
)
from helpers.tasks.review import ReviewFields


@pytest.fixture(scope="module")
def examples() -> dict[str, dict[str, Any]]:
    """One shipped record of each task."""
    return {record["task"]: record for record in load_split("eval")}


def write(path: Path, *records: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def test_the_shipped_splits_load_with_their_counts() -> None:
    assert count_by_task(load_split("train")) == {"extraction": 594, "sql_qa": 594, "insights": 148, "push": 148}
    for name in ("eval", "test"):
        assert count_by_task(load_split(name)) == dict.fromkeys(TASKS, 65)


def test_no_id_is_used_twice_over_the_splits() -> None:
    ids = [record["id"] for name in SPLITS for record in load_split(name)]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(
    ("task", "place", "value", "told"),
    [
        ("push", ("task",), "pull", "field task"),
        ("push", ("prompt", 1, "content"), "", "field prompt.1.content"),
        ("push", ("prompt", 0, "role"), "poet", "field prompt.0.role"),
        ("push", ("reference", "text"), "x" * 121, "longer than 120 characters"),
        ("push", ("meta",), {"kind": "birthday"}, "meta.context is missing"),
        ("extraction", ("reference", "fields", "sentiment"), "angry", "field reference.fields.sentiment"),
        ("extraction", ("reference", "fields", "sentiment_score"), 7, "field reference.fields.sentiment_score"),
        ("extraction", ("reference", "fields", "urgency"), None, "field reference.fields.urgency"),
        ("extraction", ("reference", "fields", "product_issue"), "true", "field reference.fields.product_issue"),
        ("extraction", ("reference", "fields"), None, "reference.fields is missing"),
        ("sql_qa", ("reference", "result", "rows"), [], "field reference.result.rows"),
        ("sql_qa", ("reference", "sql"), None, "reference.sql or reference.result is missing"),
        ("insights", ("extra",), 1, "field extra"),
    ],
)
def test_a_malformed_record_is_told_with_file_line_and_field(
    examples: dict[str, dict[str, Any]], tmp_path: Path, task: str, place: tuple[Any, ...], value: Any, told: str
) -> None:
    record = copy.deepcopy(examples[task])
    target: Any = record
    for step in place[:-1]:
        target = target[step]
    target[place[-1]] = value
    path = write(tmp_path / "pairs.jsonl", examples["insights"] | {"id": "first"}, record)
    with pytest.raises(UserError) as caught:
        load_records(path)
    assert "pairs.jsonl, line 2" in str(caught.value) and told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_repeated_id_names_both_lines(examples: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    path = write(tmp_path / "pairs.jsonl", examples["push"], examples["push"])
    with pytest.raises(UserError, match=r"line 2.*also on line 1"):
        load_records(path)


@pytest.mark.parametrize(("text", "told"), [("", "no records"), ("{oops\n", "line 1: not JSON"), ("[1]\n", "a list")])
def test_a_file_without_records_is_told(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=told):
        load_records(path)


def test_an_unknown_split_lists_the_valid_ones() -> None:
    with pytest.raises(UserError, match="train, eval, test"):
        load_split("dev")


def test_the_eval_subset_is_fixed_stratified_and_keeps_file_order() -> None:
    records = load_split("eval")
    subset = eval_subset(records)
    assert count_by_task(subset) == EVAL_SUBSET
    assert [record["id"] for record in subset] == [record["id"] for record in eval_subset(records)]
    places = [records.index(record) for record in subset]
    assert places == sorted(places) and len(set(places)) == 65


def test_the_eval_subset_of_few_records_is_all_of_them(examples: dict[str, dict[str, Any]]) -> None:
    assert eval_subset([examples["push"], examples["insights"]]) == [examples["insights"], examples["push"]]


def test_the_checked_fields_are_those_of_the_schema_in_its_order() -> None:
    assert tuple(ReviewFields.model_fields) == tuple(REVIEW_FIELDS)
