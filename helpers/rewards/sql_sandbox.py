"""Run an untrusted SQLite query: reading only, bounded in steps, time, rows, bytes and memory, in this process.

Four fences, each enough for some attacks and none for all: the file is opened read-only (`mode=ro`, `query_only`);
an authorizer lets a statement select, read ordinary tables and call known functions, nothing else; SQLite's own
limits bound a query's text, its depth, and every string it builds; a progress handler counts the virtual machine's
steps and watches the clock. Steps are the limit that counts: unlike seconds, they are the same on every machine.
"""

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlglot
from sqlglot import exp

from helpers.core.errors import UserError

MAX_ROWS = 200
MAX_RESULT_BYTES = 256 * 1024
MAX_STEPS = 20_000_000
MAX_SECONDS = 1.0
MAX_SQL_CHARACTERS = 8_000
MAX_VALUE_BYTES = 16 * 1024
HEAP_BYTES = 96 * 2**20
"""SQLite's heap limit holds for every connection of the process; other users of SQLite here need far less."""

_STEPS_A_CHECK = 250
_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: MAX_VALUE_BYTES,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: MAX_VALUE_BYTES,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 100,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 20,
    sqlite3.SQLITE_LIMIT_COLUMN: 100,
    sqlite3.SQLITE_LIMIT_VDBE_OP: 20_000,
    sqlite3.SQLITE_LIMIT_FUNCTION_ARG: 20,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 100,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}
_SETUP = (
    "PRAGMA query_only = ON",
    "PRAGMA trusted_schema = OFF",
    "PRAGMA temp_store = MEMORY",  # sorting spills to memory under the heap limit, not to a disk without one
    f"PRAGMA mmap_size = {2**28}",  # halves the time of a query that reads a whole table
    f"PRAGMA hard_heap_limit = {HEAP_BYTES}",
)
_ALLOWED_ACTIONS = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_RECURSIVE}
# Deterministic functions a business question needs; no `random`, blobs, JSON, files or extensions. No `printf` either:
# one call with a huge width runs for seconds inside a single step, where no budget can stop it.
_FUNCTION_NAMES = (
    "abs avg cast ceil ceiling char coalesce concat count cume_dist date datetime dense_rank first_value floor "
    "glob group_concat ifnull iif instr julianday lag last_value lead length like ln log log10 lower ltrim max min mod "
    "nth_value ntile nullif percent_rank pow power rank replace round row_number rtrim sign sqrt strftime "
    "string_agg substr substring sum time total trim trunc typeof unixepoch upper"
)
_ALLOWED_FUNCTIONS = frozenset(_FUNCTION_NAMES.split())


@dataclass(frozen=True)
class QueryResult:
    """What a query returned, or why it did not: `error` is None exactly where it ran to its end or to a row limit."""

    columns: tuple[str, ...] = ()
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    truncated: bool = False
    error: str | None = None
    elapsed: float = 0.0
    """Seconds."""


@dataclass(frozen=True)
class QueryNames:
    """What a query reads, as its text names it, in lower case: tables and columns (not its own names), aggregates."""

    tables: frozenset[str]
    columns: frozenset[str]
    aggregates: frozenset[str]


class _OutOfBudgetError(Exception):
    pass


@dataclass
class _Budget:
    """Counts a query's steps and watches its deadline; `stopped` says which of the two ended it."""

    steps: int
    seconds: float
    deadline: float = 0.0
    stopped: str = ""

    def start(self) -> None:
        """Let the seconds run from now on."""
        self.deadline = time.monotonic() + self.seconds

    def check(self) -> int:
        """SQLite's progress handler: a non-zero answer interrupts the query."""
        self.steps -= _STEPS_A_CHECK
        if self.steps < 0:
            self.stopped = "too many steps"
        elif time.monotonic() > self.deadline:
            self.stopped = f"longer than {self.seconds:g} s"
        return int(bool(self.stopped))


def run_query(
    db_path: Path | str,
    sql: str,
    max_rows: int = MAX_ROWS,
    max_steps: int = MAX_STEPS,
    max_seconds: float = MAX_SECONDS,
    max_bytes: int = MAX_RESULT_BYTES,
) -> QueryResult:
    """Run one SELECT on the SQLite file `db_path` and return its first `max_rows` rows.

    Whatever the query's text is, the file stays as it was and no exception comes out: what is refused or stopped is
    told in `QueryResult.error`. Raises `UserError` only where the database itself is missing.
    """
    started = time.perf_counter()
    connection = _connection(Path(db_path))
    try:
        columns, rows, truncated = _run(connection, sql, max_rows, max_bytes, _Budget(max_steps, max_seconds))
    except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError, MemoryError, _OutOfBudgetError) as error:
        return QueryResult(error=_reason(error), elapsed=time.perf_counter() - started)
    return QueryResult(columns, rows, truncated, None, time.perf_counter() - started)


