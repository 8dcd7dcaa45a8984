"""What the shop looks like: its figures beside the facts, and samples of each task."""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.tasks.records import load_split
from helpers.tasks.shop.database import connect
from helpers.tasks.shop.schema import FACTS
from helpers.tasks.spec import TASKS, user_text


@dataclass(frozen=True)
class Figure:
    """One figure of the facts and the same figure of a database. `kind`: share (%), median, mean, count or quantile."""

    name: str
    kind: str
    fact: float
    value: float

    @property
    def deviation(self) -> float:
        """Relative deviation from the fact."""
        return self.value / self.fact - 1

    @property
    def close(self) -> bool:
        """Within 10 % of the fact; a share also within one percentage point."""
        return abs(self.deviation) <= 0.10 or (self.kind == "share" and abs(self.value - self.fact) <= 1.0)


def compare_with_facts(db_path: Path) -> list[Figure]:
    """Every figure of `facts.toml` that the sources give, beside its value in the database."""
    with closing(connect(db_path)) as db:
        orders = pd.read_sql("SELECT * FROM orders_enriched", db)
        items = pd.read_sql(
            "SELECT i.*, p.product_category_name AS category, e.customer_state AS state, e.order_status AS status "
            "FROM order_items i JOIN products p USING (product_id) JOIN orders_enriched e USING (order_id)",
            db,
        )
        payments = pd.read_sql("SELECT * FROM order_payments", db)
        reviews = pd.read_sql(
            "SELECT r.*, e.delay_days, e.order_status FROM order_reviews r JOIN orders_enriched e USING (order_id)", db
        )
        sellers = pd.read_sql("SELECT seller_state FROM sellers", db)
        counts = list(_counts(db, len(orders)))
    return [
        *counts,
        *_status_figures(orders["order_status"]),
        *_review_figures(reviews),
        *_delivery_figures(orders),
        *_price_figures(items[items["status"] == "delivered"]),
        *_payment_figures(orders, payments),
        *_place_figures(orders, items, sellers),
    ]


def _counts(db: sqlite3.Connection, orders: int) -> Iterator[Figure]:
    facts = FACTS["counts"]
    for name in ("order_items", "order_payments", "order_reviews", "products", "sellers", "geolocation", "people"):
        sql = f"SELECT COUNT(*) FROM {name}"
        if name == "people":
            sql = "SELECT COUNT(DISTINCT customer_unique_id) FROM customers"
        per_order = db.execute(sql).fetchone()[0] / orders
        yield Figure(f"{name} per 1,000 orders", "mean", facts[name] / facts["orders"] * 1000, per_order * 1000)
    bare = db.execute("SELECT 100.0 * AVG(product_category_name IS NULL) FROM products").fetchone()[0]
    yield Figure("products without a category", "share", 2.0, bare)


def _shares(prefix: str, facts: Mapping[str, float], values: pd.Series) -> Iterator[Figure]:
    """The share of each named value, in per cent."""
    shares = values.astype(str).value_counts(normalize=True) * 100
    for name, share in facts.items():
        yield Figure(f"{prefix} {name}", "share", share, shares.get(str(name), 0.0))


def _quantiles(name: str, facts: Mapping[str, float], values: pd.Series) -> Iterator[Figure]:
    """The quantiles that `facts` names (`p25`, `p50` ...)."""
    for point, fact in facts.items():
        kind = "median" if point == "p50" else "quantile"
        yield Figure(f"{name}, {point}", kind, fact, values.quantile(int(point[1:]) / 100))


def _status_figures(status: pd.Series) -> Iterator[Figure]:
    yield Figure("status delivered", "share", 97.0, (status == "delivered").mean() * 100)
    rest = {"shipped": 37, "canceled": 21, "unavailable": 21, "invoiced": 11, "processing": 10}
    yield from _shares("of the undelivered,", rest, status[status != "delivered"])


def _review_figures(reviews: pd.DataFrame) -> Iterator[Figure]:
    facts = FACTS["reviews"]
    score, delay = reviews["review_score"], reviews["delay_days"]
    yield from _shares("review score", facts["score_share"], score)
    groups = {
        "on_time": delay <= 0,
        "late": delay > 0,
        "not_delivered": delay.isna(),
        "late_1_3": (delay > 0) & (delay <= 3),
        "late_4_7": (delay > 3) & (delay <= 7),
        "late_8_more": delay > 7,
    }
    for name, mean in facts["score_mean"].items():
        yield Figure(f"mean score, {name}", "mean", mean, score[groups[name]].mean())
    text = reviews["review_comment_message"]
    written = text[text.notna()]
    titled = reviews["review_comment_title"].notna()
    yield Figure("reviews with text", "share", facts["text_share"], text.notna().mean() * 100)
    yield Figure("reviews with title", "share", facts["title_share"], titled.mean() * 100)
    for value, share in facts["text_share_by_score"].items():
        yield Figure(f"with text, score {value}", "share", share, text[score == int(value)].notna().mean() * 100)
    for value, median in facts["characters_median"].items():
        yield Figure(f"characters, score {value}", "median", median, written[score == int(value)].str.len().median())
    words = written.str.split().str.len()
    yield Figure("words of a text", "median", facts["words_median"], words.median())
    yield Figure("words of a text, p90", "quantile", facts["words_p90"], words.quantile(0.9))
    yield Figure("texts with !", "share", facts["exclamation_share"], written.str.contains("!").mean() * 100)
    yield Figure("texts in capitals", "share", facts["capitals_share"], written.str.isupper().mean() * 100)


def _delivery_figures(orders: pd.DataFrame) -> Iterator[Figure]:
    facts, delivered = FACTS["delivery"], orders[orders["order_status"] == "delivered"]
    days, delay = delivered["delivery_days"], delivered["delay_days"]
    yield from _quantiles("delivery days", facts["days"], days)
    yield Figure("delivery days", "mean", facts["days_mean"], days.mean())
    yield Figure("log delivery days, sigma", "quantile", facts["days_log_sigma"], np.log(days).std())
    yield Figure("promised days", "median", facts["promised_median"], (days - delay).median())
    yield Figure("days past the promise", "median", facts["delay_median"], delay.median())
    yield Figure("days past the promise, p95", "quantile", facts["delay_p95"], delay.quantile(0.95))
    yield Figure("late", "share", facts["late_share"], (delay > 0).mean() * 100)
    yield Figure("days late of the late", "median", facts["lateness_median"], delay[delay > 0].median())


def _price_figures(items: pd.DataFrame) -> Iterator[Figure]:
    facts, freight = FACTS["price"], FACTS["freight"]
    yield from _quantiles("price", facts["quantiles"], items["price"])
    yield Figure("price", "mean", facts["mean"], items["price"].mean())
    for name, value in facts["category_median"].items():
        yield Figure(f"price, {name}", "median", value, items["price"][items["category"] == name].median())
    yield Figure("freight", "median", freight["median"], items["freight_value"].median())
    yield Figure("freight, p90", "quantile", freight["p90"], items["freight_value"].quantile(0.9))
    yield Figure("freight", "mean", freight["mean"], items["freight_value"].mean())


def _payment_figures(orders: pd.DataFrame, payments: pd.DataFrame) -> Iterator[Figure]:
    with_items = orders["item_count"][orders["item_count"] > 0]
    yield from _shares("items an order,", FACTS["items_per_order"], with_items)
    yield from _shares("payments by", FACTS["payments"], payments["payment_type"])
    times = {times: FACTS["installments"][times] for times in ("1", "2", "3", "10")}
    card = payments["payment_installments"][payments["payment_type"] == "credit_card"]
    yield from _shares("card instalments,", times, card)


def _place_figures(orders: pd.DataFrame, items: pd.DataFrame, sellers: pd.DataFrame) -> Iterator[Figure]:
    states = FACTS["states"]
    named = {name: facts["share"] for name, facts in states.items() if facts["share"] >= 0.9}
    yield from _shares("customers in", named, orders["customer_state"])
    sold_from = {name: FACTS["seller_states"][name] for name in ("SP", "PR", "MG")}
    yield from _shares("sellers in", sold_from, sellers["seller_state"])
    delivered = orders[orders["order_status"] == "delivered"]
    for state in FACTS["delivery"]["known_states"]:
        facts = states[state]
        here = delivered[delivered["customer_state"] == state]
        freight = items["freight_value"][items["state"] == state].mean()
        yield Figure(f"delivery days, {state}", "mean", facts["days"], here["delivery_days"].mean())
        yield Figure(f"freight, {state}", "mean", facts["freight"], freight)
        yield Figure(f"late, {state}", "share", facts["late"], (here["delay_days"] > 0).mean() * 100)
    shares = {name: share for name, (share, _) in FACTS["categories"].items() if share > 0}
    yield from _shares("items in", shares, items["category"].fillna("none"))


def comparison_table(figures: list[Figure]) -> str:
    """The figures as a Markdown table."""
    lines = ["| figure | kind | fact | simulated | deviation |", "|---|---|---:|---:|---:|"]
    for figure in figures:
        mark = "" if figure.close else " (outside)" if figure.kind != "quantile" else " (not held to it)"
        cells = (figure.name, figure.kind, f"{figure.fact:g}", f"{figure.value:.4g}", f"{figure.deviation:+.1%}{mark}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def describe(db_path: Path, pairs_dir: Path) -> str:
    """The comparison with the facts, then two records of each task from the eval split."""
    parts = [comparison_table(compare_with_facts(db_path))]
    records = load_split("eval", pairs_dir)
    for task in TASKS:
        for record in [record for record in records if record["task"] == task][:2]:
            parts.append(f"--- {record['id']}\n{user_text(record['prompt'])}\n>>>\n{record['reference']['text']}")
    return "\n\n".join(parts)
