"""insights drafts: small tables of real aggregates, and short analyses that cite only their numbers."""

import random
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from helpers.tasks.pairs.drafts import EVERYTHING, MAX_USER_CHARACTERS, Draft, common_values
from helpers.tasks.pairs.portuguese import category_name, load_text, month_name, number, payment_name, state_forms

REFERENCE_CHARACTERS = (300, 600)
ENOUGH_ORDERS = 25  # a row of a table stands on at least so many orders
MISSES = 400  # draws without a new table before the source counts as used up

TEXTS = load_text("insights")


@dataclass(frozen=True)
class Scope:
    """A part of the orders: an SQL condition, how a title says it, and the values of the condition's `?`."""

    condition: str
    words: str
    values: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """One row's name, bare (`Ceará`), as a subject (`o Ceará`), after "em" (`no Ceará`), and as actions say it."""

    label: str
    subject: str
    place: str
    action_place: str


@dataclass(frozen=True)
class Table:
    """A small table of aggregates: its rows, and for each metric (`[metric]` of the texts) their values as shown."""

    dimension: str
    metrics: list[dict[str, Any]]
    rows: list[Row]
    values: list[tuple[float, ...]]  # one tuple per metric

    def raw(self) -> dict[str, Any]:
        """The table as `meta.table`: columns, and rows of a label and its numbers."""
        headers = [TEXTS["dimension"][self.dimension]["header"], *(metric["header"] for metric in self.metrics)]
        rows = [[row.label, *values] for row, *values in zip(self.rows, *self.values, strict=True)]
        return {"columns": headers, "rows": rows}


def drafts(db: sqlite3.Connection, rng: random.Random, where: str = EVERYTHING) -> Iterator[Draft]:
    """Analyses of ever new tables: topic, dimension, metrics and scope drawn by chance."""
    scopes = _scopes(db, where)
    seen: set[str] = set()
    misses = 0
    while misses < MISSES:
        misses += 1
        topic = rng.choice(TEXTS["topic"])
        dimension = rng.choice(topic["dimensions"])
        metrics = topic["metrics"] + ([rng.choice(topic["extra"])] if rng.random() < 0.5 else [])
        kind = rng.choice([kind for kind in scopes if kind != dimension])
        scope = rng.choice(scopes["none"] + scopes[kind])
        table = _query(db, rng, dimension, metrics, where, scope)
        key = repr(table)
        if table is None or key in seen:
            continue
        seen.add(key)
        words = scope.words + (f" (recorte: {where})" if where != EVERYTHING else "")
        draft = _draft(rng, topic, table, words.strip())
        if draft is not None:
            misses = 0
            yield draft


def identity(record: dict[str, Any]) -> list[tuple[str, str]]:
    """A table, and a title with the names of the table's rows."""
    meta = record["meta"]
    labels = [row[0] for row in meta["table"]["rows"]]
    return [("table", str(meta["table"])), ("title and rows", f"{meta['title']} {labels}")]


def _scopes(db: sqlite3.Connection, where: str) -> dict[str, list[Scope]]:
    """Parts of the orders with enough rows: all, years, half-years, states, categories, payment types."""
    years = common_values(db, "SUBSTR(purchase_month, 1, 4)", 200, where)
    halves = []
    for year in years:
        for half, first, last in ((1, "01", "06"), (2, "07", "12")):
            months = (f"{year}-{first}", f"{year}-{last}")
            halves.append(Scope("purchase_month BETWEEN ? AND ?", f"no {half}º semestre de {year}", months))
    states = common_values(db, "customer_state", 150, where)
    categories = common_values(db, "product_category_name", 150, where)
    payments = common_values(db, "payment_type", 400, where)
    return {
        "none": [Scope("1", "")],
        "year": [Scope("purchase_month LIKE ?", f"em {year}", (f"{year}-%",)) for year in years],
        "half": halves,
        "state": [Scope("customer_state = ?", state_forms(state).within, (state,)) for state in states],
        "category": [Scope("product_category_name = ?", f"em {category_name(name)}", (name,)) for name in categories],
        "payment": [Scope("payment_type = ?", f"com {payment_name(kind)}", (kind,)) for kind in payments],
    }


