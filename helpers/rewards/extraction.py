"""Reward of extraction: ten fields of a customer review, read out of the completion as one JSON object."""

from collections.abc import Mapping
from typing import Any

from helpers.rewards.base import REPAIR_FLAG, Parser, Parts
from helpers.tasks import ENUM_VALUES, MAX_COMPLAINT_CHARACTERS, REVIEW_FIELDS, SCORE_RANGE

ISSUE_FLAGS = ("delivery_issue", "product_issue", "seller_issue")


def form(text: str, record: Mapping[str, Any], parser: Parser) -> Parts:
    """v4.1: the object parses, its fields are there, their values are valid. Whether they are right is not asked."""
    parsed = parser(text)
    flags = tuple(REPAIR_FLAG + repair for repair in parsed.repairs)
    if parsed.value is None:
        return Parts({"parsed": 0.0, "fields": 0.0, "values": 0.0}, ("no_object", *flags))
    present = sum(name in parsed.value for name in REVIEW_FIELDS) / len(REVIEW_FIELDS)
    return Parts({"parsed": 1.0, "fields": present, "values": _valid_share(parsed.value)}, flags)


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
    """None, or a text of 1 to 120 characters."""
    return value is None or (isinstance(value, str) and bool(value.strip()) and len(value) <= MAX_COMPLAINT_CHARACTERS)


def _valid_share(fields: Mapping[str, Any]) -> float:
    checks = value_checks(fields)
    return sum(checks.values()) / len(checks)
