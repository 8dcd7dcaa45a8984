"""The simulated shop is faithful to the published figures, consistent with itself, and the same for the same seed."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from helpers import recipes
from helpers.cli import main
from helpers.cli.data import counts_table
from helpers.core.errors import UserError
from helpers.core.files import PROJECT_ROOT
from helpers.plots import plot_shop
from helpers.rewards.sql_qa import query_result
from helpers.tasks import REVIEW_FIELDS
from helpers.tasks.review import ReviewFields
from helpers.tasks.shop.database import build_db, connect
from helpers.tasks.shop.describe import compare_with_facts, comparison_table
from helpers.tasks.shop.reviews import Meaning, label
from helpers.tasks.shop.schema import ALL_TABLES, FACTS, TABLES
from helpers.tasks.shop.simulate import Tables, quota, simulate
from helpers.training.fix import extra_pairs


@pytest.fixture(scope="module")
def tables() -> Tables:
    return simulate(orders=1_500, seed=5)


@pytest.fixture(scope="module")
def db(tables: Tables, tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    path = tmp_path_factory.mktemp("shop") / "shop.db"
    build_db(tables, path)
    with closing(connect(path)) as connection:
        yield connection


def number(db: sqlite3.Connection, sql: str) -> float:
    return db.execute(sql).fetchone()[0]


def test_every_share_median_and_mean_of_the_default_shop_is_close_to_its_fact(commerce_db: Path) -> None:
    held = [figure for figure in compare_with_facts(commerce_db) if figure.kind in ("share", "median", "mean", "count")]
    assert len(held) > 100
    assert [figure for figure in held if not figure.close] == []


def test_the_quantiles_of_the_default_shop_are_near_their_facts(commerce_db: Path) -> None:
    quantiles = [figure for figure in compare_with_facts(commerce_db) if figure.kind == "quantile"]
    assert [figure for figure in quantiles if abs(figure.value - figure.fact) > max(1.0, 0.15 * figure.fact)] == []


def test_the_data_card_shows_the_counts_and_the_comparison_of_the_default_shop(commerce_db: Path) -> None:
    card = (PROJECT_ROOT / "data" / "README.md").read_text(encoding="utf-8")
    assert comparison_table(compare_with_facts(commerce_db)) in card
    assert counts_table() in card


def test_the_same_seed_gives_the_same_tables_and_another_seed_others(tables: Tables) -> None:
    again, other = simulate(orders=1_500, seed=5), simulate(orders=1_500, seed=6)
    assert all(again[name].equals(tables[name]) for name in tables)
    assert not other["orders"].equals(tables["orders"])


def test_the_tables_have_olists_columns_in_olists_order(tables: Tables) -> None:
    assert all(list(tables[table.name].columns) == list(table.columns) for table in ALL_TABLES)
    assert "product_name_lenght" in tables["products"].columns
    assert len(TABLES) == 9


def test_payments_add_up_to_items_and_freight_of_each_order(db: sqlite3.Connection) -> None:
    unequal = """SELECT COUNT(*) FROM orders_enriched
        WHERE item_count > 0 AND ABS(payment_value - price - freight_value) > 0.005"""
    assert number(db, unequal) == 0
    assert number(db, "SELECT MIN(payment_value) FROM order_payments") > 0


def test_the_dates_of_an_order_follow_each_other(db: sqlite3.Connection) -> None:
    wrong = """SELECT COUNT(*) FROM orders WHERE order_approved_at < order_purchase_timestamp
        OR order_delivered_carrier_date < order_approved_at
        OR order_delivered_customer_date < order_delivered_carrier_date
        OR order_estimated_delivery_date <= order_purchase_timestamp"""
    assert number(db, wrong) == 0
    reviewed_early = """SELECT COUNT(*) FROM order_reviews r JOIN orders o USING (order_id)
        WHERE r.review_creation_date < o.order_delivered_customer_date
        OR r.review_answer_timestamp < r.review_creation_date"""
    assert number(db, reviewed_early) == 0


def test_only_delivered_orders_have_a_delivery_date(db: sqlite3.Connection) -> None:
    odd = (
        "SELECT COUNT(*) FROM orders WHERE (order_status = 'delivered') <> (order_delivered_customer_date IS NOT NULL)"
    )
    assert number(db, odd) == 0


def test_every_reference_between_tables_resolves(db: sqlite3.Connection) -> None:
    assert db.execute("PRAGMA foreign_key_check").fetchall() == []


def test_orders_enriched_has_one_row_per_order_and_loses_no_money(db: sqlite3.Connection) -> None:
    assert number(db, "SELECT COUNT(*) FROM orders_enriched") == number(db, "SELECT COUNT(*) FROM orders")
    for column, table in (
        ("price", "order_items"),
        ("freight_value", "order_items"),
        ("payment_value", "order_payments"),
    ):
        whole = number(db, f"SELECT SUM({column}) FROM {table}")
        assert number(db, f"SELECT SUM({column}) FROM orders_enriched") == pytest.approx(whole, abs=0.01)


def test_olists_traps_are_there(db: sqlite3.Connection) -> None:
    assert number(db, "SELECT COUNT(*) - COUNT(DISTINCT review_id) FROM order_reviews") > 0
    assert number(db, "SELECT COUNT(*) - COUNT(DISTINCT order_id) FROM order_reviews") > 0
    assert number(db, "SELECT COUNT(*) - COUNT(DISTINCT customer_unique_id) FROM customers") > 0
    assert number(db, "SELECT COUNT(*) FROM products WHERE product_category_name IS NULL") > 0
    duplicates = "SELECT COUNT(*) FROM geolocation GROUP BY 1 ORDER BY COUNT(*) DESC"
    assert number(db, duplicates.replace("GROUP BY 1", "GROUP BY geolocation_zip_code_prefix, geolocation_lat")) > 1


def test_sentiment_follows_the_score(db: sqlite3.Connection) -> None:
    pairs = set(db.execute("SELECT review_score, sentiment FROM orders_enriched WHERE review_score IS NOT NULL"))
    assert pairs == {(1, "negative"), (2, "negative"), (3, "neutral"), (4, "positive"), (5, "positive")}


def test_the_default_shop_has_at_least_three_thousand_distinct_texts(commerce_db: Path) -> None:
    with closing(connect(commerce_db)) as connection:
        assert number(connection, "SELECT COUNT(DISTINCT review_comment_message) FROM order_reviews") >= 3_000


def test_every_written_review_has_labels_that_fit_the_schema_its_score_and_its_order(db: sqlite3.Connection) -> None:
    names = ", ".join(f"l.{name}" for name in REVIEW_FIELDS)
    rows = db.execute(
        f"""SELECT {names}, r.review_score, e.delay_days, e.order_status FROM order_reviews r
        JOIN orders_enriched e USING (order_id) LEFT JOIN review_labels l USING (review_id, order_id)
        WHERE r.review_comment_message IS NOT NULL"""
    ).fetchall()
    assert len(rows) > 400
    for *values, score, delay, status in rows:
        fields = dict(zip(REVIEW_FIELDS, values, strict=True))
        fields |= {name: bool(fields[name]) for name, kind in REVIEW_FIELDS.items() if kind == "bool"}
        ReviewFields.model_validate(fields)
        assert fields["sentiment"] == ("positive" if score >= 4 else "neutral" if score == 3 else "negative")
        assert abs(fields["sentiment_score"] - score) <= 1
        assert (fields["main_complaint"] is None) == (fields["complaint_category"] == "none")
        if fields["complaint_category"] == "late_delivery":
            assert delay is not None and delay > 0
        if fields["complaint_category"] == "not_delivered":
            assert status != "delivered"


def test_labels_follow_what_was_said() -> None:
    late = Meaning(1, "o relógio", 9, issue="late_delivery", cause={"summary": "Entrega com {dias} dias de atraso"})
    calm = label(late, {"issue:late_delivery"}, loud=False)
    assert calm["main_complaint"] == "Entrega com 9 dias de atraso"
    assert (calm["urgency"], calm["delivery_issue"], calm["seller_issue"]) == ("medium", True, False)
    pressing = label(late, {"issue:late_delivery", "request", "contact"}, loud=True)
    assert (pressing["urgency"], pressing["seller_issue"], pressing["sentiment_score"]) == ("high", True, 1.0)


def test_a_review_that_only_praises_in_one_word_names_no_complaint() -> None:
    bare = label(Meaning(5, "o produto", 0), {"plain"}, loud=False)
    assert (bare["complaint_category"], bare["main_complaint"], bare["would_buy_again"]) == ("none", None, True)


def test_quota_counts_differ_from_the_exact_share_by_less_than_one() -> None:
    shares = {"a": 57.4, "b": 19.1, "c": 8.3, "d": 3.2, "e": 12.0}
    values = quota(np.random.default_rng(3), shares, 137)
    for name, share in shares.items():
        assert abs((values == name).sum() - share / 100 * 137) < 1


def test_a_failed_build_leaves_the_old_database(tables: Tables, tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    build_db(tables, path)
    before = path.read_bytes()
    orders = tables["orders"]
    with pytest.raises(UserError, match=r"olist_orders_dataset\.csv"):
        build_db({**tables, "orders": pd.concat([orders, orders.head(1)])}, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_figure_of_the_shop_has_a_panel_for_days_scores_and_states(db: sqlite3.Connection) -> None:
    figure = plot_shop(pd.read_sql("SELECT * FROM orders_enriched", db))
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "Days to delivery",
        "Mean review score",
        "States: days and lateness",
    ]
    bars = [bar.get_width() for bar in figure.axes[1].patches]
    assert len(bars) == 5 and bars[0] > bars[1] > bars[2]


def test_a_missing_database_says_how_to_build_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="python -m helpers data"):
        connect(tmp_path / "none.db")


def test_a_database_opens_whatever_its_path_holds(tables: Tables, tmp_path: Path) -> None:
    path = tmp_path / "ca #1?mode=x" / "100%25.db"
    build_db(tables, path)
    with closing(connect(path)) as db:
        assert db.execute("SELECT COUNT(*) FROM orders").fetchone() == (1_500,)
    assert list(path.parent.iterdir()) == [path] and list(tmp_path.iterdir()) == [path.parent]


def test_the_facts_name_every_state_and_shares_that_fill_a_hundred() -> None:
    states = [name for name in FACTS["states"] if name not in ("columns", "known")]
    assert len(states) == len(FACTS["cities"]) == 27
    assert sum(FACTS["status"].values()) == pytest.approx(100)


@pytest.mark.slow
def test_a_hundred_thousand_orders_keep_the_facts(tmp_path: Path) -> None:
    path = tmp_path / "large.db"
    build_db(simulate(orders=100_000, seed=1), path)
    held = [figure for figure in compare_with_facts(path) if figure.kind in ("share", "median", "mean")]
    assert [figure for figure in held if not figure.close] == []


def test_every_verb_and_reward_takes_the_database_that_the_environment_names(
    tables: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.db"
    monkeypatch.setenv("COMMERCE_DB", str(path))
    assert main(["data", "--orders", "40", "--db-only"]) == 0
    assert f"{path}: 40 orders" in capsys.readouterr().out
    assert query_result("SELECT COUNT(*) FROM orders").rows == [(40,)]
    assert main(["pairs", "--task", "push", "--add", "9999", "--out", str(tmp_path / "extra.jsonl")]) == 2
    assert "only" in capsys.readouterr().err
    path.unlink()
    assert main(["pairs", "--task", "push", "--add", "1", "--out", str(tmp_path / "extra.jsonl")]) == 2
    with pytest.raises(UserError, match=re.escape(str(path))):
        extra_pairs(recipes.get("v4.2c-insights"), tmp_path)
    assert str(path) in capsys.readouterr().err
