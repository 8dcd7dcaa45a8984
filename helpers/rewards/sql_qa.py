"""Reward of sql_qa: a business question answered with one SQLite query and a short Portuguese explanation."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from helpers.rewards.base import Parser, Parts
from helpers.rewards.text import vocabulary

KEYWORDS_FOR_STRUCTURE = 3
EXPLANATION_LETTERS = 20
NUMBERS_WANTED = 2
BUSINESS_TERMS_WANTED = 3

_FENCE = re.compile(r"```[ \t]*(?:sqlite|sql)?[ \t]*\n?(.*?)(?:```|\Z)", re.IGNORECASE | re.DOTALL)
_BARE_QUERY = re.compile(r"^[ \t]*((?:SELECT|WITH)\b.*?)(?:;|\n[ \t]*\n|\Z)", re.IGNORECASE | re.DOTALL | re.MULTILINE)
_STARTS_A_QUERY = re.compile(r"\s*(?:--[^\n]*\n\s*)*(?:SELECT\b|WITH\b.*\bSELECT\b)", re.IGNORECASE | re.DOTALL)
_NUMBER = re.compile(r"(?<![\w.,])\d+(?:[.,]\d+)*(?!\w)")
_LETTER = re.compile(r"[^\W\d_]")


class Answer(NamedTuple):
    """A sql_qa completion taken apart: the query ('' where there is none) and the text beside it."""

    query: str
    explanation: str


def split_answer(text: str) -> Answer:
    """The first fenced query, else the first line that starts one up to its `;` or a blank line; the rest explains.

    >>> split_answer("SELECT COUNT(*) FROM orders;\\nConta os pedidos.")
    Answer(query='SELECT COUNT(*) FROM orders', explanation='Conta os pedidos.')
    """
    for pattern in (_FENCE, _BARE_QUERY):
        match = pattern.search(text)
        if match and _STARTS_A_QUERY.match(match[1]):
            rest = f"{text[: match.start()]}\n{text[match.end() :]}".strip()
            return Answer(match[1].strip().rstrip(";").rstrip(), rest)
    return Answer("", text.strip())


def form(text: str, record: Mapping[str, Any], parser: Parser) -> Parts:
    """v4.1: SQL keywords, a query beside an explanation, digits and business words. Nothing is run or checked."""
    answer = split_answer(text)
    keywords = len(vocabulary("sql_keywords").found(text))
    explained = len(_LETTER.findall(answer.explanation)) >= EXPLANATION_LETTERS
    shares = {
        "structure": float(keywords >= KEYWORDS_FOR_STRUCTURE),
        "query_and_explanation": float(bool(answer.query) and explained),
        "numbers": min(1.0, len(_NUMBER.findall(text)) / NUMBERS_WANTED),
        "vocabulary": vocabulary("business").share(text, BUSINESS_TERMS_WANTED),
    }
    return Parts(shares, () if answer.query else ("no_query",))
