"""The sandbox answers business questions and refuses or stops everything else."""

import hashlib
import resource
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.core.errors import UserError
from helpers.rewards import sql_sandbox
from helpers.rewards.sql_sandbox import describe_query, run_query

ROWS = 3000
LONG = "replace(replace(replace('aaaaaaaaaa','a','aaaaaaaaaa'),'a','aaaaaaaaaa'),'a','aaaaaaaaaa')"  # 10,000 letters

ATTACKS = {
    "insert": "INSERT INTO orders VALUES (1, 'SP', 2.0)",
    "update": "UPDATE orders SET price = 0",
    "delete behind a CTE": "WITH x AS (SELECT 1) DELETE FROM orders",
    "drop": "DROP TABLE orders",
    "create": "CREATE TABLE t (x)",
    "create temp": "CREATE TEMP TABLE t (x)",
    "attach": "ATTACH DATABASE '{other}' AS other",
    "vacuum into a file": "VACUUM INTO '{other}'",
    "reindex": "REINDEX",
    "begin": "BEGIN EXCLUSIVE",
    "writable schema": "PRAGMA writable_schema = ON",
    "reading a pragma": "PRAGMA table_info(orders)",
    "pragma as a table": "SELECT * FROM pragma_table_info('orders')",
    "lifting the heap limit": "PRAGMA hard_heap_limit = 0",
    "the schema table": "SELECT sql FROM sqlite_master",
    "extension": "SELECT load_extension('/tmp/evil.so')",
    "endless recursion": "WITH RECURSIVE r(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM r) SELECT COUNT(*) FROM r",
    "endless growing rows": f"WITH RECURSIVE r(x, s) AS (SELECT 1, {LONG} UNION SELECT x + 1, s FROM r) "
    "SELECT COUNT(*) FROM r",
    "cross join of 10^12 rows": "SELECT COUNT(*) FROM orders a, orders b, orders c, orders d",
    "sorted cross join": "SELECT * FROM orders a, orders b ORDER BY a.price * b.price",
    "sorted cross join of long rows": f"SELECT a.price, {LONG} || b.id AS s FROM orders a, orders b ORDER BY s",
    "distinct over a cross join": "SELECT COUNT(DISTINCT a.id || '-' || b.id) FROM orders a, orders b",
    "printf of 100 MB": "SELECT printf('%.*c', 100000000, 'x')",
    "format of 2 GB": "SELECT format('%2147483647d', 1)",
    "zeroblob of 100 MB": "SELECT zeroblob(100000000)",
    "hex of a zeroblob": "SELECT hex(zeroblob(50000000))",
    "replace to 100 MB": f"SELECT replace({LONG}, 'a', {LONG})",
    "group_concat of everything": f"SELECT group_concat({LONG}) FROM orders",
    "many slow function calls": f"SELECT COUNT(instr({LONG} || a.id, {LONG} || b.id)) FROM orders a, orders b",
    "10,000 ORs": "SELECT 1 FROM orders WHERE " + " OR ".join(["id = 1"] * 10_000),
    "700 ORs": "SELECT 1 FROM orders WHERE " + " OR ".join(["id=1"] * 700),
    "deep parentheses": "SELECT " + "(" * 3000 + "1" + ")" * 3000,
    "doubling CTEs": "WITH a0 AS (SELECT id FROM orders), "
    + ", ".join(f"a{i} AS (SELECT id FROM a{i - 1} UNION ALL SELECT id FROM a{i - 1})" for i in range(1, 30))
    + " SELECT COUNT(*) FROM a29",
    "trimming many characters": f"SELECT COUNT(trim({LONG} || a.id, {LONG} || b.id)) FROM orders a, orders b",
    "joins without a condition": "SELECT COUNT(*) FROM orders" + " JOIN orders" * 60,
    "several statements": "SELECT 1; DROP TABLE orders",
    "two selects": "SELECT 1; SELECT 2",
    "random": "SELECT random()",
    "a null character": "SELECT 1\0",
    "a lone surrogate": "SELECT '\ud800'",
    "nothing": "",
    "a comment": "-- SELECT 1",
    "prose": "Não sei responder.",
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shop") / "shop with space?.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE orders (id INTEGER, state TEXT, price REAL)")
        rows = [(number, "SP" if number % 2 else "RJ", number / 10) for number in range(ROWS)]
        connection.executemany("INSERT INTO orders VALUES (?, ?, ?)", rows)
        connection.execute("CREATE TABLE indexed (id TEXT PRIMARY KEY, place INTEGER UNIQUE) WITHOUT ROWID")
        connection.execute("CREATE VIEW enriched AS SELECT *, lower(state) AS lower_state FROM orders")
    connection.close()
    return path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def peak_mebibytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def test_a_query_returns_columns_and_rows(shop: Path) -> None:
    result = run_query(shop, "SELECT state, COUNT(*) AS orders FROM orders GROUP BY state ORDER BY state")
    assert (result.columns, result.rows) == (("state", "orders"), [("RJ", 1500), ("SP", 1500)])
    assert result.error is None and not result.truncated


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT state, ROUND(AVG(price), 2) FROM enriched WHERE lower_state = 'sp' GROUP BY 1;",
        "WITH t AS (SELECT state, SUM(price) AS s FROM orders GROUP BY 1) SELECT * FROM t ORDER BY s DESC -- fim",
        "SELECT id, RANK() OVER (PARTITION BY state ORDER BY price DESC) FROM orders LIMIT 3",
        "SELECT strftime('%Y-%m', '2018-01-15'), julianday('2018-01-02') - julianday('2018-01-01')",
        "SELECT CASE WHEN price > 5 THEN 'caro' ELSE 'barato' END, 100.0 * COUNT(*) / SUM(COUNT(*)) OVER () "
        "FROM orders GROUP BY 1",
        "SELECT state FROM orders WHERE state LIKE 'S%' UNION SELECT REPLACE(state, 'R', '_') FROM orders",
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 12) SELECT x FROM n",
    ],
)
def test_ordinary_analysis_runs(shop: Path, sql: str) -> None:
    result = run_query(shop, sql)
    assert result.error is None and result.rows


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_refused_or_stopped_and_leaves_nothing_behind(shop: Path, tmp_path: Path, name: str) -> None:
    before, memory = digest(shop), peak_mebibytes()
    result = run_query(shop, ATTACKS[name].replace("{other}", str(tmp_path / "other.db")))
    assert result.error is not None and result.rows == []
    assert digest(shop) == before and list(tmp_path.iterdir()) == []
    assert peak_mebibytes() - memory < 256
    assert run_query(shop, "SELECT COUNT(*) FROM orders").rows == [(ROWS,)]


def test_the_step_limit_stops_a_query_and_says_so(shop: Path) -> None:
    result = run_query(shop, "SELECT COUNT(*) FROM orders a, orders b", max_steps=10_000)
    assert result.error is not None and "too many steps" in result.error


def test_the_time_limit_stops_a_query_and_says_so(shop: Path) -> None:
    result = run_query(shop, "SELECT COUNT(*) FROM orders a, orders b, orders c", max_steps=10**12, max_seconds=0.05)
    assert result.error is not None and "longer than 0.05 s" in result.error


def test_trimming_costs_no_more_steps_than_it_has_characters(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Counted(str):
        looked_at = 0

        def __getitem__(self, place: Any) -> str:
            Counted.looked_at += 1
            return super().__getitem__(place)

    assert sql_sandbox._trimmed(True, True, Counted("x" * 5000 + "a"), "xyz" * 1000) == "a"
    assert Counted.looked_at < 5010
    assert run_query(shop, "SELECT trim('xaxyx', 'xy'), ltrim('007', '0'), rtrim('1.50', '0'), trim(' a ')").rows == [
        ("a", "7", "1.5", "a")
    ]


def test_a_greedy_query_on_one_thread_does_not_fail_an_innocent_one_on_another(shop: Path) -> None:
    greedy = f"SELECT a.price, {LONG} || b.id AS s FROM orders a, orders b ORDER BY s"
    innocent = "SELECT state, COUNT(*) FROM orders GROUP BY state"
    with ThreadPoolExecutor(4) as pool:
        errors = list(pool.map(lambda sql: run_query(shop, sql).error, [greedy, innocent] * 4))
    assert errors[1::2] == [None] * 4 and None not in errors[::2]


@pytest.mark.parametrize(
    "clock", ["date('now')", "julianday()", "strftime('%Y', 'NOW', '-1 year')", "strftime('%Y')", "unixepoch( )"]
)
def test_a_query_that_reads_the_clock_is_refused(shop: Path, clock: str) -> None:
    sql = f"SELECT COUNT(*) FROM orders WHERE state < {clock}"
    error = run_query(shop, sql).error
    assert error is not None and "reads the clock" in error
    assert describe_query(sql, shop) is None


def test_rows_beyond_the_limit_are_cut_and_told(shop: Path) -> None:
    result = run_query(shop, "SELECT id FROM orders", max_rows=5)
    assert len(result.rows) == 5 and result.truncated


def test_bytes_beyond_the_limit_are_cut_and_told(shop: Path) -> None:
    result = run_query(shop, f"SELECT {LONG} FROM orders", max_bytes=50_000)
    assert len(result.rows) == 5 and result.truncated


def test_text_that_is_not_utf8_is_read_with_marks(shop: Path) -> None:
    assert run_query(shop, "SELECT CAST(x'FF' AS TEXT)").rows == [("\ufffd",)]


def test_a_rebuilt_database_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    for answer in (1, 2):
        fresh = tmp_path / "fresh.db"
        with sqlite3.connect(fresh) as connection:
            connection.execute("CREATE TABLE t AS SELECT ? AS x", (answer,))
        connection.close()
        fresh.replace(path)
        assert run_query(path, "SELECT x FROM t").rows == [(answer,)]


def test_a_missing_database_is_a_user_error_naming_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"missing\.db.*python -m helpers data"):
        run_query(tmp_path / "missing.db", "SELECT 1")


@settings(max_examples=200, deadline=None)
@given(sql=st.text(max_size=200) | st.text(max_size=60).map(lambda text: f"SELECT {text} FROM orders"))
def test_no_text_raises(shop: Path, sql: str) -> None:
    result = run_query(shop, sql)
    assert result.error is None or result.rows == []
    describe_query(sql, shop)


@pytest.mark.parametrize(
    ("sql", "tables", "columns"),
    [
        ("SELECT AVG(price) FROM Orders o WHERE o.id > 1", {"orders"}, {"price", "id"}),
        ("WITH t AS (SELECT price AS p FROM orders) SELECT SUM(p) FROM t", {"orders"}, {"price"}),
        (
            "WITH orders AS (SELECT * FROM main.orders) SELECT COUNT(*) FROM orders",
            {"orders"},
            {"id", "state", "price"},
        ),
        ("WITH orders AS (SELECT 1 AS id) SELECT id FROM orders", set(), set()),
        ("-- a\n/* b */ SELECT COUNT(*) FROM orders /* c */; -- d", {"orders"}, set()),
        ("SELECT lower_state FROM enriched", {"orders"}, {"lower_state", "state"}),
        ("SELECT 1", set(), set()),
        ("WITH r AS (SELECT 1) SELECT 17 AS n FROM r", set(), set()),
        ("WITH orders AS (SELECT 1) SELECT 17 AS n FROM orders", set(), set()),
        ("SELECT COUNT(*) FROM enriched", {"orders"}, set()),
        ("SELECT COUNT(*) FROM orders WHERE EXISTS (SELECT 1 FROM indexed)", {"orders", "indexed"}, set()),
        ("SELECT COUNT(*) FROM indexed WHERE id = 'a' OR place = 2", {"indexed"}, {"id", "place"}),
    ],
)
def test_a_description_names_the_tables_and_columns_that_are_read(
    shop: Path, sql: str, tables: set[str], columns: set[str]
) -> None:
    for _ in range(2):
        assert run_query(shop, sql).error is None
        names = describe_query(sql, shop)
        assert names is not None and names.tables == tables
        assert columns <= names.columns if "enriched" in sql else names.columns == columns


@pytest.mark.parametrize("sql", ["", "DROP TABLE orders", "SELECT 1; SELECT 2", "SELECT (", "SELECT " + "(" * 5000])
def test_what_is_not_one_query_has_no_description(shop: Path, sql: str) -> None:
    assert describe_query(sql, shop) is None
