"""Reward of sql_qa: a business question answered with one SQLite query and a short Portuguese explanation."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import sqlglot
from sqlglot import exp

from helpers.core.files import database_path
from helpers.rewards.base import Parser, Parts
from helpers.rewards.sql_answer import HANDOFF_CORRECTION, Answer, prose_of, split_answer
from helpers.rewards.sql_results import result_share
from helpers.rewards.sql_sandbox import QueryNames, QueryResult, describe_query, run_query
from helpers.rewards.text.language import own_words_share, portuguese_share, prompt_words, stems
from helpers.rewards.text.numbers import Sources, numbers_in
from helpers.rewards.text.words import vocabulary
from helpers.tasks import user_text
from helpers.tasks.pairs.portuguese import load_text

WEIGHTS = {
    "v4.1": {"structure": 0.30, "query_and_explanation": 0.25, "numbers": 0.25, "vocabulary": 0.20},
    "v4.2": {"query": 0.10, "result": 0.70, "names": 0.10, "figures": 0.10},
}


KEYWORDS_FOR_STRUCTURE = 3
EXPLANATION_LETTERS = 20
NUMBERS_WANTED = 2
BUSINESS_TERMS_WANTED = 3
MAX_ROWS = 50
TOPIC_WANTED = 0.5
"""An explanation with this share of the content words of question and reference says what is computed."""
UNEXPLAINED = 0.25
"""What a right result is worth without a Portuguese explanation: half an answer, and no use to who asked."""

_NUMBER = re.compile(r"(?<![\w.,])\d+(?:[.,]\d+)*(?!\w)")
_SQL_NUMBER = re.compile(r"\d{1,15}(?:\.\d{1,15})?")
_PERCENT = re.compile(r"percentua(?:l|is)|percentage[mn]|por cento|%|\bp\.?p\.?\b", re.IGNORECASE)
_LETTER = re.compile(r"[^\W\d_]")


def form(text: str, record: Mapping[str, Any], parser: Parser) -> Parts:
    """v4.1: SQL keywords, a query beside an explanation, digits and business words. Nothing is run or checked."""
    answer = split_answer(text, HANDOFF_CORRECTION)
    keywords = len(vocabulary("sql_keywords").found(text))
    shares = {
        "structure": float(keywords >= KEYWORDS_FOR_STRUCTURE),
        "query_and_explanation": float(bool(answer.query) and _is_explained(answer)),
        "numbers": min(1.0, len(_NUMBER.findall(text)) / NUMBERS_WANTED),
        "vocabulary": vocabulary("business").share(text, BUSINESS_TERMS_WANTED),
    }
    return Parts(shares, () if answer.query else ("no_query",))


def correctness(text: str, record: Mapping[str, Any], parser: Parser) -> Parts:
    """v4.2: the query runs and returns what is asked for; the explanation says what is computed, no figure made up.

    A query that runs earns half of its part, the right columns the other half. An explanation counts only beside a
    query that runs, and a right result needs its explanation to count fully.
    Raises `UserError` where the database is missing.
    """
    answer = split_answer(text)
    answer = answer._replace(explanation=prose_of(answer.explanation))
    runs, rows, flags = _run(answer.query)
    prose = portuguese_share(answer.explanation) if _is_explained(answer) else 0.0
    names = prose * _topic_share(answer.explanation, record) if runs else 0.0
    invented = _invents_figures(answer, record, rows)
    result = answer_share(rows, record) if runs else 0.0
    shares = {
        "query": (1 + _columns_share(answer.query, record["reference"]["sql"])) / 2 if runs else 0.0,
        "result": result * (UNEXPLAINED + (1 - UNEXPLAINED) * prose),
        "names": names,
        "figures": names * (not invented),
    }
    return Parts(shares, (*flags, *(("invented_figure",) if invented else ())))


def _is_explained(answer: Answer) -> bool:
    return len(_LETTER.findall(answer.explanation)) >= EXPLANATION_LETTERS


def _run(query: str) -> tuple[bool, list[tuple[Any, ...]], tuple[str, ...]]:
    """Whether the query runs and reads a table, its rows, and what was noticed. `SELECT 1` reads nothing."""
    if not query:
        return False, [], ("no_query",)
    names = _names(query)
    if names is None or not names.tables:
        return False, [], ("not_a_query" if names is None else "reads_no_table",)
    result = query_result(query)
    if result.error is not None:
        return False, [], ("query_error",)
    return True, result.rows, ("rows_cut",) if result.truncated else ()


def answer_share(rows: Sequence[Sequence[Any]], record: Mapping[str, Any]) -> float:
    """How far a result says what the record's question asks for, in [0, 1] (see `result_share`)."""
    reference = record["reference"]
    columns = reference["result"]["columns"]
    meta = record["meta"]
    asked, open_label = asked_columns(meta.get("family", ""), meta["question"], columns)
    places = [columns.index(name) for name in asked]
    decimals = _decimals(reference["sql"])
    # `a fração` or `a taxa` may be answered as a fraction, where the reference has a percentage.
    free_scale = not _PERCENT.search(meta["question"])
    percentages = [place for place, name in enumerate(asked) if free_scale and name.startswith("pct_")]
    return result_share(
        rows,
        [[row[place] for place in places] for row in reference["result"]["rows"]],
        bool(meta.get("ordered")),
        [decimals.get(name) for name in asked],
        asked.index(open_label) if open_label in asked else None,
        percentages,
    )


