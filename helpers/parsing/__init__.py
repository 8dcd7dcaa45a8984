"""From the text of a completion to the JSON object it holds, with the repairs that took.

The rules are those of a careful reader (README.md, "What a completion means"): strict JSON first and untouched; a
value is never invented; where the meaning is not certain, the repair says so or the completion is rejected.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from helpers.parsing.repairs import REPAIRS, RepairClass, repair_class
from helpers.parsing.strict import NOT_STRICT, StrictReader

__all__ = ["REPAIRS", "ParsedCompletion", "RepairClass", "extract_json", "parse_completion", "repair_class"]


@dataclass(frozen=True, slots=True)
class ParsedCompletion:
    """What a parser made of a completion: the object, the repairs it took, or the reason why there is none."""

    value: dict[str, Any] | None
    repairs: tuple[str, ...] = ()
    reason: str | None = None


def parse_completion(text: Any, fields: Iterable[str] = ()) -> ParsedCompletion:
    """The JSON object that `text` holds. Never raises, whatever `text` is.

    >>> parse_completion('{"sentiment": "positive"}')
    ParsedCompletion(value={'sentiment': 'positive'}, repairs=(), reason=None)
    >>> parse_completion("Não sei.").reason
    'no object'
    """
    if not isinstance(text, str):
        return ParsedCompletion(None, reason="not text")
    reader = StrictReader()
    value = reader.read(text)
    if isinstance(value, dict):
        return ParsedCompletion(value, tuple(dict.fromkeys(reader.repairs)))
    start = text.find("{") if value is NOT_STRICT else -1
    if start >= 0:
        value, _ = reader.read_at(text, start)
    if not isinstance(value, dict):
        return ParsedCompletion(None, reason="no object")
    return ParsedCompletion(value, tuple(dict.fromkeys(("surrounding_text", *reader.repairs))))


def extract_json(text: Any, fields: Iterable[str] = ()) -> dict[str, Any] | None:
    """The JSON object that `text` holds, or None.

    >>> extract_json('Claro! {"sentiment_score": 4.5}')
    {'sentiment_score': 4.5}
    """
    return parse_completion(text, fields).value
