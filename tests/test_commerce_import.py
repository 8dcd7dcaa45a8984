"""Olist's CSV files become the same database as the direct path, and what is wrong in them is told with its line."""

import csv
import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest

from helpers.cli import main
from helpers.core.errors import UserError
from helpers.tasks import TASKS
from helpers.tasks.pairs.extraction import drafts, label_by_rule
from helpers.tasks.review import COMPLAINT_CATEGORIES
from helpers.tasks.shop.database import build_db, connect
from helpers.tasks.shop.import_olist import read_csv_folder, write_csv_folder
from helpers.tasks.shop.schema import REVIEW_LABELS, TABLES
from helpers.tasks.shop.simulate import simulate


def dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as db:
        return list(db.iterdump())


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A small shop: its CSV folder, and its database built without them."""
    folder = tmp_path_factory.mktemp("shop")
    tables = simulate(orders=400, seed=9)
    write_csv_folder(tables, folder / "csv")
    build_db(tables, folder / "shop.db")
    return folder / "csv", folder / "shop.db"


@pytest.fixture
def csv_folder(shop: tuple[Path, Path], tmp_path: Path) -> Path:
    """A copy of the CSV folder to spoil."""
    return Path(shutil.copytree(shop[0], tmp_path / "csv"))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_the_simulators_files_through_the_importer_give_the_same_database(
    shop: tuple[Path, Path], tmp_path: Path
) -> None:
    csv_dir, direct = shop
    build_db(read_csv_folder(csv_dir), tmp_path / "imported.db")
    assert dump(tmp_path / "imported.db") == dump(direct)


def test_shuffled_columns_an_extra_one_crlf_and_a_bom_import_the_same(
    shop: tuple[Path, Path], csv_folder: Path, tmp_path: Path
) -> None:
    for table in TABLES:
        path = csv_folder / table.file
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file))
        rows = [[*reversed(row), "extra" if place == 0 else "x"] for place, row in enumerate(rows)]
        with path.open("w", encoding="utf-8-sig", newline="") as file:
            csv.writer(file, lineterminator="\r\n").writerows(rows)
    build_db(read_csv_folder(csv_folder), tmp_path / "imported.db")
    assert dump(tmp_path / "imported.db") == dump(shop[1])


def test_line_breaks_inside_a_review_are_kept_and_counted(csv_folder: Path) -> None:
    path = csv_folder / "olist_order_reviews_dataset.csv"
    lines = path.read_text(encoding="utf-8").split("\n")
    cells = lines[1].split(",")
    lines[1] = ",".join([*cells[:2], cells[2], "", '"Duas\nlinhas"', *cells[-2:]])
    other = lines[3].split(",")
    lines[3] = ",".join([*other[:2], "nove", *other[3:]])
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(UserError, match=r"reviews_dataset\.csv, line 5: column review_score: 'nove' is not a whole"):
        read_csv_folder(csv_folder)


def test_missing_files_are_all_named(csv_folder: Path) -> None:
    (csv_folder / "olist_orders_dataset.csv").unlink()
    (csv_folder / "olist_sellers_dataset.csv").unlink()
    with pytest.raises(UserError, match=r"2 of the nine.*sellers_dataset\.csv.*orders_dataset\.csv"):
        read_csv_folder(csv_folder)


def test_a_missing_column_is_named_with_those_found(csv_folder: Path) -> None:
    edit(csv_folder / "olist_products_dataset.csv", "product_name_lenght", "product_name_length")
    with pytest.raises(UserError, match=r"line 1: column product_name_lenght missing; found: product_id"):
        read_csv_folder(csv_folder)


def test_a_file_that_is_not_utf8_is_told_with_its_line(csv_folder: Path) -> None:
    path = csv_folder / "olist_sellers_dataset.csv"
    lines = path.read_bytes().split(b"\n")
    lines[2] = "a,12345,são paulo,SP".encode("latin-1")
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(UserError, match=r"sellers_dataset\.csv, line 3: not UTF-8"):
        read_csv_folder(csv_folder)


@pytest.mark.parametrize(
    ("file", "column", "value", "told"),
    [
        ("olist_order_items_dataset.csv", "price", "12,90", "'12,90' is not a number"),
        ("olist_order_items_dataset.csv", "price", "nan", "'nan' is not a number"),
        ("olist_orders_dataset.csv", "order_purchase_timestamp", "01/02/2018", "is not a moment as YYYY-MM-DD"),
        ("olist_orders_dataset.csv", "order_status", "", "empty, and may not be"),
        ("olist_order_items_dataset.csv", "seller_id", "nobody", r"'nobody' is not in olist_sellers_dataset\.csv"),
    ],
)
def test_a_bad_cell_is_told_with_file_line_and_column(
    csv_folder: Path, file: str, column: str, value: str, told: str
) -> None:
    path = csv_folder / file
    with path.open(encoding="utf-8", newline="") as source:
        rows = list(csv.reader(source))
    rows[4][rows[0].index(column)] = value
    with path.open("w", encoding="utf-8", newline="") as target:
        csv.writer(target).writerows(rows)
    with pytest.raises(UserError, match=rf"{file}, line 5: column {column}: .*{told}"):
        read_csv_folder(csv_folder)


def test_a_complaint_is_as_long_as_a_person_counts(csv_folder: Path) -> None:
    path = csv_folder / "review_labels.csv"
    labels = pd.read_csv(path, dtype=str, keep_default_na=False)
    labels.loc[0, "main_complaint"] = "👎🏽" * 120
    labels.to_csv(path, index=False)
    assert read_csv_folder(csv_folder)["review_labels"]["main_complaint"][0] == "👎🏽" * 120
    labels.loc[0, "main_complaint"] += "!"
    labels.to_csv(path, index=False)
    with pytest.raises(UserError, match="longer than 120 characters"):
        read_csv_folder(csv_folder)


def test_a_repeated_key_and_a_row_with_too_many_cells_are_told_with_their_line(csv_folder: Path) -> None:
    path = csv_folder / "olist_sellers_dataset.csv"
    lines = path.read_text(encoding="utf-8").split("\n")
    path.write_text("\n".join([*lines[:3], lines[1], *lines[3:]]), encoding="utf-8")
    with pytest.raises(UserError, match=r"line 4: column seller_id: a row with the same key came before"):
        read_csv_folder(csv_folder)
    path.write_text("\n".join([*lines[:3], lines[3] + ",more", *lines[4:]]), encoding="utf-8")
    with pytest.raises(UserError, match=r"sellers_dataset\.csv.*line 4"):
        read_csv_folder(csv_folder)


def test_the_verb_reports_bad_files_in_one_line_and_keeps_the_old_database(
    csv_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "shop.db"
    path.write_bytes(b"the old one")
    edit(csv_folder / "olist_customers_dataset.csv", "customer_state", "state")
    assert main(["data", "--olist-csv", str(csv_folder), "--db", str(path), "--db-only"]) == 2
    assert path.read_bytes() == b"the old one"
    error = capsys.readouterr().err.strip()
    assert error.count("\n") == 0 and "customer_state missing" in error


def test_real_files_have_no_labels_and_the_rule_gives_those_that_it_is_certain_of(
    csv_folder: Path, tmp_path: Path
) -> None:
    (csv_folder / REVIEW_LABELS.file).unlink()
    build_db(read_csv_folder(csv_folder), tmp_path / "real.db")
    with closing(connect(tmp_path / "real.db")) as db:
        assert db.execute("SELECT COUNT(*) FROM review_labels").fetchone()[0] == 0
        drawn = list(drafts(db, random.Random(0)))
    categories = {draft.reference["fields"]["complaint_category"] for draft in drawn}
    assert {"none", "product_quality"} <= categories <= set(COMPLAINT_CATEGORIES)


@pytest.mark.parametrize(
    ("message", "score", "status", "delay", "category"),
    [
        ("Chegou antes do prazo, gostei", 5, "delivered", -4.0, "none"),
        ("Demorou demais para entregar", 1, "delivered", 6.0, "late_delivery"),
        ("Não recebi até hoje", 1, "shipped", None, "not_delivered"),
        ("Gostei, mas veio quebrado", 4, "delivered", -4.0, None),
        ("Demorou e veio com defeito", 1, "delivered", 6.0, None),
        ("Demorou demais", 1, "delivered", -2.0, None),
        ("Péssimo", 1, "delivered", -2.0, None),
        ("Mais ou menos", 3, "delivered", -2.0, None),
    ],
)
def test_a_review_without_labels_is_labelled_only_where_score_order_and_words_agree(
    message: str, score: int, status: str, delay: float | None, category: str | None
) -> None:
    fields = label_by_rule(message, score, status, delay)
    assert (fields and fields["complaint_category"]) == category


def test_the_verb_builds_a_shop_and_from_its_files_the_same_shop(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, folder = tmp_path / "first.db", tmp_path / "second.db", tmp_path / "csv"
    simulated = ["data", "--orders", "250", "--seed", "4", "--db", str(first), "--write-csv", str(folder), "--db-only"]
    assert main(simulated) == 0
    assert main(["data", "--olist-csv", str(folder), "--db", str(second), "--db-only"]) == 0
    assert first.read_bytes() == second.read_bytes()
    assert "250 orders simulated with seed 4" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--orders", "0"], "at least 1 order"),
        (["--seed", "-1"], "--seed -1"),
        (["--olist-csv", "a", "--write-csv", "b"], "choose one of them"),
        (["--olist-csv", "/nowhere"], "no such folder"),
        (["--describe", "--db", "/nowhere/shop.db"], "python -m helpers data"),
    ],
)
def test_bad_requests_for_data_get_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    database = [] if "--db" in arguments else ["--db", str(tmp_path / "shop.db")]
    assert main(["data", *arguments, *database]) == 2
    error = capsys.readouterr().err.strip()
    assert told in error and "\n" not in error
    assert list(tmp_path.iterdir()) == []


def test_describe_shows_the_comparison_and_samples_of_each_task(
    commerce_db: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "--describe"]) == 0
    shown = capsys.readouterr().out
    assert "| status delivered | share | 97 |" in shown
    assert all(f"--- {task}-eval-" in shown for task in TASKS)


@pytest.mark.parametrize("orders", [1, 2, 7, 40])
def test_even_a_tiny_shop_builds(tmp_path: Path, orders: int) -> None:
    build_db(simulate(orders=orders, seed=1), tmp_path / "tiny.db")
    with closing(connect(tmp_path / "tiny.db")) as db:
        assert db.execute("SELECT COUNT(*) FROM orders_enriched").fetchone() == (orders,)
