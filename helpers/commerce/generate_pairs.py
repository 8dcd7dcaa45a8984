"""The pairs: drafts of each task drawn from the database, split so that nothing leaks, written as JSONL."""

import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from helpers.commerce.build_db import connect
from helpers.commerce.drafts import EVERYTHING, Draft
from helpers.commerce.extraction_pairs import extraction_drafts
from helpers.commerce.insight_pairs import insight_drafts
from helpers.commerce.leaks import NEAR, NEAR_TASKS, NearDuplicates, find_leaks
from helpers.commerce.push_pairs import push_drafts
from helpers.commerce.sql_pairs import sql_drafts
from helpers.errors import UserError
from helpers.files import write_jsonl
from helpers.records import PAIRS_DIR, SPLITS
from helpers.tasks import TASKS, classify_task, user_text

Rows = list[dict[str, Any]]
Source = Callable[[sqlite3.Connection, random.Random, str], Iterator[Draft]]

SOURCES: dict[str, Source] = {
    "extraction": extraction_drafts,
    "sql_qa": sql_drafts,
    "insights": insight_drafts,
    "push": push_drafts,
}
COUNTS: dict[str, dict[str, int]] = {
    "train": {"extraction": 594, "sql_qa": 594, "insights": 148, "push": 148},
    "eval": dict.fromkeys(TASKS, 65),
    "test": dict.fromkeys(TASKS, 65),
}


def build_pairs(db_path: Path, seed: int) -> dict[str, Rows]:
    """The three splits of all four tasks, from one database and seed; the leak check has passed.

    Raises `UserError` where the database is too small to give the counts, or a record leaks.
    """
    splits: dict[str, Rows] = {name: [] for name in SPLITS}
    with closing(connect(db_path)) as db:
        for task in TASKS:
            drafts = SOURCES[task](db, random.Random(f"{seed} {task}"), EVERYTHING)
            for name, rows in _split(task, drafts).items():
                splits[name] += rows
    problems = find_leaks(splits["train"], splits["eval"] + splits["test"])
    problems += find_leaks(splits["eval"], splits["test"])
    if problems:
        raise UserError(f"{len(problems)} leaks between splits, the first: {problems[0]}")
    return splits


def write_pairs(splits: dict[str, Rows], directory: Path = PAIRS_DIR) -> None:
    """Write each split to `<directory>/<name>.jsonl`."""
    for name, rows in splits.items():
        write_jsonl(directory / f"{name}.jsonl", rows)


def _split(task: str, drafts: Iterator[Draft]) -> dict[str, Rows]:
    """The drafts of one task dealt to test, eval and train, in this order; what is too close to an earlier split goes."""
    rows: dict[str, Rows] = {}
    used: set[str] = set()
    held_out = NearDuplicates()
    for name in ("test", "eval", "train"):
        rows[name] = []
        chosen: list[str] = []
        while len(rows[name]) < COUNTS[name][task]:
            draft = next(drafts, None)
            if draft is None:
                raise UserError(
                    f"the database gives only {len(rows[name])} {task} records for {name} "
                    f"({COUNTS[name][task]} wanted); build it from more orders"
                )
            if used & set(draft.keys) or (task in NEAR_TASKS and held_out.overlap(draft.user_text) > NEAR):
                continue
            used |= set(draft.keys)
            chosen.append(draft.user_text)
            rows[name].append(_checked(draft.record(f"{task}-{name}-{len(rows[name]) + 1:04d}")))
        for text in chosen:
            held_out.add(text)
    return rows


def _checked(record: dict[str, Any]) -> dict[str, Any]:
    """The record, once its text tells its own task."""
    text = user_text(record["prompt"])
    if classify_task(text) != record["task"]:
        raise UserError(f"{record['id']}: its prompt reads as {classify_task(text)}: {text[:80]!r}")
    return record
