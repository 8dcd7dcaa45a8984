"""The nine Olist files and the tables they become (`tables.toml`), and the one table that Olist does not have."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from helpers.tasks.review import REVIEW_FIELDS

SHOP_DIR = Path(__file__).resolve().parent
DEFAULT_ORDERS = 12_000
DEFAULT_SEED = 2018


@dataclass(frozen=True)
class Table:
    """One table: the CSV file it comes from, its columns (name: text, integer, real or timestamp), and its keys."""

    name: str
    file: str
    columns: dict[str, str]
    key: Sequence[str] = ()
    references: dict[str, str] = field(default_factory=dict)
    nullable: Sequence[str] = ()
    indexes: Sequence[str] = ()


@cache
def load_toml(name: str) -> dict[str, Any]:
    """The content of `<name>.toml` of this folder."""
    return tomllib.loads((SHOP_DIR / f"{name}.toml").read_text(encoding="utf-8"))


FACTS = load_toml("facts")
"""What the simulator reproduces."""

TABLES = tuple(Table(name, **row) for name, row in load_toml("tables").items())

_KIND_OF = {"enum": "text", "score": "real", "bool": "integer", "text": "text"}
REVIEW_LABELS = Table(
    "review_labels",
    "review_labels.csv",
    {"review_id": "text", "order_id": "text"} | {name: _KIND_OF[kind] for name, kind in REVIEW_FIELDS.items()},
    key=("review_id", "order_id"),
    references={"order_id": "orders"},
    nullable=("main_complaint",),
)
"""What the simulator knows of each text it wrote: the ten fields. Olist has no such file; it is optional on import."""

ALL_TABLES = (*TABLES, REVIEW_LABELS)


def create_statement(table: Table) -> str:
    """The `CREATE TABLE` of one table.

    >>> create_statement(Table("t", "t.csv", {"id": "text", "n": "integer"}, key=["id"], nullable=["n"]))
    'CREATE TABLE t (id TEXT NOT NULL, n INTEGER, PRIMARY KEY (id))'
    """
    sql_type = {"text": "TEXT", "timestamp": "TEXT", "integer": "INTEGER", "real": "REAL"}
    lines = []
    for name, kind in table.columns.items():
        lines.append(f"{name} {sql_type[kind]}" + ("" if name in table.nullable else " NOT NULL"))
    if table.key:
        lines.append(f"PRIMARY KEY ({', '.join(table.key)})")
    lines += [f"FOREIGN KEY ({name}) REFERENCES {target} ({name})" for name, target in table.references.items()]
    return f"CREATE TABLE {table.name} ({', '.join(lines)})"
