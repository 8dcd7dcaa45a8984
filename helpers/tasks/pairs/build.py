"""The pairs: drafts of each task drawn from the database, split so that nothing leaks, written as JSONL."""

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

from helpers.core.errors import UserError
from helpers.core.files import write_jsonl
from helpers.tasks.pairs.drafts import EVERYTHING, Draft, drafts_of, identity
from helpers.tasks.pairs.leaks import NEAR, NEAR_TASKS, NearDuplicates, find_leaks
from helpers.tasks.pairs.sql_qa import drafts_by_chance
from helpers.tasks.records import PAIRS_DIR, SPLITS, Rows, load_split
from helpers.tasks.shop.database import connect
from helpers.tasks.shop.schema import DEFAULT_SEED
from helpers.tasks.spec import ROWS, TASKS, classify_task, user_text

COUNTS: dict[str, dict[str, int]] = {name: {row.name: row.counts[name] for row in ROWS} for name in SPLITS}


def build_pairs(db_path: Path, seed: int) -> dict[str, Rows]:
    """The three splits of all tasks; `UserError` where the database is too small for the counts, or a record leaks."""
    splits: dict[str, Rows] = {name: [] for name in SPLITS}
    with closing(_open_for_scans(db_path)) as db:
        for task in TASKS:
            drafts = drafts_of(task)(db, random.Random(f"{seed} {task}"), EVERYTHING)
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


def add_pairs(db_path: Path, task: str, count: int, where: str, seed: int, splits: dict[str, Rows]) -> Rows:
    """`count` more records of one task, from the orders that `where` (an SQL condition) keeps.

    No record of `splits` is repeated, and what is near to one of eval or test is passed over, as in the build.
    Raises `UserError` for a condition that SQLite refuses, or where there are not enough new records.
    """
    used = {key for rows in splits.values() for record in rows for key in identity(record)}
    held_out = _near(task, splits.get("eval", []) + splits.get("test", []))
    with closing(_open_for_scans(db_path)) as db:
        try:
            db.execute(f"SELECT 1 FROM orders_enriched WHERE ({where}) LIMIT 1")
        except sqlite3.Error as error:
            raise UserError(f"--where {where!r}: {error}; it is an SQL condition on orders_enriched") from error
        drafts = drafts_of(task)(db, random.Random(f"{seed} {task} {where}"), where)
        return _take(task, "extra", count, drafts, used, held_out)


def write_extra_pairs(
    path: Path,
    db_path: Path,
    task: str,
    count: int,
    where: str = EVERYTHING,
    seed: int = DEFAULT_SEED,
    pairs: Path = PAIRS_DIR,
) -> Rows:
    """Write `add_pairs`' new records to `path`, none like a record of the three splits in `pairs`; returns them."""
    rows = add_pairs(db_path, task, count, where, seed, {name: load_split(name, pairs) for name in SPLITS})
    write_jsonl(path, rows)
    return rows


def draw_embedded_pairs(db_path: Path, task: str, count: int, seed: int, held_out: Rows) -> Rows:
    """Up to `count` records of one task from another shop: what an embedded policy is trained on.

    None repeats a record of `held_out`, or is near to one, as between train and eval.
    """
    used = {key for record in held_out for key in identity(record)}
    with closing(_open_for_scans(db_path)) as db:
        drafts = drafts_of(task)(db, random.Random(f"{seed} {task}"), EVERYTHING)
        return list(islice(_new_records(task, "embedded", drafts, used, _near(task, held_out)), count))


def draw_questions_by_chance(count: int, rng: random.Random, held_out: Rows) -> Rows:
    """So many sql_qa records whose values were drawn by chance, none with a source of `held_out`; without results."""
    used = {key for record in held_out for key in identity(record)}
    records = (draft.record("sql_qa-chance") for draft in drafts_by_chance(rng))
    return list(islice((record for record in records if not used.intersection(identity(record))), count))


def _near(task: str, records: Rows) -> NearDuplicates:
    """The prompts of one task among `records`, to find what is near to them."""
    near = NearDuplicates()
    for record in records:
        if record["task"] == task:
            near.add(user_text(record["prompt"]))
    return near


def _open_for_scans(db_path: Path) -> sqlite3.Connection:
    """The database, with a temporary `orders_enriched` without indexes in front of its own."""
    # Nearly all our queries read the whole table, and SQLite would walk it by an index to group by its column.
    db = connect(db_path)
    db.execute("PRAGMA cache_size = -200000")
    db.execute("PRAGMA temp_store = MEMORY")
    db.execute("CREATE TEMP TABLE orders_enriched AS SELECT * FROM main.orders_enriched")
    return db


def _split(task: str, drafts: Iterator[Draft]) -> dict[str, Rows]:
    """The drafts of one task dealt to test, eval and train, in this order, without what is near to an earlier split."""
    rows: dict[str, Rows] = {}
    used: set[tuple[str, str]] = set()
    held_out = NearDuplicates()
    for name in ("test", "eval", "train"):
        rows[name] = _take(task, name, COUNTS[name][task], drafts, used, held_out)
        for record in rows[name]:
            held_out.add(user_text(record["prompt"]))
    return rows


def _take(
    task: str, name: str, count: int, drafts: Iterator[Draft], used: set[tuple[str, str]], held_out: NearDuplicates
) -> Rows:
    """The next `count` of `_new_records`; `UserError` where there are fewer."""
    rows = list(islice(_new_records(task, name, drafts, used, held_out), count))
    if len(rows) < count:
        raise UserError(f"the orders give only {len(rows)} new {task} records for {name}, {count} were wanted")
    return rows


def _new_records(
    task: str, name: str, drafts: Iterator[Draft], used: set[tuple[str, str]], held_out: NearDuplicates
) -> Iterator[dict[str, Any]]:
    """Records that share no source with `used`, which grows, and are not near to `held_out`."""
    number = 0
    for draft in drafts:
        record = draft.record(f"{task}-{name}-{number + 1:04d}")
        keys = set(identity(record))
        if keys & used or (task in NEAR_TASKS and held_out.overlap(draft.user_text) > NEAR):
            continue
        reading = classify_task(draft.user_text)
        if reading != task:
            raise UserError(f"{record['id']}: its prompt reads as {reading}: {draft.user_text[:80]!r}")
        used |= keys
        number += 1
        yield record
