"""Drafts: what a task's module of this folder draws from the shop, still without an id or a split."""

import random
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from helpers.tasks.spec import build_prompt, user_text

MAX_USER_CHARACTERS = 600
EVERYTHING = "1"  # a WHERE condition that keeps all rows


@dataclass(frozen=True)
class Draft:
    """A record to be: the user's text, the reference and the meta."""

    task: str
    user_text: str
    reference: dict[str, Any]
    meta: dict[str, Any]

    def record(self, identity: str) -> dict[str, Any]:
        """The draft as a row of pairs."""
        prompt = build_prompt(self.task, self.user_text)
        return {"id": identity, "task": self.task, "prompt": prompt, "reference": self.reference, "meta": self.meta}


def drafts_of(task: str) -> Callable[[sqlite3.Connection, random.Random, str], Iterator[Draft]]:
    """`drafts(db, rng, where)` of `helpers.tasks.pairs.<task>`: its drafts, from the orders that `where` keeps."""
    return import_module(f"helpers.tasks.pairs.{task}").drafts


def common_values(
    db: sqlite3.Connection, column: str, at_least: int, where: str = EVERYTHING, table: str = "orders_enriched"
) -> list[str]:
    """The values of a column, or SQL expression, that at least so many of the table's rows have, in order."""
    rows = db.execute(
        f"SELECT {column} FROM {table} WHERE {column} IS NOT NULL AND ({where}) "
        f"GROUP BY 1 HAVING COUNT(*) >= {at_least} ORDER BY 1"
    )
    return [row[0] for row in rows]


def identity(record: dict[str, Any]) -> list[tuple[str, str]]:
    """What a record is made from, as (kind, value) pairs that no two splits may share: its prompt, and what
    `identity(record)` of `helpers.tasks.pairs.<task>` adds."""
    own = import_module(f"helpers.tasks.pairs.{record['task']}").identity(record)
    return [("prompt", user_text(record["prompt"])), *own]
