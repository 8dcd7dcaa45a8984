"""From the text of a completion to the JSON object it holds, with the repairs that took."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from helpers.parsing.answer import read_answer
from helpers.parsing.objects import Budget, TooMuchError
from helpers.parsing.search import Search, choose, search_objects
from helpers.parsing.strict import NOT_STRICT, after_space, read_strict_at
from helpers.parsing.strings import without_surrogates

_STEPS_AT_LEAST = 1_000
_STEPS_PER_CHARACTER = 20


@dataclass(frozen=True, slots=True)
class ParsedCompletion:
    """What a parser made of a completion: the object, the repairs it took, or the reason why there is none."""

    value: dict[str, Any] | None
    repairs: tuple[str, ...] = ()
    reason: str | None = None


def parse_completion(text: Any, fields: Iterable[str] = ()) -> ParsedCompletion:
    """The JSON object that `text` holds, with the repairs that took. Never raises, whatever `text` is.

    `fields` names keys that the answer is expected to have: of several objects, the one with most of them counts as
    the largest. Text that is strict JSON (white space around it allowed) is returned as `json.loads` reads it.

    >>> parse_completion('{"sentiment": "positive"}')
    ParsedCompletion(value={'sentiment': 'positive'}, repairs=(), reason=None)
    >>> parse_completion('Claro! {"sentiment_score": 4,5}')
    ParsedCompletion(value={'sentiment_score': 4.5}, repairs=('surrounding_text', 'decimal_comma'), reason=None)
    >>> parse_completion("Não sei.").reason
    'no object'
    """
    return parse_counted(text, fields)[0]


def parse_counted(text: Any, fields: Iterable[str] = ()) -> tuple[ParsedCompletion, int]:
    """`parse_completion` and the steps of work it took beyond the strict reading (tests bound these, not a clock)."""
    if not isinstance(text, str):
        return ParsedCompletion(None, reason="not text"), 0
    repairs: list[str] = []
    start = after_space(text)
    value, end = read_strict_at(text, start, repairs)
    strict = value is not NOT_STRICT
    if strict and after_space(text, end) == len(text):
        if isinstance(value, dict):
            return _parsed(value, repairs, text), 0
        if not isinstance(value, str):
            return ParsedCompletion(None, reason=f"JSON, but a {type(value).__name__}"), 0
        text, repairs = value, ["double_encoding"]
    else:
        repairs = []
    answer = read_answer(text)
    if answer.text is None:
        return ParsedCompletion(None, reason=answer.reason), 0
    not_strict_at = -1 if strict or answer.text != text else start
    text, repairs = answer.text + "\n" * answer.ended, [*repairs, *answer.repairs]
    budget = Budget(_STEPS_AT_LEAST + _STEPS_PER_CHARACTER * len(text))
    try:
        search = search_objects(text, budget, not_strict_at=not_strict_at)
    except (TooMuchError, RecursionError) as problem:
        return ParsedCompletion(None, reason=str(problem)), budget.steps
    return _answer(search, repairs, frozenset(fields), text), budget.steps


def _answer(search: Search, repairs: list[str], fields: frozenset[str], text: str) -> ParsedCompletion:
    chosen = choose(search.candidates, fields)
    if chosen is None:
        return ParsedCompletion(None, reason=search.reasons[-1] if search.reasons else "no object")
    several = ["several_objects"] if len(search.candidates) > 1 else []
    return _parsed(chosen.value, [*repairs, *search.around, *several, *chosen.repairs] or ["surrounding_text"], text)


def _may_hold_surrogates(text: str) -> bool:
    if "\\u" in text:
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _parsed(value: dict[str, Any], repairs: list[str], text: str) -> ParsedCompletion:
    if _may_hold_surrogates(text):
        mended = without_surrogates(value)
        if mended != value:
            value, repairs = mended, [*repairs, "surrogate"]
    return ParsedCompletion(value, tuple(dict.fromkeys(repairs)))


def extract_json(text: Any, fields: Iterable[str] = ()) -> dict[str, Any] | None:
    """The JSON object that `text` holds, or None.

    >>> extract_json('Claro! {"sentiment_score": 4.5}')
    {'sentiment_score': 4.5}
    """
    return parse_completion(text, fields).value
