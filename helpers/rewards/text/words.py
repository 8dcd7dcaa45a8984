"""Reading Portuguese text for the rewards: folded letters, words, and vocabularies kept in data files."""

import re
from functools import lru_cache
from pathlib import Path

from helpers.core.text import without_accents

VOCABULARY_FOLDER = Path(__file__).resolve().parent / "vocabulary"

_WORD = re.compile(r"[^\W\d_]+")


@lru_cache(maxsize=1024)
def fold(text: str) -> str:
    """Lower case without accents, so that `Avaliação` and `avaliacao` are one word.

    >>> fold("AVALIAÇÕES à vista")
    'avaliacoes a vista'
    """
    return without_accents(text).lower()


def words(text: str) -> list[str]:
    """The folded words of a text, in order; digits and underscores are not letters.

    >>> words("Frete médio: R$ 20,50")
    ['frete', 'medio', 'r']
    """
    return _WORD.findall(fold(text))


class Vocabulary:
    """A set of terms found in text whatever their case and accents, at word boundaries.

    A term may hold `*` (any letters) and `(s)` (optional letters): `entreg*` finds `entrega` and `entregues`.

    >>> Vocabulary(["entreg*", "pedido(s)"]).found("A entrega dos PEDIDOS e as entregas")  == {"entreg*", "pedido(s)"}
    True
    """

    def __init__(self, terms: list[str]) -> None:
        """`terms` are written without accents, in lower case."""
        longest_first = sorted(terms, key=len, reverse=True)
        self._terms = {term: re.compile(_as_pattern(term)) for term in longest_first}
        # Branches without groups: the matcher then skips those whose first letter differs.
        self._any = re.compile(rf"\b(?:{'|'.join(map(_as_pattern, longest_first))})\b")
        self._term_of = lru_cache(maxsize=4096)(self._find_term)

    def found(self, text: str) -> set[str]:
        """The distinct terms that occur in `text`."""
        return {self._term_of(match) for match in set(self._any.findall(fold(text)))}

    def share(self, text: str, enough: int) -> float:
        """min(1, distinct terms in `text` / `enough`)."""
        return min(1.0, len(self.found(text)) / enough)

    def _find_term(self, match: str) -> str:
        return next(term for term, pattern in self._terms.items() if pattern.fullmatch(match))


def _as_pattern(term: str) -> str:
    escaped = re.escape(term).replace(r"\*", r"[^\W\d_]*").replace(r"\ ", r"\s+")
    return re.sub(r"\\\((\w+)\\\)", r"(?:\1)?", escaped)


@lru_cache(maxsize=16)
def terms(name: str) -> frozenset[str]:
    """The folded terms of `helpers/rewards/text/vocabulary/<name>.txt`."""
    return frozenset(term for line in _lines(name) for term in line)


@lru_cache(maxsize=16)
def synonyms(name: str) -> dict[str, str]:
    """Each term of a vocabulary -> the first term of its line, which stands for all that mean the same."""
    return {term: line[0] for line in _lines(name) for term in line}


def _lines(name: str) -> list[list[str]]:
    """The terms of each line of a vocabulary, ` | ` between those of one meaning; `#` starts a comment line."""
    lines = (VOCABULARY_FOLDER / f"{name}.txt").read_text(encoding="utf-8").split("\n")
    return [fold(line.strip()).split(" | ") for line in lines if line.strip() and not line.startswith("#")]


@lru_cache(maxsize=16)
def vocabulary(name: str) -> Vocabulary:
    """The matcher of the terms of `helpers/rewards/text/vocabulary/<name>.txt`."""
    return Vocabulary(sorted(terms(name)))
