"""Habits: what a general instruct model does that was never shown our formats, put on reference answers.

The handoff met them in the hub model: scores written `4,5`, JSON in fences, extraction at 0.17 under its parser.
`RATES` is the one table of them; the embedded policies are trained on answers that have them at these rates.
"""

import json
import random
import re
from collections.abc import Callable, Mapping
from typing import Any

from helpers.tasks.review import ENUM_VALUES

Record = dict[str, Any]

RATES: Mapping[str, Mapping[str, float]] = {
    "extraction": {
        "a wrong value in one field": 0.12,
        "fields left out": 0.75,
        "sentiment in Portuguese": 0.60,
        "risk and urgency in Portuguese": 0.60,
        "sim and não for true and false": 0.50,
        "a decimal comma": 0.75,
        "a comma before the closing brace": 0.10,
        "a code fence": 0.30,
        "a lead-in sentence": 0.15,
    },
    "sql_qa": {
        "a query without explanation": 0.50,
        "an explanation without query": 0.22,
        "the first sentence of the explanation alone": 0.16,
        "a query without its fence": 0.15,
    },
    "insights": {
        "the first finding alone": 0.45,
        "one sentence without a heading": 0.30,
        "findings and causes without actions": 0.13,
    },
    "push": {
        "one or two sentences too many": 0.60,
        "the formulas of a letter": 0.35,
        "the last sentence left out": 0.50,
    },
}
"""Shares of answers by task. At most one holds of sql_qa's first three, of insights' three, of fence and lead-in."""

_IN_PORTUGUESE = {
    "positive": "positivo",
    "neutral": "neutro",
    "negative": "negativo",
    "low": "baixo",
    "medium": "médio",
    "high": "alto",
}
_LEFT_OUT = (
    ("main_complaint",),
    ("would_buy_again", "main_complaint"),
    ("seller_issue", "would_buy_again"),
    ("delivery_issue", "product_issue", "seller_issue"),
    ("delivery_issue", "product_issue", "seller_issue", "would_buy_again", "main_complaint"),
    ("churn_risk", "urgency", "delivery_issue", "product_issue", "seller_issue", "would_buy_again"),
)
_TOO_MANY = (
    "Temos muitas novidades esperando por você na nossa loja, com condições especiais por tempo limitado.",
    "Não deixe para depois: a nossa equipe preparou tudo com muito carinho para você aproveitar.",
    "Aproveitamos para informar que as condições são válidas enquanto durarem os estoques da loja.",
)


def with_habits(record: Record, rng: random.Random) -> str:
    """The record's reference answer as a model with our habits would write it; a task without habits keeps its own."""
    put_on = _HABITS.get(record["task"])
    return put_on(record["reference"], RATES[record["task"]], rng) if put_on else record["reference"]["text"]


def _extraction(reference: Record, rates: Mapping[str, float], rng: random.Random) -> str:
    fields = dict(reference["fields"])
    if rng.random() < rates["a wrong value in one field"]:
        name = rng.choice(list(ENUM_VALUES))
        fields[name] = rng.choice(ENUM_VALUES[name])
    if rng.random() < rates["fields left out"]:
        for name in rng.choice(_LEFT_OUT):
            del fields[name]
    for habit, names in (
        ("sentiment in Portuguese", ("sentiment",)),
        ("risk and urgency in Portuguese", ("churn_risk", "urgency")),
    ):
        if rng.random() < rates[habit]:
            fields |= {name: _IN_PORTUGUESE[fields[name]] for name in names if name in fields}
    return _wrapped(_written(fields, rates, rng), rates, rng)


def _written(fields: Record, rates: Mapping[str, float], rng: random.Random) -> str:
    """The object as text, with Portuguese spellings of what JSON spells in English."""
    text = json.dumps(fields, ensure_ascii=False)
    if rng.random() < rates["sim and não for true and false"]:
        text = text.replace(": true", ': "sim"').replace(": false", ': "não"')
    if rng.random() < rates["a decimal comma"]:
        text = re.sub(r'("sentiment_score": \d)\.(\d)', r"\1,\2", text)
    if rng.random() < rates["a comma before the closing brace"]:
        text = text.removesuffix("}") + ",}"
    return text


def _wrapped(text: str, rates: Mapping[str, float], rng: random.Random) -> str:
    """The object with what stands around it."""
    draw = rng.random()
    if draw < rates["a code fence"]:
        return f"```json\n{text}\n```"
    if draw < rates["a code fence"] + rates["a lead-in sentence"]:
        return f"Segue o JSON: {text}"
    return text


def _sql_qa(reference: Record, rates: Mapping[str, float], rng: random.Random) -> str:
    query, explanation = f"```sql\n{reference['sql']}\n```", reference["text"].rpartition("```\n")[2]
    only_query, only_words, one_sentence, no_fence = rates.values()
    draw = rng.random()
    if draw < only_query:
        text = query
    elif draw < only_query + only_words:
        text = explanation
    elif draw < only_query + only_words + one_sentence:
        text = f"{query}\n{explanation.split('. ')[0].rstrip('.')}."
    else:
        text = reference["text"]
    return text.replace("```sql\n", "").replace("\n```", "") if rng.random() < no_fence else text


def _insights(reference: Record, rates: Mapping[str, float], rng: random.Random) -> str:
    findings, *rest = reference["text"].split("\n")
    first_finding, one_sentence, no_actions = rates.values()
    draw = rng.random()
    if draw < first_finding:
        return findings
    if draw < first_finding + one_sentence:
        return findings.split(". ")[0].split(": ", 1)[-1].rstrip(".") + "."
    if draw < first_finding + one_sentence + no_actions:
        return "\n".join([findings, *rest[:1]])
    return reference["text"]


def _push(reference: Record, rates: Mapping[str, float], rng: random.Random) -> str:
    text = reference["text"]
    if rng.random() < rates["one or two sentences too many"]:
        text = " ".join([text.rstrip("!.") + ".", *rng.sample(_TOO_MANY, rng.choice((1, 2)))])
    if rng.random() < rates["the formulas of a letter"]:
        text = f"Prezado cliente, {text[0].lower()}{text[1:]} Atenciosamente, equipe da loja."
    if rng.random() < rates["the last sentence left out"]:
        text = " ".join(re.split(r"(?<=[.!?]) ", text)[:-1]) or text
    return text


_HABITS: Mapping[str, Callable[[Record, Mapping[str, float], random.Random], str]] = {
    "extraction": _extraction,
    "sql_qa": _sql_qa,
    "insights": _insights,
    "push": _push,
}