def _query(
    db: sqlite3.Connection, rng: random.Random, dimension: str, metrics: list[str], where: str, scope: Scope
) -> Table | None:
    """The table, or None where it has too few rows, a hole, or no two different values to compare."""
    form = TEXTS["dimension"][dimension]
    chosen = [TEXTS["metric"][metric] for metric in metrics]
    columns = ", ".join(f"ROUND({metric['sql']}, {metric['decimals']})" for metric in chosen)
    sql = (
        f"SELECT TRIM({form['column']}) AS label, {columns} FROM orders_enriched "
        f"WHERE ({where}) AND {scope.condition} AND price IS NOT NULL AND label IS NOT NULL "
        f"GROUP BY label HAVING COUNT(*) >= {ENOUGH_ORDERS} ORDER BY COUNT(*) DESC, label"
    )
    rows = db.execute(sql, scope.values).fetchall()
    rows = _choose_rows(rng, dimension, rows, form["rows"])
    if len(rows) < 3 or any(value is None for row in rows for value in row):
        return None
    labels, *values = zip(*rows, strict=True)
    if any(len(set(column)) < 2 or min(column) <= 0 for column in values[:2]):
        return None
    return Table(dimension, chosen, [_row(dimension, label) for label in labels], values)


def _choose_rows(rng: random.Random, dimension: str, rows: list[Any], size: int) -> list[Any]:
    """At most `size` rows: consecutive months, all the steps of a scale, else chance among the twelve largest."""
    size = min(size, len(rows))
    if dimension == "month":
        ordered = sorted(rows)
        start = rng.randrange(len(ordered) - size + 1) if ordered else 0
        return ordered[start : start + size]
    if len(rows) <= size:
        return rows
    picked = sorted(rng.sample(range(min(len(rows), 12)), size))
    return [rows[place] for place in picked]


def _row(dimension: str, value: str) -> Row:
    """How texts speak of a row."""
    form = TEXTS["dimension"][dimension]
    if "subject" not in form:
        name, subject, _, within = state_forms(value)
        return Row(name, subject, within, within)
    names: dict[str, Callable[[str], str]] = {
        "category": category_name,
        "month": lambda month: month_name(month).replace(" de ", "/"),
        "payment": payment_name,
    }
    name = names.get(dimension, str)(value)
    slots = {"name": name, "article": "o" if name in ("sábado", "domingo") else "a"}
    subject, place = (form[part].format(**slots) for part in ("subject", "place"))
    return Row(name, subject, place, form.get("action_place", form["place"]).format(**slots))


def _draft(rng: random.Random, topic: dict[str, Any], table: Table, scope: str) -> Draft | None:
    title = f"{topic['title']} {TEXTS['dimension'][table.dimension]['by']} {scope}".strip()
    user_text = f"{rng.choice(TEXTS['requests']['openings'])}\n{title}\n{markdown(table)}"
    for _ in range(6):
        text = _analysis(rng, topic, table)
        if REFERENCE_CHARACTERS[0] <= len(text) <= REFERENCE_CHARACTERS[1] and len(user_text) <= MAX_USER_CHARACTERS:
            meta = {"topic": topic["name"], "title": title, "table": table.raw()}
            return Draft("insights", user_text, {"text": text}, meta)
    return None


def markdown(table: Table) -> str:
    """The table as Markdown, its numbers in Brazilian notation."""
    raw = table.raw()
    rows = [
        [label, *(number(value, metric["decimals"]) for metric, value in zip(table.metrics, values, strict=True))]
        for label, *values in raw["rows"]
    ]
    return markdown_of_cells(raw["columns"], rows)


def markdown_of_cells(header: list[str], rows: list[list[str]]) -> str:
    """A header and rows of written cells as a Markdown table.

    >>> print(markdown_of_cells(["Estado", "Pedidos"], [["Bahia", "12"]]))
    | Estado | Pedidos |
    |---|---|
    | Bahia | 12 |
    """
    first, *others = ["| " + " | ".join(cells) + " |" for cells in (header, *rows)]
    return "\n".join([first, "|" + "---|" * len(header), *others])


