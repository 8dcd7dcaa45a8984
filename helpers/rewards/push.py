"""Reward of push: one notification of at most 120 characters, personal, with a call to action."""

import re
from collections.abc import Mapping
from typing import Any

from helpers.rewards.base import Parser, Parts
from helpers.rewards.text import fold, vocabulary, words
from helpers.tasks import MAX_PUSH_CHARACTERS

ZERO_LENGTH = 200

_ADDRESSING = re.compile(r"\b(?:voces?|seus?|suas?)\b")


def length_share(characters: int) -> float:
    """0 for nothing, full to 120 characters, linear to 0 at 200.

    >>> [length_share(n) for n in (0, 1, 120, 160, 200, 500)]
    [0.0, 1.0, 1.0, 0.5, 0.0, 0.0]
    """
    if characters == 0:
        return 0.0
    return max(0.0, min(1.0, (ZERO_LENGTH - characters) / (ZERO_LENGTH - MAX_PUSH_CHARACTERS)))


def names_word_of(text: str, fact: object) -> bool:
    """Whether the text holds the first word of a name or product (`Smartwatch Fit` -> `smartwatch`), as a whole word.

    >>> names_word_of("Oi, ana! Seu tênis chegou.", "Ana Souza"), names_word_of("Banana em oferta", "Ana")
    (True, False)
    """
    first = words(str(fact))[:1]
    return bool(first) and first[0] in words(text)


def personal_share(text: str, context: Mapping[str, Any]) -> float:
    """1 where the customer or the product is named, 0.5 where the reader is only addressed (`você`, `seu`, `sua`)."""
    if any(names_word_of(text, context[key]) for key in ("name", "product") if context.get(key)):
        return 1.0
    return 0.5 if _ADDRESSING.search(fold(text)) else 0.0


def form(text: str, record: Mapping[str, Any], parser: Parser) -> Parts:
    """v4.1: length, a call to action, a personal word, no letter formulas. No fact is checked."""
    stripped = text.strip()
    return Parts(
        {
            "length": length_share(len(stripped)),
            "call_to_action": float(bool(vocabulary("calls_to_action").found(stripped))),
            "personal": personal_share(stripped, record.get("meta", {}).get("context", {})),
            "no_formulas": float(bool(stripped) and not vocabulary("letter_formulas").found(stripped)),
        }
    )
