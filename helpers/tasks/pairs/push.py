"""push drafts: a customer of the database, an occasion, and one notification that uses only what the prompt tells."""

import random
import sqlite3
from collections.abc import Iterator
from typing import Any

from helpers.core.text import graphemes
from helpers.tasks.pairs.drafts import EVERYTHING, Draft
from helpers.tasks.pairs.portuguese import category_name, city_name, load_text, number
from helpers.tasks.shop.reviews import PRODUCT_NOUNS
from helpers.tasks.spec import MAX_PUSH_CHARACTERS

TEXTS = load_text("push")
_LINE_FACTS = ("discount", "days", "hours", "city", "category", "price")  # facts that an occasion's line may tell
_CUSTOMERS = """
SELECT customer_unique_id, customer_city, product_category_name, price
FROM orders_enriched
WHERE product_category_name IS NOT NULL AND price IS NOT NULL AND ({where})
GROUP BY customer_unique_id
ORDER BY customer_unique_id
"""


def drafts(db: sqlite3.Connection, rng: random.Random, where: str = EVERYTHING) -> Iterator[Draft]:
    """One draft per customer, the occasions in turn; cities are named only where their Portuguese spelling is known."""
    customers = db.execute(_CUSTOMERS.format(where=where)).fetchall()
    rng.shuffle(customers)
    kinds = list(TEXTS["kind"])
    seen: set[str] = set()
    for place, (customer, city, category, price) in enumerate(customers):
        kind = kinds[place % len(kinds)]
        if kind == "free_shipping" and city_name(city) is None:
            continue
        if kind == "cross_sell" and category not in PRODUCT_NOUNS:
            continue
        draft = _draft(rng, kind, customer, _facts(rng, city, category, price))
        if draft is not None and draft.reference["text"] not in seen:
            seen.add(draft.reference["text"])
            yield draft


def identity(record: dict[str, Any]) -> list[tuple[str, str]]:
    """A customer, and an occasion with its facts."""
    meta = record["meta"]
    return [("customer", str(meta["customer_unique_id"])), ("context", f"{meta['kind']} {meta['context']}")]


def _facts(rng: random.Random, city: str, category: str, price: float) -> dict[str, Any]:
    """What may be known of a customer, in the forms that templates use; a draft uses a part of it."""
    product = rng.choice(PRODUCT_NOUNS.get(category) or [noun for nouns in PRODUCT_NOUNS.values() for noun in nouns])
    article, noun = product.split(" ", 1)
    return {
        "name": rng.choice(TEXTS["people"]["names"]),
        "o_produto": product,
        "O_produto": f"{article.upper()} {noun}",
        "do_produto": f"d{product}",
        "no_produto": f"n{product}",
        "produto": noun,
        "discount": rng.choice((5, 8, 10, 12, 15, 20, 25, 30)),
        "days": rng.choice((2, 3, 4, 5, 6, 7, 8, 10, 12, 15)),
        "hours": rng.choice((2, 3, 4, 6, 12, 24, 36, 48)),
        "inactive": rng.choice((30, 45, 60, 75, 90, 100, 120, 180)),
        "city": city_name(city) or city.title(),
        "category": category_name(category),
        "price": number(max(price * rng.uniform(0.6, 0.9), 9.9), 2),
    }


def _draft(rng: random.Random, kind: str, customer: str, facts: dict[str, Any]) -> Draft | None:
    """A notification of this kind; None where its text needs a fact that the drawn occasion does not tell."""
    form = TEXTS["kind"][kind]
    if kind == "win_back":
        facts["days"] = facts["inactive"]
    occasion, template = rng.choice(form["lines"]), rng.choice(form["texts"])
    in_prompt = [name for name in _LINE_FACTS if f"{{{name}}}" in occasion]
    unsupported = any(f"{{{name}}}" in template for name in _LINE_FACTS if name not in in_prompt)
    text = template.format(**facts)
    if unsupported or graphemes(text) > MAX_PUSH_CHARACTERS:
        return None
    context = {"name": facts["name"]}
    for name in sorted(in_prompt):
        context["discount_percent" if name == "discount" else name] = facts[name]
    if "product" in form["facts"]:
        context["product"] = facts["produto"]
    user_text = _user_text(rng, occasion.format(**facts), "product" in context, facts)
    meta = {"kind": kind, "customer_unique_id": customer, "context": context}
    return Draft("push", user_text, {"text": text}, meta)


def _user_text(rng: random.Random, occasion: str, with_product: bool, facts: dict[str, Any]) -> str:
    """The request, then the facts, one per line in any order."""
    requests = TEXTS["requests"]
    opening = rng.choice(requests["openings"]).format(**facts)
    lines = [occasion, rng.choice(requests["name"]).format(**facts)]
    if with_product:
        lines.append(rng.choice(requests["product"]).format(**facts))
    rng.shuffle(lines)
    return "\n".join([opening, *lines])