def _analysis(rng: random.Random, topic: dict[str, Any], table: Table) -> str:
    """Findings, causes and actions, in one of several layouts."""
    layouts = TEXTS["layouts"]
    place = rng.randrange(len(layouts["findings"]))
    labels = [layouts[part][place] for part in ("findings", "causes", "actions")]
    pool = topic["causes"] + TEXTS["causes"].get(table.dimension, [])
    causes = rng.sample(pool, rng.choice((1, 2)))
    best, worst = _best_and_worst(table)
    slots = {"em_best": best.action_place, "em_worst": worst.action_place}
    actions = [text.format(**slots) for text in _pick_actions(rng, topic["actions"])]
    bodies = [
        " ".join(_findings(rng, table)),
        _capital("; ".join(causes)) + ".",
        _capital(", ".join(actions[:-1]) + " e " + actions[-1]) + ".",
    ]
    if rng.random() < 0.35:
        bodies[2] = "\n" + "\n".join(f"- {_capital(action)}." for action in actions)
    return "\n".join(f"{label} {body}".replace(" \n", "\n") for label, body in zip(labels, bodies, strict=True))


def _pick_actions(rng: random.Random, actions: list[str]) -> list[str]:
    """Three actions, of which one or two name the place, so that its name is not said over and over."""
    placed = [text for text in actions if "{em_" in text]
    general = [text for text in actions if "{em_" not in text]
    chosen = rng.sample(placed, min(len(placed), rng.choice((1, 2))))
    chosen += rng.sample(general, min(len(general), 3 - len(chosen)))
    chosen += [text for text in rng.sample(placed, len(placed)) if text not in chosen][: 3 - len(chosen)]
    rng.shuffle(chosen)
    return chosen


def _best_and_worst(table: Table) -> tuple[Row, Row]:
    """The best and the worst row by the first metric."""
    low, *_, high = sorted(range(len(table.rows)), key=lambda row: table.values[0][row])
    best, worst = (high, low) if table.metrics[0]["good"] == "high" else (low, high)
    return table.rows[best], table.rows[worst]


def _worst_row(table: Table, metric: int) -> int:
    values = table.values[metric]
    return values.index(min(values) if table.metrics[metric]["good"] == "high" else max(values))


def _findings(rng: random.Random, table: Table) -> list[str]:
    """Two or three sentences: the first metric's extremes, the second metric of the same rows, perhaps both at once."""
    texts = TEXTS["findings"]
    first = table.values[0]
    if max(first) >= 1.5 * min(first) and rng.random() < 0.4:
        opening = texts["ratio"]
    else:
        opening = texts["trend"] if table.dimension == "month" and rng.random() < 0.4 else texts["extremes"]
    chosen = [rng.choice(opening), rng.choice(texts["second"])]
    if rng.random() < 0.4:
        chosen.append(rng.choice(texts["together" if _worst_row(table, 1) == _worst_row(table, 0) else "apart"]))
    slots = _slots(table)
    return [_capital(text.format(**slots)) for text in chosen]


def _slots(table: Table) -> dict[str, str]:
    """What the sentences of findings may say of a table."""
    metric, second = table.metrics[:2]
    first, other = table.values[:2]
    low, high = first.index(min(first)), first.index(max(first))
    _, worst = _best_and_worst(table)
    return {
        "m": metric["m"],
        "m_bare": metric["m"].split(" ", 1)[1],
        "low": table.rows[low].subject,
        "low_name": table.rows[low].label,
        "high": table.rows[high].subject,
        "em_low": table.rows[low].place,
        "em_high": table.rows[high].place,
        "v_low": _value(metric, first[low]),
        "v_high": _value(metric, first[high]),
        "gap": _value(metric, first[high] - first[low], per_cent=" pontos percentuais"),
        "ratio": number(first[high] / first[low], 1),
        "first": table.rows[0].label,
        "last": table.rows[-1].label,
        "v_first": _value(metric, first[0]),
        "v_last": _value(metric, first[-1]),
        "second_m": second["m"],
        "second_short": second["short"].format(v=number(other[high], second["decimals"])),
        "other_short": second["short"].format(v=number(other[low], second["decimals"])),
        "second_v": _value(second, other[high]),
        "other_v": _value(second, other[low]),
        "w": worst.subject,
        "em_w": worst.place,
    }


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _value(metric: dict[str, Any], value: float, per_cent: str = "%") -> str:
    """A value with its unit, as running text writes it."""
    header, shown = metric["header"], number(value, metric["decimals"])
    if "(R$)" in header:
        return f"R$ {shown}"
    return shown + (per_cent if "(%)" in header else " dias" if header.startswith("Dias") else "")