def describe_query(sql: str) -> QueryNames | None:
    """The tables, columns and aggregate functions that a query names; None where it is not one readable SELECT.

    >>> names = describe_query("SELECT AVG(price) FROM order_items WHERE price > 10")
    >>> sorted(names.tables), sorted(names.columns), sorted(names.aggregates)
    (['order_items'], ['price'], ['avg'])
    """
    if not isinstance(sql, str) or len(sql) > MAX_SQL_CHARACTERS:
        return None
    try:
        statements = sqlglot.parse(sql, dialect="sqlite")
        if len(statements) != 1 or not isinstance(statements[0], exp.Query):
            return None
        return _names(statements[0])
    except (sqlglot.errors.SqlglotError, RecursionError, ValueError):
        return None


def _names(query: exp.Query) -> QueryNames:
    own = {cte.alias.lower() for cte in query.find_all(exp.CTE)}
    tables = {table.name.lower() for table in query.find_all(exp.Table)} - own
    columns = {column.name.lower() for column in query.find_all(exp.Column)}
    columns -= {alias.alias.lower() for alias in query.find_all(exp.Alias)}
    aggregates = {function.sql_name().lower() for function in query.find_all(exp.AggFunc)}
    return QueryNames(frozenset(tables), frozenset(columns), frozenset(aggregates))


def _run(
    connection: sqlite3.Connection, sql: str, max_rows: int, max_bytes: int, budget: _Budget
) -> tuple[tuple[str, ...], list[tuple[Any, ...]], bool]:
    if len(sql) > MAX_SQL_CHARACTERS:
        raise _OutOfBudgetError(f"the query is longer than {MAX_SQL_CHARACTERS} characters")
    budget.start()
    connection.set_progress_handler(budget.check, _STEPS_A_CHECK)
    cursor = connection.cursor()
    try:
        cursor.execute(sql)
        if cursor.description is None:
            raise _OutOfBudgetError("not a query: it returns no rows")
        rows, truncated = _take(cursor, max_rows, max_bytes)
        return tuple(name for name, *_ in cursor.description), rows, truncated
    except sqlite3.OperationalError as error:
        raise _OutOfBudgetError(f"stopped: {budget.stopped}") if budget.stopped else error from error
    finally:
        cursor.close()
        connection.set_progress_handler(None, 0)


def _take(cursor: Iterator[tuple[Any, ...]], max_rows: int, max_bytes: int) -> tuple[list[tuple[Any, ...]], bool]:
    rows: list[tuple[Any, ...]] = []
    size = 0
    for row in cursor:
        size += sum(len(value) if isinstance(value, str | bytes) else 8 for value in row)
        if len(rows) == max_rows or size > max_bytes:
            return rows, True
        rows.append(row)
    return rows, False


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__.removeprefix('_')}: {error}" if str(error) else type(error).__name__


_local = threading.local()


def _connection(path: Path) -> sqlite3.Connection:
    """This thread's connection to `path`, opened anew when the file was replaced or the process forked."""
    try:
        stat = path.stat()
    except OSError as error:
        raise UserError(f"{path}: no database to query; build it with `python -m helpers data`") from error
    key = (os.getpid(), str(path), stat.st_ino, stat.st_mtime_ns, stat.st_size)
    if getattr(_local, "key", None) != key:
        _local.connection, _local.key = _open(path), key
    return _local.connection


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro", uri=True, isolation_level=None)
    connection.text_factory = _decode
    for statement in _SETUP:
        connection.execute(statement).fetchall()
    for limit, value in _LIMITS.items():
        connection.setlimit(limit, value)
    connection.set_authorizer(_authorize)
    return connection


def _decode(raw: bytes) -> str:
    return raw.decode("utf-8", errors="replace")


def _authorize(action: int, first: str | None, second: str | None, database: str | None, source: str | None) -> int:
    if action == sqlite3.SQLITE_READ:
        allowed = not (first or "").lower().startswith(("sqlite_", "pragma_"))
    elif action == sqlite3.SQLITE_FUNCTION:
        allowed = (second or "").lower() in _ALLOWED_FUNCTIONS
    else:
        allowed = action in _ALLOWED_ACTIONS
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY
