"""Run an untrusted SQLite query: reading only, bounded in steps, time, rows, bytes and memory, in this process.

Four fences, each enough for some attacks and none for all: the file is opened read-only (`mode=ro`, `query_only`);
an authorizer lets a statement select, read ordinary tables and call known functions, nothing else; SQLite's own
limits bound a query's text, its depth, and every string it builds; a progress handler counts the virtual machine's
steps and watches the clock. Steps are the limit that counts: unlike seconds, they are the same on every machine.
"""

import os
import re
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from helpers.core.errors import UserError
from helpers.core.files import database_path

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
# Of these the date functions are deterministic only where they are given a date: without one they read the clock.
_CLOCK = re.compile(
    r"'now'|\b(?:date|datetime|time|julianday|unixepoch)\s*\(\s*\)|\bstrftime\s*\(\s*'[^']*'\s*\)", re.IGNORECASE
)
_READING_OPCODES = ("OpenRead", "ReopenIdx")


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
    """The tables and columns that a query reads, in lower case."""

    tables: frozenset[str]
    columns: frozenset[str]


class _OutOfBudgetError(Exception):
    pass


_QUERY_ERRORS = (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError, MemoryError, _OutOfBudgetError)


class _Connection(sqlite3.Connection):
    """A connection that notes what its statements read: (table, column) pairs in lower case."""

    reads: set[tuple[str, str]]
    table_at: dict[int, str]
    """The table, in lower case, whose rows or index begin on a page of the file."""


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
    with _LOCK:
        connection = _connection(Path(db_path))
        started = time.perf_counter()
        try:
            columns, rows, truncated = _run(connection, sql, max_rows, max_bytes, _Budget(max_steps, max_seconds))
        except _QUERY_ERRORS as error:
            return QueryResult(error=_reason(error), elapsed=time.perf_counter() - started)
        return QueryResult(columns, rows, truncated, None, time.perf_counter() - started)


def describe_query(sql: str, db_path: Path | str | None = None) -> QueryNames | None:
    """The tables and columns of a database (default: the one at hand) that a query reads; None where it is no SELECT.

    SQLite itself says so while it prepares the query, so that what is described is what `run_query` runs: the query's
    own CTEs are no tables, whatever their names, and a view is the tables behind it: those that the prepared program
    opens. Raises `UserError` where the database is missing.
    """
    with _LOCK:
        connection = _connection(Path(db_path or database_path()))
        connection.reads.clear()
        try:
            _refuse(sql)
            program = connection.execute(f"EXPLAIN {sql}").fetchall()
        except _QUERY_ERRORS:
            return None
        opened = {connection.table_at.get(page) for _, opcode, _, page, *_ in program if opcode in _READING_OPCODES}
        columns = {column for _, column in connection.reads if column}
        return QueryNames(frozenset(table for table in opened if table), frozenset(columns))


def _refuse(sql: str) -> None:
    if len(sql) > MAX_SQL_CHARACTERS:
        raise _OutOfBudgetError(f"the query is longer than {MAX_SQL_CHARACTERS} characters")
    if _CLOCK.search(sql):
        raise _OutOfBudgetError("the query reads the clock: its answer would change from day to day")


def _run(
    connection: sqlite3.Connection, sql: str, max_rows: int, max_bytes: int, budget: _Budget
) -> tuple[tuple[str, ...], list[tuple[Any, ...]], bool]:
    _refuse(sql)
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


# SQLite's heap limit is the process's, so that a greedy query on one thread would fail an innocent one on another:
# one connection, and one query at a time. A fork may copy the lock while a thread of its parent holds it.
_LOCK = threading.Lock()
_open_connection: dict[tuple[Any, ...], _Connection] = {}


def _renew_lock() -> None:
    global _LOCK
    _LOCK = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


def _connection(path: Path) -> _Connection:
    """The connection to `path`, opened anew when the file was replaced or the process forked."""
    try:
        stat = path.stat()
    except OSError as error:
        raise UserError(f"{path}: no database to query; build it with `python -m helpers data`") from error
    key = (os.getpid(), str(path), stat.st_ino, stat.st_mtime_ns, stat.st_size)
    if key not in _open_connection:
        _open_connection.clear()
        _open_connection[key] = _open(path)
    return _open_connection[key]


def _open(path: Path) -> _Connection:
    connection = sqlite3.connect(
        f"file:{quote(str(path.resolve()))}?mode=ro",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=0,  # a statement out of the cache is not authorized again, so that its reads go unnoticed
        factory=_Connection,
    )
    connection.text_factory = _decode
    for statement in _SETUP:
        connection.execute(statement).fetchall()
    for limit, value in _LIMITS.items():
        connection.setlimit(limit, value)
    # SQLite's own trimming of given characters takes (length x characters) steps that no budget counts.
    for name, left, right in (("trim", True, True), ("ltrim", True, False), ("rtrim", False, True)):
        connection.create_function(name, 2, partial(_trimmed, left, right), deterministic=True)
    # Before the authorizer, which keeps the schema table from every query.
    pages = connection.execute("SELECT rootpage, lower(tbl_name) FROM sqlite_master WHERE rootpage > 0")
    connection.table_at = dict(pages.fetchall())
    connection.reads = set()
    connection.set_authorizer(partial(_authorize, connection.reads))
    return connection


def _trimmed(left: bool, right: bool, value: Any, characters: Any) -> str | None:
    if value is None or characters is None:
        return None
    text, dropped = str(value), frozenset(str(characters))
    start, end = 0, len(text)
    while left and start < end and text[start] in dropped:
        start += 1
    while right and start < end and text[end - 1] in dropped:
        end -= 1
    return text[start:end]


def _decode(raw: bytes) -> str:
    return raw.decode("utf-8", errors="replace")


def _authorize(
    reads: set[tuple[str, str]], action: int, first: str | None, second: str | None, database: Any, source: Any
) -> int:
    if action == sqlite3.SQLITE_READ:
        table = (first or "").lower()
        reads.add((table, (second or "").lower()))
        allowed = not table.startswith(("sqlite_", "pragma_"))
    elif action == sqlite3.SQLITE_FUNCTION:
        allowed = (second or "").lower() in _ALLOWED_FUNCTIONS
    else:
        allowed = action in _ALLOWED_ACTIONS
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY
