"""Damaged Olist files: each kind of damage is mended and reported, or refused with file and line; nothing comes later.

What imports builds a database and pairs, and what is built loads as records.
"""

import csv
import random
import re
import shutil
from collections.abc import Callable
from contextlib import closing
from itertools import islice
from pathlib import Path

import pytest

from helpers.cli import main
from helpers.core.errors import UserError
from helpers.core.files import write_jsonl
from helpers.tasks import TASKS
from helpers.tasks.pairs.drafts import drafts_of
from helpers.tasks.records import load_records
from helpers.tasks.shop.database import build_db, connect
from helpers.tasks.shop.import_olist import read_csv_folder, write_csv_folder
from helpers.tasks.shop.schema import TABLES
from helpers.tasks.shop.simulate import simulate

Damage = Callable[[Path], None]

CUSTOMERS, GEOLOCATION = "olist_customers_dataset.csv", "olist_geolocation_dataset.csv"
SELLERS, PRODUCTS = "olist_sellers_dataset.csv", "olist_products_dataset.csv"
ORDERS, ITEMS = "olist_orders_dataset.csv", "olist_order_items_dataset.csv"
PAYMENTS, REVIEWS = "olist_order_payments_dataset.csv", "olist_order_reviews_dataset.csv"


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    write_csv_folder(simulate(orders=700, seed=5), folder)
    return folder


@pytest.fixture
def folder(export: Path, tmp_path: Path) -> Path:
    """A copy of the export to damage."""
    return Path(shutil.copytree(export, tmp_path / "csv"))


def read(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.reader(file))


def write(path: Path, rows: list[list[str]], separator: str = ",") -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=separator, lineterminator="\n").writerows(rows)


def cell(file: str, column: str, value: str | Callable[[str], str], *lines: int) -> Damage:
    """Set the cells of one column on these lines (rows of the simulator span one line each; none given: on all)."""

    def damage(folder: Path) -> None:
        rows = read(folder / file)
        place = rows[0].index(column)
        for line in lines or range(2, len(rows) + 1):
            old = rows[line - 1][place]
            rows[line - 1][place] = value(old) if callable(value) else value
        write(folder / file, rows)

    return damage


def text(file: str, change: Callable[[bytes], bytes]) -> Damage:
    """Change a file's bytes."""
    return lambda folder: (folder / file).write_bytes(change((folder / file).read_bytes())) and None


def line(number: int, change: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """A change of one line (its end excluded)."""

    def changed(data: bytes) -> bytes:
        lines = data.split(b"\n")
        lines[number - 1] = change(lines[number - 1])
        return b"\n".join(lines)

    return changed


def with_separator(file: str, separator: str) -> Damage:
    return lambda folder: write(folder / file, read(folder / file), separator)


def delivered_before_bought(folder: Path) -> None:
    rows = read(folder / ORDERS)
    delivered, bought = (rows[0].index(f"order_{name}") for name in ("delivered_customer_date", "purchase_timestamp"))
    first = next(row for row in rows[1:] if row[delivered])
    first[bought] = "2018-12-24 10:00:00"
    write(folder / ORDERS, rows)


MENDED: dict[str, tuple[Damage, str]] = {
    "states in lower case": (
        cell(CUSTOMERS, "customer_state", str.lower, 3, 5),
        r"customers_dataset\.csv: 2 cells of customer_state in the wrong case mended, first on line 3",
    ),
    "all states in lower case": (cell(SELLERS, "seller_state", str.lower), r"30 cells of seller_state .* line 2"),
    "states with spaces": (cell(GEOLOCATION, "geolocation_state", " sp", 2), r"1 cell of geolocation_state freed"),
    "statuses in capitals": (cell(ORDERS, "order_status", str.upper, 9), r"1 cell of order_status in the wrong case"),
    "scores out of range": (
        cell(REVIEWS, "review_score", "8", 12),
        r"reviews_dataset\.csv: 1 review score out of range \(1 to 5\) left out, first on line 12",
    ),
    "scores of zero": (cell(REVIEWS, "review_score", "0", 7), r"1 review score out of range .* line 7"),
    "negative scores": (cell(REVIEWS, "review_score", "-1", 7), r"1 review score out of range .* line 7"),
    "delivered before bought": (
        delivered_before_bought,
        r"orders_dataset\.csv: 1 delivery date before the purchase left empty",
    ),
    "NUL bytes": (
        text(REVIEWS, line(4, lambda row: row.replace(b",", b"\0,\0", 1))),
        r"reviews_dataset\.csv: 2 NUL bytes left out, first on line 4",
    ),
    "semicolons": (with_separator(PAYMENTS, ";"), r"payments_dataset\.csv: read with ';' between its cells"),
    "tabs": (with_separator(PRODUCTS, "\t"), r"products_dataset\.csv: read with '\\t' between its cells"),
    "quoted header and semicolons": (
        text(SELLERS, lambda data: b'"' + data.replace(b"\n", b'"\n"').replace(b",", b'";"')[:-1]),
        r"sellers_dataset\.csv: read with ';'",
    ),
    "blank comments": (cell(REVIEWS, "review_comment_message", "  \n ", 3), r"1 blank cell of review_comment_message"),
    "a category's spaces": (cell(PRODUCTS, "product_category_name", " audio\n", 2), r"1 cell of product_category_name"),
    "no rows": (text(GEOLOCATION, lambda data: data.split(b"\n")[0] + b"\n"), r"geolocation_dataset\.csv: no rows"),
}
READ_AS_IT_IS: dict[str, Damage] = {
    "a BOM": text(ITEMS, lambda data: b"\xef\xbb\xbf" + data),
    "Windows line ends": text(ITEMS, lambda data: data.replace(b"\n", b"\r\n")),
    "old Macintosh line ends": text(ITEMS, lambda data: data.replace(b"\n", b"\r")),
    "blank lines": text(ITEMS, lambda data: b"\n" + data.replace(b"\n", b"\n\n")),
    "columns in another order": lambda folder: write(folder / ITEMS, [row[::-1] for row in read(folder / ITEMS)]),
    "columns beside them": lambda folder: write(folder / ITEMS, [[*row, "x"] for row in read(folder / ITEMS)]),
    "spaces in the header": text(ITEMS, line(1, lambda row: row.replace(b",", b", "))),
    "a quote inside a cell": cell(REVIEWS, "review_comment_message", 'Tela de 5" linda, "top"', 3),
    "categories with an apostrophe": cell(
        PRODUCTS, "product_category_name", lambda old: old.replace("cama_mesa_banho", "copo d'agua")
    ),
    "products without a category": cell(PRODUCTS, "product_category_name", "", *range(2, 60)),
    "categories that no translation knows": cell(PRODUCTS, "product_category_name", "coisas novas"),
    "a category called like a task": cell(PRODUCTS, "product_category_name", "json e notificação push"),
    "payments of a kind not known": cell(PAYMENTS, "payment_type", "not_defined"),
    "cities with an apostrophe": cell(CUSTOMERS, "customer_city", "santa barbara d'oeste"),
    "reviews that say nothing": cell(REVIEWS, "review_comment_message", "."),
}
REFUSED: dict[str, tuple[Damage, str]] = {
    "a state that is none": (
        cell(CUSTOMERS, "customer_state", "XX", 3),
        r"customers_dataset\.csv, line 3: column customer_state: 'XX' is none of AC,",
    ),
    "no state": (cell(SELLERS, "seller_state", " ", 4), r"line 4: column seller_state: empty"),
    "a status that is none": (cell(ORDERS, "order_status", "entregue", 5), r"line 5: column order_status: 'entregue'"),
    "31 February": (
        cell(ORDERS, "order_purchase_timestamp", "2018-02-31 10:00:00", 6),
        r"orders_dataset\.csv, line 6: column order_purchase_timestamp: '2018-02-31 10:00:00' is not a moment",
    ),
    "month 13": (
        cell(ORDERS, "order_approved_at", "2018-13-01 10:00:00", 6),
        r"line 6: .*'2018-13-01 10:00:00' is not",
    ),
    "29 February 2017": (cell(ORDERS, "order_approved_at", "2017-02-29 10:00:00", 2), r"line 2: .* is not a moment"),
    "hour 25": (cell(ITEMS, "shipping_limit_date", "2018-01-01 25:00:00", 6), r"line 6: .* is not a moment"),
    "the year 218": (cell(ORDERS, "order_purchase_timestamp", "0218-01-01 10:00:00", 6), r"line 6: .* is not a moment"),
    "a negative price": (
        cell(ITEMS, "price", "-12.90", 8),
        r"items_dataset\.csv, line 8: column price: '-12.90' is out",
    ),
    "negative freight": (cell(ITEMS, "freight_value", "-1", 8), r"line 8: column freight_value: '-1' is out of range"),
    "an endless payment": (cell(PAYMENTS, "payment_value", "1e300", 8), r"line 8: .* is out of range"),
    "infinity": (cell(PAYMENTS, "payment_installments", "inf", 8), r"line 8: .*'inf' is not a whole number"),
    "half a star": (cell(REVIEWS, "review_score", "4.5", 8), r"line 8: .*'4.5' is not a whole number"),
    "a decimal comma": (cell(ITEMS, "price", "12,90", 8), r"line 8: column price: '12,90' is not a number"),
    "a | in a category": (cell(PRODUCTS, "product_category_name", "a|b", 8), r"line 8: .*'a\|b' has a \| or ` in it"),
    "an unclosed quote": (
        text(REVIEWS, line(7, lambda row: row.replace(b",", b',"', 3))),
        r"reviews_dataset\.csv, line 7: quotes that do not match",
    ),
    "an unclosed quote in the last row": (
        text(SELLERS, line(31, lambda row: row.replace(b",", b',"', 1))),
        r"sellers_dataset\.csv, line 31: quotes that do not match",
    ),
    "a row too short": (
        text(SELLERS, line(5, lambda row: row.rsplit(b",", 1)[0])),
        r"sellers_dataset\.csv, line 5: cells in this row: 3, in the header: 4",
    ),
    "a row too long": (
        text(ITEMS, line(5, lambda row: row + b",1")),
        r"items_dataset\.csv, line 5: cells .*: 8, .*: 7",
    ),
    "a line of spaces": (text(ITEMS, line(5, lambda row: b"   ")), r"items_dataset\.csv, line 5: cells .*: 1, "),
    "an empty file": (text(ITEMS, lambda data: b""), r"items_dataset\.csv, line 1: an empty file"),
    "nothing but line ends": (text(ITEMS, lambda data: b"\r\n\r\n"), r"items_dataset\.csv, line 1: an empty file"),
    "no orders": (
        text(ORDERS, lambda data: data.split(b"\n")[0]),
        r"orders_dataset\.csv, line 1: a header and no rows",
    ),
    "no customers": (text(CUSTOMERS, lambda data: data.split(b"\n")[0]), r"orders_dataset\.csv, line 2: .* is not in"),
    "no header": (
        text(SELLERS, lambda data: data.split(b"\n", 1)[1]),
        r"sellers_dataset\.csv, line 1: column seller_id, .* missing; found: ",
    ),
    "a header that opens a quote": (
        text(SELLERS, lambda data: b'"' + data),
        r"sellers_dataset\.csv, line 1: column seller_id, .* missing; found: ",
    ),
    "a column missing": (
        lambda folder: write(folder / ITEMS, [row[:5] + row[6:] for row in read(folder / ITEMS)]),
        r"items_dataset\.csv, line 1: column price missing; found: order_id, ",
    ),
    "a column named twice": (
        text(ITEMS, line(1, lambda row: row.replace(b"freight_value", b"price"))),
        r"items_dataset\.csv, line 1: column price named twice",
    ),
    "another file in its place": (
        lambda folder: shutil.copy(folder / SELLERS, folder / PRODUCTS) and None,
        r"products_dataset\.csv, line 1: column product_id, .* missing",
    ),
    "an id twice": (
        cell(CUSTOMERS, "customer_id", "same", 3, 8),
        r"customers_dataset\.csv, line 8: column customer_id: a row with the same key came before",
    ),
    "a row twice": (text(ORDERS, line(4, lambda row: row + b"\n" + row)), r"orders_dataset\.csv, line 5: .* same key"),
    "Latin-1": (
        lambda folder: (
            (folder / SELLERS).write_bytes(
                (folder / SELLERS).read_bytes().replace(b"sao paulo", "são paulo".encode("latin-1"))
            )
            and None
        ),
        r"sellers_dataset\.csv, line \d+: not UTF-8",
    ),
    "UTF-16": (text(SELLERS, lambda data: data.decode().encode("utf-16")), r"sellers_dataset\.csv, line 1: not UTF-8"),
}


def records_load(database: Path, folder: Path, count: int = 12) -> None:
    """Some records of every task are drawn from the database, written, and load."""
    with closing(connect(database)) as db:
        for task in TASKS:
            drawn = list(islice(drafts_of(task)(db, random.Random(task), "1"), count))
            write_jsonl(
                folder / f"{task}.jsonl", [draft.record(f"{task}-{place}") for place, draft in enumerate(drawn)]
            )
            assert not drawn or len(load_records(folder / f"{task}.jsonl")) == len(drawn)


@pytest.mark.parametrize("kind", MENDED)
def test_what_can_be_mended_is_mended_and_told_with_its_count_and_first_line(folder: Path, kind: str) -> None:
    damage, told = MENDED[kind]
    damage(folder)
    report: list[str] = []
    build_db(read_csv_folder(folder, report.append), folder / "shop.db")
    assert len(report) == 1 + (kind == "states with spaces") and re.search(told, report[0]), report
    records_load(folder / "shop.db", folder)


@pytest.mark.parametrize("kind", READ_AS_IT_IS)
def test_what_is_only_unusual_is_read_as_it_is(folder: Path, kind: str) -> None:
    READ_AS_IT_IS[kind](folder)
    report: list[str] = []
    build_db(read_csv_folder(folder, report.append), folder / "shop.db")
    assert not report
    records_load(folder / "shop.db", folder)


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_mended_is_refused_with_file_and_line(folder: Path, kind: str) -> None:
    damage, told = REFUSED[kind]
    damage(folder)
    with pytest.raises(UserError, match=told) as refusal:
        read_csv_folder(folder)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("seed", range(12))
def test_any_mix_of_damage_is_refused_in_one_line_or_imports_builds_and_loads(folder: Path, seed: int) -> None:
    """Random cells, anywhere, take random values; then the folder is refused, or works to the end."""
    rng = random.Random(seed)
    values = [
        "",
        " ",
        "0",
        "-1",
        "8",
        "1e9",
        "x'y",
        '"',
        "sp",
        "2018-02-30 00:00:00",
        "nan",
        "é",
        "\u2028",
        "{x}",
        "%s",
    ]
    for table in rng.sample(TABLES, 2):
        rows = read(folder / table.file)
        for _ in range(rng.randint(1, 3)):
            rows[rng.randrange(1, len(rows))][rng.randrange(len(rows[0]))] = rng.choice(values)
        write(folder / table.file, rows)
    try:
        tables = read_csv_folder(folder)
    except UserError as refusal:
        assert re.search(r"\.csv, line \d+: ", str(refusal)) and "\n" not in str(refusal)
        return
    build_db(tables, folder / "shop.db")
    records_load(folder / "shop.db", folder, count=4)


def test_a_category_with_an_apostrophe_is_asked_about_and_analysed(export: Path, tmp_path: Path) -> None:
    tables = read_csv_folder(export)
    tables["products"]["product_category_name"] = "copo d'agua"
    build_db(tables, tmp_path / "shop.db")
    with closing(connect(tmp_path / "shop.db")) as db:
        queries = [draft.reference["sql"] for draft in drafts_of("sql_qa")(db, random.Random(0), "1")]
        assert any("product_category_name = 'copo d''agua'" in query for query in queries)
        assert all(db.execute(query).fetchall() for query in queries)
        titles = [draft.meta["title"] for draft in islice(drafts_of("insights")(db, random.Random(0), "1"), 60)]
    assert any("copo d'agua" in title for title in titles)


def test_a_refusal_leaves_database_and_pairs_as_they_were(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The shop of 700 orders imports, but is too small for the pairs."""
    database, pairs = tmp_path / "old.db", tmp_path / "pairs"
    database.write_bytes(b"the old one")
    pairs.mkdir()
    (pairs / "train.jsonl").write_text("old\n", encoding="utf-8")
    cell(CUSTOMERS, "customer_state", str.lower, 3)(folder)
    assert main(["data", "--olist-csv", str(folder), "--db", str(database), "--pairs", str(pairs)]) == 2
    printed = capsys.readouterr()
    assert "1 cell of customer_state in the wrong case mended" in printed.out
    assert re.fullmatch(r"error: the orders give only \d+ new extraction records .*\n", printed.err)
    assert database.read_bytes() == b"the old one"
    assert [path.name for path in pairs.iterdir()] == ["train.jsonl"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["csv", "old.db", "pairs"]
