"""extraction drafts: a review, its order's facts, and the ten fields that its meaning (for real data, a rule) gives."""

import json
import random
import sqlite3
from collections.abc import Iterator
from typing import Any

from helpers.tasks.pairs.drafts import EVERYTHING, MAX_USER_CHARACTERS, Draft
from helpers.tasks.pairs.label_rule import label_by_rule
from helpers.tasks.pairs.portuguese import category_name, load_text
from helpers.tasks.review import REVIEW_FIELDS

MAX_REFERENCE_CHARACTERS = 330
_REVIEWS = """
SELECT r.review_id, r.order_id, r.review_score, r.review_comment_title AS title, r.review_comment_message AS message,
  e.order_status, e.delay_days, e.product_category_name AS category, {labels}
FROM order_reviews r
JOIN orders_enriched e ON e.order_id = r.order_id
LEFT JOIN review_labels l ON l.review_id = r.review_id AND l.order_id = r.order_id
WHERE r.review_comment_message IS NOT NULL AND r.order_id IN (SELECT order_id FROM orders_enriched WHERE {where})
ORDER BY r.review_id, r.order_id
"""


def drafts(db: sqlite3.Connection, rng: random.Random, where: str = EVERYTHING) -> Iterator[Draft]:
    """Reviews with text in chance order; half of the five-star ones and most of the very short are passed over.

    Left as they come, half of the records would be happy customers with nothing to extract.
    """
    labels = ", ".join(f"l.{name}" for name in REVIEW_FIELDS)
    cursor = db.execute(_REVIEWS.format(labels=labels, where=where))
    names = [column[0] for column in cursor.description]
    reviews = [dict(zip(names, row, strict=True)) for row in cursor]
    rng.shuffle(reviews)
    seen: set[str] = set()
    for review in reviews:
        message = review["message"].strip()
        fields = review_fields(review)
        dull = (len(message) < 12 and rng.random() < 0.8) or (review["review_score"] == 5 and rng.random() < 0.5)
        if fields is None or message in seen or dull:
            continue
        seen.add(message)
        draft = _draft(rng, review, fields)
        if draft is not None:
            yield draft


def identity(record: dict[str, Any]) -> list[tuple[str, str]]:
    """A review and its order."""
    return [("review", str(record["meta"]["review_id"])), ("order", str(record["meta"]["order_id"]))]


def review_fields(review: dict[str, Any]) -> dict[str, Any] | None:
    """The ten fields: those stored in `review_labels`, else what `label_by_rule` is certain of, else None."""
    if review["sentiment"] is None:
        text = ". ".join(part for part in (review["title"], review["message"]) if part)
        return label_by_rule(text, review["review_score"], review["order_status"], review["delay_days"])
    return {name: bool(review[name]) if kind == "bool" else review[name] for name, kind in REVIEW_FIELDS.items()}


def _draft(rng: random.Random, review: dict[str, Any], fields: dict[str, Any]) -> Draft | None:
    text = json.dumps(fields, ensure_ascii=False)
    user_text = _user_text(rng, review)
    if len(user_text) > MAX_USER_CHARACTERS or len(text) > MAX_REFERENCE_CHARACTERS:
        return None
    meta = {name: review[name] for name in ("review_id", "order_id", "review_score")}
    meta |= {"status": review["order_status"], "delay_days": review["delay_days"], "category": review["category"]}
    return Draft("extraction", user_text, {"text": text, "fields": fields}, meta)


def _user_text(rng: random.Random, review: dict[str, Any]) -> str:
    """The request, the order's facts and the review, in one of several layouts."""
    texts = load_text("extraction")
    facts = [
        rng.choice(texts["score"]).format(score=review["review_score"]),
        f"{rng.choice(texts['order'])}: {order_state(review['order_status'], review['delay_days'])}",
    ]
    if review["category"]:
        facts.append(f"{rng.choice(texts['category'])}: {category_name(review['category'])}")
    rng.shuffle(facts)
    if review["title"]:
        facts.append(f"Título: {review['title']}")
    facts.append(f"{rng.choice(texts['review'])}: {review['message'].strip()}")
    return "\n".join([rng.choice(texts["requests"]), *facts])


def order_state(status: str, delay_days: float | None) -> str:
    """What became of an order, in words.

    >>> order_state("delivered", 4.2), order_state("shipped", None)
    ('entregue com 5 dias de atraso', 'enviado, ainda não entregue')
    """
    if delay_days is None:
        return load_text("extraction")["states"].get(status, status)
    whole = int(-(-delay_days // 1)) if delay_days > 0 else int(-delay_days // 1)
    days = f"{whole} dia" if whole == 1 else f"{whole} dias"
    if delay_days > 0:
        return f"entregue com {days} de atraso"
    return f"entregue {days} antes do prazo" if whole else "entregue no prazo"
