"""The rule that labels real reviews: right where it labels, silent where it cannot be sure.

A label is right where the complaint category and the three issue flags are those that a person gave the text.
"""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from helpers.core.files import read_jsonl
from helpers.tasks.pairs.extraction import review_fields
from helpers.tasks.pairs.label_rule import label_by_rule, normal
from helpers.tasks.review import COMPLAINT_CATEGORIES, REVIEW_FIELDS, ReviewFields
from helpers.tasks.shop.simulate import DAY, simulate

JUDGED = ("complaint_category", "delivery_issue", "product_issue", "seller_issue")
PRECISION, COVERAGE = 0.98, 0.75
"""Of what the rule labels, at least so much is right; of what a person is certain of, it labels at least so much."""

REVIEWS = [row for _, row in read_jsonl(Path(__file__).parent / "data" / "labelled_reviews.jsonl")]


def label(row: dict[str, Any]) -> dict[str, Any] | None:
    return label_by_rule(row["text"], row["score"], row["status"], row["delay_days"])


def test_the_list_is_long_and_holds_every_category() -> None:
    certain = [row for row in REVIEWS if row["complaint_category"] != "uncertain"]
    assert len(REVIEWS) >= 300 and len(certain) >= 200
    for part in ("seen", "held"):
        categories = {row["complaint_category"] for row in certain if row["part"] == part}
        assert categories == set(COMPLAINT_CATEGORIES), part


@pytest.mark.parametrize("part", ["seen", "held"])
def test_what_is_labelled_is_right_and_most_of_what_is_certain_is_labelled(part: str) -> None:
    """`held` was written before the rule and never looked at while it was tuned."""
    rows = [row for row in REVIEWS if row["part"] == part]
    labelled = [(row, fields) for row in rows if (fields := label(row)) is not None]
    wrong = [row["text"] for row, fields in labelled if any(row.get(name) != fields[name] for name in JUDGED)]
    certain = sum(row["complaint_category"] != "uncertain" for row in rows)
    assert len(wrong) <= (1 - PRECISION) * len(labelled), wrong
    assert len(labelled) - len(wrong) >= COVERAGE * certain


def test_what_simulated_customers_mean_is_what_the_rule_reads() -> None:
    """5,000 texts whose true labels are known; the rule never sees those."""
    tables = simulate(orders=14_000, seed=31)
    orders = tables["orders"].set_index("order_id")
    promised, delivered = (
        pd.to_datetime(orders[f"order_{name}_date"]) for name in ("estimated_delivery", "delivered_customer")
    )
    delay = (delivered - promised).dt.total_seconds() / DAY
    reviews = tables["order_reviews"].merge(tables["review_labels"], on=["review_id", "order_id"]).head(5000)
    assert len(reviews) == 5000
    labelled, wrong = 0, []
    for row in reviews.to_dict("records"):
        late = None if pd.isna(delay[row["order_id"]]) else float(delay[row["order_id"]])
        status = orders["order_status"][row["order_id"]]
        fields = label_by_rule(row["review_comment_message"], row["review_score"], status, late)
        labelled += fields is not None
        if fields and any(fields[name] != row[name] for name in JUDGED):
            wrong.append(row["review_comment_message"])
    assert len(wrong) <= (1 - PRECISION) * labelled, wrong
    assert labelled >= 2000


def test_a_label_is_a_record_that_loads() -> None:
    for row in REVIEWS:
        fields = label(row)
        if fields is not None:
            assert list(fields) == list(REVIEW_FIELDS)
            ReviewFields.model_validate(json.loads(json.dumps(fields)))


@pytest.mark.parametrize("text", ["", " ", ".", "...", "👍", "!!!", "\u200b", "12345", "a" * 5000, "não " * 500])
@pytest.mark.parametrize("score", [1, 3, 5])
def test_a_text_that_says_nothing_is_not_labelled(text: str, score: int) -> None:
    assert label_by_rule(text, score, "delivered", -3.0) is None
    assert label_by_rule(text, score, "shipped", None) is None


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("Ñ RECEBI o prodto!!!!", "nao recebi o produto !"),
        ("otimooooo, xegou hj", "otimo , chegou hoje"),
        ("veio com defetio", "veio com defeito"),
        ("a mochila do homem aranha", "a mochila do homem aranha"),  # near `arranhao`, and no typo of it
    ],
)
def test_abbreviations_typos_and_shouting_are_read_as_plain_words(written: str, read: str) -> None:
    assert normal(written) == read


def test_a_complaint_in_the_title_counts() -> None:
    review = {"sentiment": None, "message": "Produto bom", "review_score": 5, "order_status": "delivered"}
    review["delay_days"] = -4.0
    praised = review_fields({**review, "title": "Recomendo"})
    assert praised and praised["complaint_category"] == "none"
    assert review_fields({**review, "title": "Veio quebrado"}) is None
