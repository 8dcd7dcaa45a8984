"""Probes of extraction: the ten fields in other dress, with one wrong, fixed, guessed, or only looking the part."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from helpers.rewards.probes.base import Probe
from helpers.tasks import ENUM_VALUES, LEVELS, REVIEW_FIELDS, SENTIMENTS

_HAPPY: dict[str, Any] = {
    "sentiment": "positive",
    "sentiment_score": 5.0,
    "complaint_category": "none",
    "churn_risk": "low",
    "urgency": "low",
    "delivery_issue": False,
    "product_issue": False,
    "seller_issue": False,
    "would_buy_again": True,
    "main_complaint": None,
}
_UNHAPPY: dict[str, Any] = {
    "sentiment": "negative",
    "sentiment_score": 1.0,
    "complaint_category": "late_delivery",
    "churn_risk": "high",
    "urgency": "high",
    "delivery_issue": True,
    "product_issue": False,
    "seller_issue": False,
    "would_buy_again": False,
    "main_complaint": "Entrega atrasada",
}
_MIXED: dict[str, Any] = {
    "sentiment": "neutral",
    "sentiment_score": 3.0,
    "complaint_category": "product_quality",
    "churn_risk": "medium",
    "urgency": "low",
    "delivery_issue": False,
    "product_issue": True,
    "seller_issue": False,
    "would_buy_again": True,
    "main_complaint": "Qualidade do produto",
}
_PORTUGUESE_KEYS = dict(
    zip(
        REVIEW_FIELDS,
        (
            "sentimento",
            "nota_sentimento",
            "categoria_reclamacao",
            "risco_churn",
            "urgencia",
            "problema_entrega",
            "problema_produto",
            "problema_vendedor",
            "compraria_novamente",
            "principal_reclamacao",
        ),
        strict=True,
    )
)


def probes(record: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> list[Probe]:
    """Everything tried on one review."""
    fields = record["reference"]["fields"]
    return [
        Probe("reference", "reference", record["reference"]["text"]),
        *(Probe(name, "harmless", text) for name, text in _harmless(fields)),
        *(Probe(f"wrong {name}", "wrong_fact", _json(fields | {name: value})) for name, value in _wrong(fields)),
        Probe("right sentiment alone", "partial", _json({"sentiment": fields["sentiment"]})),
        *_other(record, records),
        *(Probe(name, "lazy", text) for name, text in _lazy(fields)),
        *(Probe(name, "cheat", text) for name, text in _cheats().items()),
    ]


def _json(fields: Mapping[str, Any], **how: Any) -> str:
    return json.dumps(fields, ensure_ascii=False, **how)


def _harmless(fields: dict[str, Any]) -> Iterator[tuple[str, str]]:
    text = _json(fields)
    score = f"{fields['sentiment_score']:.1f}"
    yield "decimal comma", text.replace(f'"sentiment_score": {score}', f'"sentiment_score": {score.replace(".", ",")}')
    yield "code fence", f"```json\n{text}\n```"
    yield "key order", _json(dict(reversed(fields.items())))
    yield "indented", _json(fields, indent=4)
    yield "no spaces", _json(fields, separators=(",", ":"))
    yield "extra spaces", f"\n  {_json(fields, separators=(' ,  ', ' :  '))}  \n\n"
    yield "trailing comma", f"{text[:-1]},}}"
    yield "introduced", f"Segue o JSON da avaliação:\n{text}"
    yield "escaped accents", json.dumps(fields)
    if fields["main_complaint"]:
        yield "complaint in capitals", _json(fields | {"main_complaint": fields["main_complaint"].upper()})
        yield "complaint reworded", _json(fields | {"main_complaint": _reworded(fields["main_complaint"])})


def _reworded(complaint: str) -> str:
    head, *rest = complaint.split()
    return " ".join([*rest, "-", head.lower()]) if rest else f"Houve {head.lower()}"


def _wrong(fields: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, values in ENUM_VALUES.items():
        yield name, _another(fields[name], values)
    yield "sentiment_score", 5.0 if fields["sentiment_score"] <= 3 else 1.0
    yield from ((name, not fields[name]) for name, kind in REVIEW_FIELDS.items() if kind == "bool")
    yield "main_complaint", "Cobrança em duplicidade" if fields["main_complaint"] is None else None


def _another(value: str, values: Sequence[str]) -> str:
    """A wrong value, as far from the right one as the list allows."""
    return values[-1] if values.index(value) < len(values) / 2 else values[0]


def _other(record: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> list[Probe]:
    """A good answer about a review of another sentiment and another complaint."""
    fields = record["reference"]["fields"]
    for other in records:
        theirs = other["reference"]["fields"]
        if all(theirs[name] != fields[name] for name in ("sentiment", "complaint_category")):
            return [Probe("another record's reference", "other_record", other["reference"]["text"])]
    return []


def _lazy(fields: dict[str, Any]) -> Iterator[tuple[str, str]]:
    decisive = ("sentiment", "complaint_category")
    fixed = (_HAPPY, _UNHAPPY, _MIXED)
    wrong = next((answer for answer in fixed if all(answer[name] != fields[name] for name in decisive)), _MIXED)
    yield "fixed answer, wrong here", _json(wrong)
    yield "right fields, keys in Portuguese", _json({_PORTUGUESE_KEYS[name]: value for name, value in fields.items()})


def _cheats() -> dict[str, str]:
    return {
        "all fields null": _json(dict.fromkeys(REVIEW_FIELDS)),
        "all fields empty": _json(dict.fromkeys(REVIEW_FIELDS, "")),
        "the schema itself": _json(REVIEW_FIELDS),
        "every option at once": _json(dict.fromkeys(REVIEW_FIELDS) | {n: "|".join(v) for n, v in ENUM_VALUES.items()}),
        "options as lists": _json(dict.fromkeys(REVIEW_FIELDS) | {n: list(v) for n, v in ENUM_VALUES.items()}),
        "empty object": "{}",
        "empty array": "[]",
        "field names without values": ", ".join(REVIEW_FIELDS),
        "keys and values as prose": " ".join((*REVIEW_FIELDS, *SENTIMENTS, *LEVELS)),
        "ten surplus fields": _json({f"field_{number}": True for number in range(10)}),
    }
