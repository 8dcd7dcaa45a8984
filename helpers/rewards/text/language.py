"""What the correctness rewards ask of Portuguese prose: is it Portuguese, does it repeat itself, is it copied."""

import re
from collections.abc import Mapping
from typing import Any

from helpers.rewards.text.words import terms, words

FUNCTION_WORD_SHARE = 0.12
"""Prose has a third of function words; a notification at least an eighth; a list of keywords none."""
REPEAT_SPAN = 4
MOSTLY_NEW, MOSTLY_REPEATED = 0.75, 0.4
COPY_SPAN = 5
MOSTLY_OWN = 0.5
STEM_LETTERS = 5

_SPANISH = re.compile("[¡¿ñ]")
_ENCLITIC = re.compile(r"(?<=\w)-(?:l|n)(?=[oa]s?\b)", re.IGNORECASE)


def portuguese_share(text: str) -> float:
    """1 for Portuguese prose, less for lists of keywords, 0 for none, and where another language's words prevail.

    >>> portuguese_share("Seu pedido está a caminho."), portuguese_share("Your order is on the way.")
    (1.0, 0.0)
    """
    tokens = words(_ENCLITIC.sub(" ", text))  # the `lo` of `vê-lo` is no Spanish article
    native, foreign = terms("portuguese"), terms("foreign")
    here = sum(token in native for token in tokens)
    only_here = sum(token in native and token not in foreign for token in tokens)
    only_there = sum(token in foreign and token not in native for token in tokens) + len(_SPANISH.findall(text))
    if not here or only_there > only_here or only_there == only_here > 0:
        return 0.0
    return min(1.0, here / len(tokens) / FUNCTION_WORD_SHARE)


def novelty_share(text: str) -> float:
    """1 where three quarters of a text's word 4-grams are new in it, 0 where two fifths are, linear between.

    >>> novelty_share("o frete subiu em SP " * 10), novelty_share("O frete subiu.")
    (0.0, 1.0)
    """
    spans = _spans(words(text), REPEAT_SPAN)
    if not spans:
        return 1.0
    new = len(set(spans)) / len(spans)
    return min(1.0, max(0.0, (new - MOSTLY_REPEATED) / (MOSTLY_NEW - MOSTLY_REPEATED)))


def own_words_share(text: str, source: str) -> float:
    """0 where all of a text's word 5-grams stand in `source` word for word, 1 where at most half do, linear between.

    >>> own_words_share("qual o frete médio de cada estado", "Responda: qual o frete médio de cada estado?")
    0.0
    """
    spans = _spans(words(text), COPY_SPAN)
    if not spans:
        return 1.0
    copied = set(_spans(words(source), COPY_SPAN))
    own = sum(span not in copied for span in spans) / len(spans)
    return min(1.0, own / MOSTLY_OWN)


def prompt_words(record: Mapping[str, Any]) -> str:
    """All that a record's prompt says, system turn included: what a completion might copy."""
    return "\n".join(message["content"] for message in record["prompt"])


def stems(text: str) -> set[str]:
    """The first five letters of each content word: inflections of a word share a stem.

    >>> sorted(stems("As entregas estão atrasadas"))
    ['atras', 'entre']
    """
    return {token[:STEM_LETTERS] for token in words(text) if len(token) > 1 and token not in terms("portuguese")}


def stem_f1(text: str, reference: str) -> float:
    """F1 of the content-word stems of two texts: 1 for the same words in any order and inflection, 0 for none."""
    mine, theirs = stems(text), stems(reference)
    shared = len(mine & theirs)
    return 2 * shared / (len(mine) + len(theirs)) if shared else 0.0


def _spans(tokens: list[str], length: int) -> list[tuple[str, ...]]:
    return [tuple(tokens[start : start + length]) for start in range(len(tokens) - length + 1)]