def asked_columns(family: str, question: str, columns: Sequence[str]) -> tuple[list[str], str | None]:
    """Which of a reference's columns a question asks for, and the one whose labels it leaves open.

    All columns and none, unless the family of questions says otherwise (`helpers/tasks/pairs/text/sql_qa.toml`).

    >>> asked_columns("average_score_category", "Que nota média recebe bebes?", ["nota_media", "avaliacoes"])
    (['nota_media'], None)
    """
    rules = _families().get(family, {})
    asked = {*rules.get("asks", columns)}
    asked |= {name for name, pattern in rules.get("asks_if", {}).items() if re.search(pattern, question)}
    return [name for name in columns if name in asked] or list(columns), rules.get("open_label")


@lru_cache(maxsize=1)
def _families() -> dict[str, dict[str, Any]]:
    return {family["name"]: family for family in load_text("sql_qa")["family"]}


@lru_cache(maxsize=4096)
def _decimals(reference: str) -> dict[str, int]:
    """The decimals to which a reference query rounds its columns, by the column's name."""
    try:
        query = sqlglot.parse_one(reference, dialect="sqlite")
    except sqlglot.errors.SqlglotError:
        return {}
    decimals = {}
    for column in query.selects if isinstance(query, exp.Query) else []:
        value = column.unalias()
        if isinstance(value, exp.Round) and isinstance(value.args.get("decimals"), exp.Literal):
            decimals[column.alias] = int(value.args["decimals"].name)
    return decimals


def _names(query: str) -> QueryNames | None:
    return _remembered_names(*_database(), query)


@lru_cache(maxsize=4096)
def _remembered_names(path: Path, modified: int, query: str) -> QueryNames | None:
    return describe_query(query, path)


def _columns_share(query: str, reference: str) -> float:
    """How alike the columns read by a query and by the reference are: shared / all, 1 where neither reads any."""
    mine, theirs = (names.columns if names else frozenset() for names in (_names(query), _names(reference)))
    return len(mine & theirs) / len(mine | theirs) if mine | theirs else 1.0


def query_result(query: str) -> QueryResult:
    """What a query returns on the database at hand, remembered: a group's completions often hold the same query."""
    return _remembered(*_database(), query)


@lru_cache(maxsize=1024)
def _remembered(path: Path, modified: int, query: str) -> QueryResult:
    return run_query(path, query, max_rows=MAX_ROWS)


def _database() -> tuple[Path, int]:
    """The database at hand and when it was modified: what is remembered of one does not hold for a rebuilt one."""
    path = database_path()
    return path, path.stat().st_mtime_ns if path.exists() else 0


def _topic_share(explanation: str, record: Mapping[str, Any]) -> float:
    """How far the explanation speaks of what was asked, in words that are not a copy of the question."""
    reference = split_answer(record["reference"]["text"]).explanation
    asked = stems(f"{record['meta']['question']}\n{reference}")
    if not asked:
        return 1.0
    named = len(asked & stems(explanation)) / len(asked)
    return min(1.0, named / TOPIC_WANTED) * own_words_share(explanation, prompt_words(record))


def _invents_figures(answer: Answer, record: Mapping[str, Any], rows: list[tuple[Any, ...]]) -> bool:
    """Whether the explanation states a number that neither the prompt, the query nor a result holds."""
    stated = numbers_in(answer.explanation)
    if not stated:
        return False
    results = [*rows, *record["reference"]["result"]["rows"]]
    values = [value for number in numbers_in(user_text(record["prompt"])) for value in number.values]
    values += [float(digits) for digits in _SQL_NUMBER.findall(answer.query)]
    values += [value for row in results for value in row if isinstance(value, int | float)]
    sources = Sources(values)
    return not all(sources.hold(number) for number in stated)
