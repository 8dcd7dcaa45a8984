"""sql_qa drafts: question families (`text/sql_qa.toml`) filled with values that the database holds."""

import random
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from helpers.tasks.pairs.drafts import EVERYTHING, MAX_USER_CHARACTERS, Draft, common_values
from helpers.tasks.pairs.portuguese import category_name, load_text, month_name, payment_name, state_forms, status_name
from helpers.tasks.spec import classify_task

MAX_REFERENCE_CHARACTERS = 480
MAX_ROWS = 20
ENOUGH_ORDERS = 30  # a value is asked about only where at least so many orders have it
YEARS = range(2010, 2030)  # of questions by chance
TRIES = 12  # draws of new values for a family before it counts as used up

TEXTS = load_text("sql_qa")

Values = dict[str, list[Any]]


def drafts(db: sqlite3.Connection, rng: random.Random, where: str = EVERYTHING) -> Iterator[Draft]:
    """Questions in rounds over all families, each with values not yet asked; ends when every family is used up.

    `where` limits the orders from which values (states, categories, months ...) are drawn.
    """
    values = _values(db, where)
    families = list(TEXTS["family"])
    used: set[str] = set()
    while families:
        rng.shuffle(families)
        for family in list(families):
            draft = _new_draft(db, rng, family, values, used)
            if draft is None:
                families.remove(family)
            else:
                yield draft


def drafts_by_chance(rng: random.Random) -> Iterator[Draft]:
    """Questions without end, every family as often as another, on values that no shop need hold; without results.

    A shop's own questions teach few of its months and, since a family ends with its values, mostly the families
    that have many.
    """
    while True:
        for family in rng.sample(TEXTS["family"], len(TEXTS["family"])):
            params = _draw_params(rng, family, _values_by_chance(rng))
            draft = _written(rng, family, params) if params else None
            if draft is not None:
                yield draft


def identity(record: dict[str, Any]) -> list[tuple[str, str]]:
    """A question, and a family with its parameters."""
    meta = record["meta"]
    return [("question", meta["question"]), ("family and params", f"{meta['family']} {meta['params']}")]


def _values(db: sqlite3.Connection, where: str) -> Values:
    """The values each kind of parameter may take."""
    year_orders = 400 if where == EVERYTHING else ENOUGH_ORDERS
    return {
        "state": common_values(db, "customer_state", ENOUGH_ORDERS, where),
        "category": common_values(db, "product_category_name", ENOUGH_ORDERS, where),
        "month": common_values(db, "purchase_month", ENOUGH_ORDERS, where),
        "year": common_values(db, "SUBSTR(purchase_month, 1, 4)", year_orders, where),
        "payment": common_values(db, "payment_type", ENOUGH_ORDERS, where),
        "status": common_values(db, "order_status", 5, where),
        "seller_state": common_values(db, "seller_state", 3, table="sellers"),
        **TEXTS["values"],
    }


def _values_by_chance(rng: random.Random) -> Values:
    """Values of two decades, all states, and a category: one with a name, or two words of different ones."""
    names = load_text("portuguese")
    words = sorted({word for category in names["categories"] for word in category.split("_")})
    named = rng.choice(list(names["categories"]))
    return {
        "state": list(names["states"]),
        "category": [named if rng.random() < 0.5 else "_".join(rng.sample(words, 2))],
        "month": [f"{year}-{month:02d}" for year in YEARS for month in range(1, 13)],
        "year": [str(year) for year in YEARS],
        "payment": list(names["payments"]),
        "status": list(names["statuses"]),
        "seller_state": list(names["states"]),
        **TEXTS["values"],
    }


def _list_of_states(codes: list[str]) -> dict[str, str]:
    first, second, third = codes
    return {"states_list": f"{first}, {second} e {third}", "states_sql": f"'{first}', '{second}', '{third}'"}


def _state(code: str) -> dict[str, str]:
    name, _, of, within = state_forms(code)
    return {"state_name": name, "do_estado": of, "no_estado": within}


_FORMS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "three_states": _list_of_states,
    "state": _state,
    "category": lambda code: {"category_name": category_name(code)},
    "month": lambda code: {"month_name": month_name(code)},
    "payment": lambda code: {"payment_name": payment_name(code)},
    "status": lambda code: {"status_name": status_name(code)},
    "window": lambda months: {"window_before": months - 1},
}
"""In which forms texts use a value, beside its own."""


def _new_draft(
    db: sqlite3.Connection, rng: random.Random, family: dict[str, Any], values: Values, used: set[str]
) -> Draft | None:
    """A draft of this family with values not yet asked and a usable result; None after `TRIES` failures."""
    for _ in range(TRIES):
        params = _draw_params(rng, family, values)
        if params is None:
            return None
        key = f"{family['name']} {params}"
        if key in used:
            continue
        used.add(key)
        draft = _draft(db, rng, family, params)
        if draft is not None:
            return draft
    return None


def _draw_params(rng: random.Random, family: dict[str, Any], values: Values) -> dict[str, Any] | None:
    """A value for each parameter of a family; None where the database holds none."""
    params: dict[str, Any] = {}
    for kind in family["params"]:
        if kind == "three_states":
            params[kind] = sorted(rng.sample(values["state"], 3))
        elif values[kind]:
            params[kind.removeprefix("seller_")] = rng.choice(values[kind])
        else:
            return None
    return params


def _draft(db: sqlite3.Connection, rng: random.Random, family: dict[str, Any], params: dict[str, Any]) -> Draft | None:
    """A question with the shop's answer; None where that cannot be used, or `_written` gives None."""
    result = _run(db, family, _sql_slots(family, params))
    draft = _written(rng, family, params) if result is not None else None
    return draft and replace(draft, reference=draft.reference | {"result": result})


def _slots(family: dict[str, Any], params: dict[str, Any]) -> dict[str, Any]:
    """What a family's texts are filled with."""
    slots = family.get("constants", {}) | params
    for name, value in params.items():
        slots |= _FORMS.get(name, lambda _: {})(value)
    return slots


def _sql_slots(family: dict[str, Any], params: dict[str, Any]) -> dict[str, Any]:
    """What a family's query is filled with."""
    literals = {name: value.replace("'", "''") for name, value in params.items() if isinstance(value, str)}
    return _slots(family, params) | literals


def _written(rng: random.Random, family: dict[str, Any], params: dict[str, Any]) -> Draft | None:
    """A question with its query and explanation, not yet asked of a shop; None where a text is too long, or reads as
    another task."""
    slots = _slots(family, params)
    sql = family["sql"].format(**_sql_slots(family, params))
    question = rng.choice(family["questions"]).format(**slots)
    explanation = f"{rng.choice(family['what'])} {rng.choice(family['read'])}".format(**slots)
    text = f"```sql\n{sql}\n```\n{explanation}"
    request = rng.choice(TEXTS["requests"]["openings"])
    user_text = request.format(schema=schema_part(family["columns"]), question=question)
    too_long = len(user_text) > MAX_USER_CHARACTERS or len(text) > MAX_REFERENCE_CHARACTERS
    if too_long or classify_task(user_text) != "sql_qa":  # a category may be called "push"
        return None
    meta = {
        "family": family["name"],
        "difficulty": family["difficulty"],
        "question": question,
        "params": params,
        "ordered": "ordered" in family,
        "tables": list(family["columns"]),
    }
    return Draft("sql_qa", user_text, {"text": text, "sql": sql}, meta)


def _run(db: sqlite3.Connection, family: dict[str, Any], slots: dict[str, Any]) -> dict[str, Any] | None:
    """The columns and rows that answer a question; None where the answer is empty, too long, or not the only one.

    Where the question asks for the first n, one row more is fetched: a tie at the cut, as any tie in the order asked
    for, would make another answer as right.
    """
    limit = next((kind for kind in ("n", "k") if f"LIMIT {{{kind}}}" in family["sql"]), None)
    one_more = {limit: slots[limit] + 1} if limit else {}
    cursor = db.execute(family["sql"].format(**slots | one_more))
    columns = [column[0] for column in cursor.description]
    rows = [list(row) for row in cursor.fetchmany(MAX_ROWS + 1)]
    if "ordered" in family:
        order = [row[columns.index(family["ordered"])] for row in rows]
        if len(set(order)) < len(order):
            return None
    if limit and len(rows) < slots[limit]:
        return None
    rows = rows[: slots[limit]] if limit else rows
    useless = not rows or len(rows) > MAX_ROWS or all(value in (None, 0) for row in rows for value in row)
    return None if useless else {"columns": columns, "rows": rows}


def schema_part(columns: dict[str, list[str]]) -> str:
    """The tables and columns that a question needs, one per line, with a note where a name does not say enough.

    >>> schema_part({"orders_enriched": ["customer_state", "is_late"]})
    'Tabela orders_enriched (um pedido por linha): customer_state, is_late (1 = entregue com atraso)'
    """
    notes = TEXTS["notes"]
    lines = []
    for table, names in columns.items():
        grain = " (um pedido por linha)" if table == "orders_enriched" else ""
        shown = [f"{name} ({notes[name]})" if name in notes else name for name in names]
        lines.append(f"Tabela {table}{grain}: {', '.join(shown)}")
    return "\n".join(lines)
