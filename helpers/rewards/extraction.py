"""Reward of extraction: ten fields of a customer review, read out of the completion as one JSON object."""

from collections.abc import Iterable, Mapping
from typing import Any

from helpers.core.text import graphemes
from helpers.parsing import ParsedCompletion, repair_class
from helpers.rewards.base import REPAIR_FLAG, Parser, Parts
from helpers.rewards.text.language import stem_f1
from helpers.tasks import ENUM_VALUES, MAX_COMPLAINT_CHARACTERS, REVIEW_FIELDS, SCORE_RANGE

WEIGHTS = {
    "v4.1": {"parsed": 0.20, "fields": 0.40, "values": 0.40},
    "v4.2": {
        "format": 0.22,
        "sentiment": 0.14,
        "sentiment_score": 0.08,
        "complaint_category": 0.18,
        "levels": 0.08,
        "issue_flags": 0.14,
        "would_buy_again": 0.06,
        "main_complaint": 0.10,
        "contradiction": -0.20,
    },
}

ISSUE_FLAGS = ("delivery_issue", "product_issue", "seller_issue")
LEVEL_FIELDS = ("churn_risk", "urgency")
SCORE_REACH = 2.0
"""A sentiment score this far from the reference earns nothing."""


def form(text: str, record: Mapping[str, Any], parser: Parser) -> Parts:
    """v4.1: the object parses, its fields are there, their values are valid. Whether they are right is not asked."""
    parsed = parser(text)
    if parsed.value is None:
        return Parts({"parsed": 0.0, "fields": 0.0, "values": 0.0}, ("no_object", *_repair_flags(parsed)))
    present = sum(name in parsed.value for name in REVIEW_FIELDS) / len(REVIEW_FIELDS)
    return Parts({"parsed": 1.0, "fields": present, "values": _valid_share(parsed.value)}, _repair_flags(parsed))


def value_checks(fields: Mapping[str, Any]) -> dict[str, bool]:
    """The eight checks of v4.1, 0.05 each. A missing field fails its check.

    >>> value_checks({"sentiment": "negative", "sentiment_score": True})["sentiment_score"]
    False
    """
    checks = {name: name in fields and fields[name] in values for name, values in ENUM_VALUES.items()}
    checks["sentiment_score"] = is_valid_score(fields.get("sentiment_score"))
    checks["issue_flags"] = all(isinstance(fields.get(name), bool) for name in ISSUE_FLAGS)
    checks["would_buy_again"] = isinstance(fields.get("would_buy_again"), bool)
    checks["main_complaint"] = "main_complaint" in fields and is_valid_complaint(fields["main_complaint"])
    return checks


def is_valid_score(value: Any) -> bool:
    """A number from 1 to 5; a boolean is not a number."""
    low, high = SCORE_RANGE
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def is_valid_complaint(value: Any) -> bool:
    """None, or a text of 1 to 120 characters as a person counts them."""
    return value is None or (
        isinstance(value, str) and bool(value.strip()) and graphemes(value) <= MAX_COMPLAINT_CHARACTERS
    )


def _valid_share(fields: Mapping[str, Any]) -> float:
    checks = value_checks(fields)
    return sum(checks.values()) / len(checks)


def _repair_flags(parsed: ParsedCompletion) -> tuple[str, ...]:
    return tuple(REPAIR_FLAG + repair for repair in parsed.repairs)


def correctness(text: str, record: Mapping[str, Any], parser: Parser) -> Parts:
    """v4.2: each field against the reference.

    The lesser fields (levels, flags, buying again, an absent complaint) are easy to hit by chance. They count as far
    as the answer is about this review: fully where sentiment and category are right, half where one is, else not.
    """
    parsed = parser(text)
    fields, reference = parsed.value or {}, record["reference"]["fields"]
    right = {name: _same(fields.get(name), value) and name in fields for name, value in reference.items()}
    about = (right["sentiment"] + right["complaint_category"]) / 2
    contradicts = not right["sentiment"] and contradicts_review(fields.get("sentiment"), record)
    shares = {
        "format": _format_share(parsed),
        "sentiment": float(right["sentiment"]),
        "sentiment_score": _score_share(fields.get("sentiment_score"), reference["sentiment_score"]),
        "complaint_category": float(right["complaint_category"]),
        "levels": about * _mean(right[name] for name in LEVEL_FIELDS),
        "issue_flags": about * _mean(right[name] for name in ISSUE_FLAGS),
        "would_buy_again": about * right["would_buy_again"],
        "main_complaint": _complaint_share(fields, reference["main_complaint"], about),
        "contradiction": float(contradicts),
    }
    return Parts(shares, (*_notes(parsed, contradicts), *_repair_flags(parsed)))


def contradicts_review(sentiment: Any, record: Mapping[str, Any]) -> bool:
    """Whether a sentiment is the opposite of the stars that the customer gave (positive at 1-2, negative at 4-5)."""
    stars = record.get("meta", {}).get("review_score")
    if not isinstance(stars, int | float):
        return False
    return (sentiment == "positive" and stars <= 2) or (sentiment == "negative" and stars >= 4)


def _format_share(parsed: ParsedCompletion) -> float:
    """1 for exactly the ten fields, all valid, in an object read without guessing; surplus or invalid fields cost."""
    if parsed.value is None or repair_class(parsed.repairs) == "lossy":
        return 0.0
    expected = sum(name in REVIEW_FIELDS for name in parsed.value)
    return _valid_share(parsed.value) ** 2 * expected / max(len(REVIEW_FIELDS), len(parsed.value))


def _same(value: Any, reference: Any) -> bool:
    """Equal, with True and 1 told apart."""
    return isinstance(value, bool) == isinstance(reference, bool) and value == reference


def _score_share(value: Any, reference: float) -> float:
    return max(0.0, 1.0 - abs(value - reference) / SCORE_REACH) if is_valid_score(value) else 0.0


def _complaint_share(fields: Mapping[str, Any], reference: str | None, about: float) -> float:
    value = fields.get("main_complaint")
    if "main_complaint" not in fields or not is_valid_complaint(value):
        return 0.0
    if value is None or reference is None:
        return about * (value is reference)
    return stem_f1(value, reference)


def _mean(values: Iterable[bool]) -> float:
    listed = list(values)
    return sum(listed) / len(listed)


def _notes(parsed: ParsedCompletion, contradicts: bool) -> tuple[str, ...]:
    notes = {
        "no_object": parsed.value is None,
        "guessed": repair_class(parsed.repairs) == "lossy",
        "contradicts_review": contradicts,
    }
    return tuple(name for name, noticed in notes.items() if noticed)
