"""Where the query of a sql_qa completion is: the one reader that everything which scores or runs it goes by."""

import re
from itertools import islice, pairwise
from typing import NamedTuple

from helpers.rewards.text.words import fold

MAX_FENCES = 64
"""Fences beyond these are not looked at: no real answer has so many."""

_GAP = r"(?:\s|--[^\n]*+(?:\n|\Z)|/\*(?:[^*]|\*(?!/))*+\*/)*+"
_QUERY_START = rf"(?:SELECT\b|WITH\b{_GAP}(?:RECURSIVE\b{_GAP})?[\w\"\[\]`]++{_GAP}(?:\([^()]*+\){_GAP})?AS\b)"
_STARTS_A_QUERY = re.compile(rf"{_GAP};?{_GAP}{_QUERY_START}", re.IGNORECASE)
# Up to a semicolon or a blank line, neither of them inside a literal, a name or a comment.
_BARE_QUERY = re.compile(
    rf"^[ \t]*+({_QUERY_START}(?:'[^'\n]*+'|--[^\n]*+|/\*(?:[^*]|\*(?!/)){{0,500}}+\*/|[^;\n]|\n(?![ \t]*\n))*+)"
    r"(?:;|\n[ \t]*\n|\Z)",
    re.IGNORECASE | re.MULTILINE,
)
_FENCE = re.compile(r"`{3,}|~{3,}")
_FENCE_LINE = re.compile(r"^[ \t]*(?:`{3,}|~{3,})[^\s`]*[ \t]*$", re.MULTILINE)
_INLINE = re.compile(r"(?<!`)`([^`]++)`(?!`)")
_TAG = re.compile(r"[ \t]*[\w.+#-]+(?=\s)")
_ALWAYS = (
    r"engan\w*|equivoc\w*|na verdade|ops|desculp\w*|pensando melhor|versao final|(?:consulta|query|resposta) final"
    r"|refaz\w*|refeit\w*|reescrev\w*|em vez dis[st]o|correct(?:ed|ion)|fixed|actually"
)
# `correto`, `erro` and their like correct something only in a phrase of their own: `Correção:`, `o certo é:` before
# the query, `a consulta acima está errada`, `havia um erro`.
_CORRECTION = re.compile(
    rf"\b(?:(?:{_ALWAYS}|errei|corrigindo|corrijo|corrigi|para corrigir"
    r"|(?:acima|anterior|primeir[ao]|consulta|query|sql|filtro)\b[^.:;\n]{0,40}\b(?:errad[ao]|incorret[ao]|erro)"
    r"|(?:ha|havia|contem|continha|cometi|encontrei) (?:um )?erro)\b"
    r"|(?:correcao|corrigid[ao])\W{0,3}:"
    r"|(?:consulta|query|versao|resposta|sql|o|a|uma) (?:corret[ao]|correcao|cert[ao]|corrigid[ao])\b"
    r"[^.:\n]{0,40}:?\W{0,3}\Z)"
)
HANDOFF_CORRECTION = re.compile(rf"\b(?:{_ALWAYS}|corrig\w*|correc\w*|corret[ao]s?|errad[ao]s?|err(?:o|ei))\b")
"""What v4.1 goes by: any of these words, also inside of ordinary prose."""


class Answer(NamedTuple):
    """A sql_qa completion taken apart: the query ('' where there is none) and the text beside it."""

    query: str
    explanation: str


class _Block(NamedTuple):
    query: str
    start: int
    end: int


def split_answer(text: str, correction: re.Pattern[str] = _CORRECTION) -> Answer:
    """The query of a completion, and what is said beside it.

    Of the fenced blocks that hold a query, the first is the answer, unless words before a later one say that it
    corrects (`correction` in the folded text): then that one is. A fence is three or more backticks or tildes with any
    tag, or none. Where no fenced block comes first that holds one, a line that starts a query is the answer, up to its
    `;` or a blank line.

    >>> split_answer("SELECT COUNT(*) FROM orders;\\nConta os pedidos.")
    Answer(query='SELECT COUNT(*) FROM orders', explanation='Conta os pedidos.')
    >>> split_answer("~~~SQLite\\nSELECT 1\\n~~~\\nErrei. O certo:\\n````\\nSELECT 2\\n````").query
    'SELECT 2'
    """
    blocks = _blocks(text)
    holding = [block for block in blocks if block.query]
    bare = None if blocks and blocks[0].query else _bare_query(text, blocks)
    if bare is None or (holding and holding[0].start < bare.start()):
        bare = None if holding else _BARE_QUERY.search(text) or _inline_query(text)
    if bare is None and not holding:
        return Answer("", text.strip())
    query, start, end = (bare[1], *bare.span()) if bare else _last_correction(text, holding, correction)
    return Answer(query.strip().rstrip(";").rstrip(), f"{text[:start]}\n{text[end:]}".strip())


def prose_of(explanation: str) -> str:
    """An explanation without the fenced queries in it (drafts, examples) and without the marks of other fences."""
    for block in reversed(_blocks(explanation)):
        if block.query:
            explanation = f"{explanation[: block.start]}\n{explanation[block.end :]}"
    return _FENCE_LINE.sub("", explanation).strip()


def _last_correction(text: str, blocks: list[_Block], correction: re.Pattern[str]) -> _Block:
    chosen = blocks[0]
    for before, block in pairwise(blocks):
        if correction.search(fold(text[before.end : block.start])):
            chosen = block
    return chosen


def _bare_query(text: str, blocks: list[_Block]) -> re.Match[str] | None:
    """The first line outside of all blocks that starts a query."""
    start = 0
    while bare := _BARE_QUERY.search(text, start):
        around = next((block for block in blocks if block.start <= bare.start() < block.end), None)
        if around is None:
            return bare
        start = around.end
    return None


def _inline_query(text: str) -> re.Match[str] | None:
    return next((span for span in _INLINE.finditer(text) if _STARTS_A_QUERY.match(span[1])), None)


def _blocks(text: str) -> list[_Block]:
    """The fenced blocks of a text, each with the query it holds; a block may hold blocks of its own, and no query.

    A block that is never closed goes on to the end of the text, and is one only where it is the first.
    """
    fences = list(islice(_FENCE.finditer(text), MAX_FENCES))
    blocks: list[_Block] = []
    while fences:
        opening = fences.pop(0)
        inside = next((place for place, fence in enumerate(fences) if fence[0].startswith(opening[0])), len(fences))
        if inside == len(fences) and blocks:
            continue
        body_end, end = fences[inside].span() if inside < len(fences) else (len(text), len(text))
        query = _query_of(text[opening.end() : body_end])
        if query or not inside:
            blocks.append(_Block(query, opening.start(), end))
            fences = fences[inside + 1 :]
    return blocks


def _query_of(body: str) -> str:
    """A block's query without the fence's tag and attributes; '' where the block holds none."""
    tag = _TAG.match(body)
    for query in (body, body[tag.end() :] if tag else "", body.partition("\n")[2]):
        if _STARTS_A_QUERY.match(query):
            return query
    return ""
