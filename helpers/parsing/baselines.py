"""The two parsers that came before ours, kept with their defects: they separate the parser's effect from learning."""

import json
import re
from collections.abc import Callable
from typing import Any

from helpers.parsing.completions import ParsedCompletion, parse_completion

_FENCE = re.compile(r"^```(?:json)?\s*|\s*```$", re.MULTILINE)
_DECIMAL_COMMA = re.compile(r"(\d+),(\d+)")


def regex_object(text: str) -> dict[str, Any] | None:
    """The parser before V4.1: drop code fences, then `json.loads` on the text or on its outermost braces.

    Raises RecursionError on deep nesting and ValueError on integers of more than 4,300 digits.

    >>> regex_object('```json\\n{"sentiment_score": 4.5}\\n```')
    {'sentiment_score': 4.5}
    >>> regex_object('{"sentiment_score": 4,5}') is None
    True
    """
    return _loads_or_outer_braces(_FENCE.sub("", text.strip()).strip())


def handoff_object(text: str) -> dict[str, Any] | None:
    """V4.1's first parser: as `regex_object`, then again with every `4,5` outside double quotes rewritten to `4.5`.

    Its defects stay: it rewrites arrays (`[1,2]` becomes `[1.2]`), raises what `regex_object` raises, and takes time
    quadratic in a run of digits.

    >>> handoff_object('{"sentiment_score": 4,5}')
    {'sentiment_score': 4.5}
    """
    stripped = _FENCE.sub("", text.strip()).strip()
    value = _loads_or_outer_braces(stripped)
    return _loads_or_outer_braces(_points_for_commas(stripped)) if value is None else value


def _loads_or_outer_braces(text: str) -> dict[str, Any] | None:
    # What `\{[\s\S]*\}` finds: a search with the pattern itself is quadratic in `{{{...` without a closing brace.
    outer = text[text.find("{") : text.rfind("}") + 1] if "{" in text else ""
    for attempt in (text, outer):
        try:
            value = json.loads(attempt)
        except json.JSONDecodeError:
            continue
        if isinstance(value, dict):
            return value
    return None


def _points_for_commas(text: str) -> str:
    """Every `digits,digits` outside double-quoted strings with a point for the comma, one character at a time."""
    result: list[str] = []
    in_string = escaped = False
    position = 0
    while position < len(text):
        character = text[position]
        number = None if in_string or escaped else _DECIMAL_COMMA.match(text, position)
        if number:
            result.append(f"{number[1]}.{number[2]}")
            position = number.end()
            continue
        if escaped:
            escaped = False
        elif character == "\\" and in_string:
            escaped = True
        elif character == '"':
            in_string = not in_string
        result.append(character)
        position += 1
    return "".join(result)


def _reporting(read: Callable[[str], dict[str, Any] | None]) -> Callable[[str], ParsedCompletion]:
    """`read` as a parser that reports a crash as the reason for having no value (in training, it would end the run)."""

    def parse(text: str) -> ParsedCompletion:
        """What `read` makes of the text, or why it has no value."""
        try:
            value = read(text)
        except (RecursionError, ValueError, TypeError, AttributeError) as error:
            return ParsedCompletion(None, reason=f"exception: {type(error).__name__}")
        return ParsedCompletion(value, reason="no object" if value is None else None)

    return parse


PARSERS: dict[str, Callable[[str], ParsedCompletion]] = {
    "regex": _reporting(regex_object),
    "handoff": _reporting(handoff_object),
    "tolerant": parse_completion,
}
"""The parsers a reward can be computed with: before V4.1, the handoff's, and ours."""
