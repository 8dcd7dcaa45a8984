"""Tables into `commerce.db`: SQLite with keys, indexes and `orders_enriched`; the old file stays if anything fails."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pandas as pd

from helpers.core.errors import UserError
from helpers.core.files import replacing
from helpers.tasks.shop.schema import ALL_TABLES, SHOP_DIR, Table, create_statement


def build_db(tables: dict[str, pd.DataFrame], path: Path) -> None:
    """Write the tables to the SQLite file `path` in one step; `UserError` where a row breaks a key."""
    with replacing(path) as temporary, closing(sqlite3.connect(temporary)) as connection:
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        for table in ALL_TABLES:
            connection.execute(create_statement(table))
            if table.name in tables:
                _insert(connection, table, tables[table.name])
        for table in ALL_TABLES:
            for column in table.indexes:
                connection.execute(f"CREATE INDEX {table.name}_{column} ON {table.name} ({column})")
        broken = connection.execute("PRAGMA foreign_key_check").fetchone()
        if broken is not None:
            raise UserError(f"{broken[0]}, row {broken[1]}: refers to a row that {broken[2]} does not have")
        connection.executescript((SHOP_DIR / "sql" / "orders_enriched.sql").read_text(encoding="utf-8"))
        connection.execute("ANALYZE")
        connection.commit()


def connect(path: Path) -> sqlite3.Connection:
    """A read-only connection to the database; `UserError` where there is none."""
    if not path.is_file():
        raise UserError(f"{path}: no such database; `python -m helpers data` builds it")
    return sqlite3.connect(path.resolve().as_uri() + "?mode=ro", uri=True)


def _insert(connection: sqlite3.Connection, table: Table, frame: pd.DataFrame) -> None:
    columns = []
    for name in table.columns:
        column = frame[name]
        if name in table.nullable:
            column = column.astype(object).where(column.notna(), None)
        columns.append(column.tolist())
    marks = ", ".join("?" * len(table.columns))
    try:
        connection.executemany(f"INSERT INTO {table.name} VALUES ({marks})", zip(*columns, strict=True))
    except sqlite3.IntegrityError as error:
        raise UserError(f"{table.file}: {error}; each row needs its own {' + '.join(table.key)}") from error
