"""Strings: where one ends when its writer forgot to escape or to close it, and what its escapes mean."""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from helpers.parsing import syntax

_ESCAPE = re.compile(
    r"\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})|\\u([0-9a-fA-F]{4})|\\([\s\S])|\\$"
)
_MEANING = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_SURROGATE = re.compile("[\ud800-\udfff]")
_CONTROL = re.compile(r"[\x00-\x1f]")
_STOP = re.compile(rf"[\\{syntax.QUOTES}]")
_LINE_END = re.compile(r"[ \t\r]*+(?:\n|\Z)")
_CLOSERS = syntax.OBJECT_CLOSERS + syntax.ARRAY_CLOSERS
_CLOSER_RUN = re.compile(r"[}｝][}｝\s]*+")
_BEFORE_KEY = " \t\r\n" + syntax.SEPARATORS + _CLOSERS
_BEFORE_CLOSER = " \t\r\n" + syntax.SEPARATORS
_WIDEST_RUN = 32
_WIDEST_TAIL = 160
_LONGEST_DOUBLED = 1_000
_MOST_INNER_QUOTES = 256


@dataclass(frozen=True, slots=True)
class StringEnd:
    """Where a string's content starts and ends and reading resumes; not `closed` where the text stopped inside it."""

    start: int
    end: int
    resume: int
    closed: bool
    repair: str | None = None


@dataclass(frozen=True, slots=True)
class StringPlace:
    """Where a string stands: in which container, after an unquoted key, inside how many open containers."""

    container: str = "{"
    after_bare_key: bool = False
    depth: int = 1


def unescape(body: str) -> tuple[str, list[str]]:
    """The text that a string's raw content stands for, and the repairs that took.

    A backslash before punctuation stands for that punctuation, before any other letter that is no escape for itself.

    >>> unescape(r"R\\$ 5\\n"), unescape(r"\\d+")
    (('R$ 5\\n', ['invalid_escape']), ('\\\\d+', ['invalid_escape']))
    """
    repairs = ["raw_newline"] if _CONTROL.search(body) else []
    if "\\" not in body:
        return body, repairs

    def meaning(match: re.Match[str]) -> str:
        """The character that an escape stands for."""
        high, low, unit, character = match.groups()
        if high:
            return chr(0x10000 + ((int(high, 16) - 0xD800) << 10) + (int(low, 16) - 0xDC00))
        if unit:
            return chr(int(unit, 16))
        if character in _MEANING:
            return _MEANING[character]
        repairs.append("invalid_escape")
        return character if character and unicodedata.category(character)[0] in "PS" else match[0]

    return _ESCAPE.sub(meaning, body), repairs


def without_surrogates(value: Any) -> Any:
    """A JSON value with U+FFFD for each lone surrogate in its strings and keys: it can always be written as UTF-8."""
    if isinstance(value, str):
        return value if value.isascii() else _SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {without_surrogates(key): without_surrogates(item) for key, item in value.items()}
    return value


def find_string_end(text: str, start: int, place: StringPlace, spend: Callable[[int], None]) -> StringEnd:
    """Where the string that opens with the quote at `start` ends.

    A quote closes only where the syntax can go on after it; any other belongs to the text. `spend` counts the work.
    """
    triple = 3 * text[start]
    if triple in ('"""', "'''") and text.startswith(triple, start) and (end := text.find(triple, start + 3)) >= 0:
        spend(end - start)
        return StringEnd(start + 3, end, end + 3, True, "quotes")
    string = _doubled(text, start, place, spend) or _Scan(text, start, place).run(spend)
    spend(string.resume - start)
    return string


def _doubled(text: str, start: int, place: StringPlace, spend: Callable[[int], None]) -> StringEnd | None:
    """The end of a string whose opening quote stands there twice: `""high"" ` and `""high"`, but not the empty `""`."""
    quote, goes_on = text[start], syntax.GOES_ON[place.container][0]
    if text[start + 1 : start + 2] != quote:
        return None
    if syntax.EMPTY_STRING_ENDS.match(text, start + 2) and goes_on.match(text, start + 2):
        return None
    limit = start + _LONGEST_DOUBLED
    end = text.find(2 * quote, start + 2, limit)
    while end >= 0 and not goes_on.match(text, end + 2):
        spend(8)
        end = text.find(2 * quote, end + 1, limit)
    one = end >= 0 and not syntax.KEY_INSIDE.search(text, start + 2, end)
    if one and (place.container == "{" or quote not in text[start + 2 : end]):
        return StringEnd(start + 2, end, end + 2, True, "quotes")
    string = _Scan(text, start + 1, place).run(spend)
    if not string.closed or string.repair not in (None, "quotes"):
        return None
    return StringEnd(start + 2, string.end, string.resume, True, "quotes")


class _Scan:
    """One pass over the quotes after an opening one; `inner` counts those that belong to the text."""

    def __init__(self, text: str, start: int, place: StringPlace) -> None:
        self.text, self.start, self.place = text, start, place
        self.goes_on, self.surely_goes_on = syntax.GOES_ON[place.container]
        self.inner = 0
        self.open_curly = 0
        self.foreign = False
        self.before_newline: int | None = None

    def run(self, spend: Callable[[int], None]) -> StringEnd:
        """Go from quote to quote until one ends the string; each costs one of what `spend` grants."""
        position = self.start + 1
        while stop := _STOP.search(self.text, position):
            spend(1)
            quote = stop.start()
            if stop[0] == "\\":
                position = quote + 2
                continue
            string = self._end_at(quote) if self._is_own(quote) else self._mistaken_end(quote)
            if string:
                return string
            position = quote + 1
            if self.inner > _MOST_INNER_QUOTES:
                break
        return self._never_closed()

    def _is_own(self, quote: int) -> bool:
        """Whether a quote may close this string; a curly one closes a straight one if it closes no curly one."""
        opener, character = self.text[self.start], self.text[quote]
        if opener == '"' and character == "”":
            self.open_curly -= 1
            return self.open_curly < 0 and self._closes(quote)
        self.open_curly += character == "“"
        return character in syntax.CLOSING_QUOTES[opener]

    def _mistaken_end(self, quote: int) -> StringEnd | None:
        """`'x", "b": 1`: the only quote of another kind, where the syntax goes on, was meant to close the string."""
        first = not self.foreign
        self.foreign = self.foreign or not self._is_apostrophe(quote)
        if first and syntax.MISMATCHED_QUOTE.match(self.text, quote + 1):
            return StringEnd(self.start + 1, quote, quote + 1, True, "missing_quote")
        before_key = self._end_before_next_key(quote)
        if before_key is None or not syntax.TAIL.search(self.text, before_key, quote):
            return None
        return StringEnd(self.start + 1, before_key, before_key, True, "missing_quote")

    def _end_at(self, quote: int) -> StringEnd | None:
        if self._closes(quote):
            return self._closed_at(quote)
        if self.inner % 2 == 0 and self._is_doubled(quote) and self._closes(quote + 1):
            return StringEnd(self.start + 1, quote, quote + 2, True, "inner_quote" if self.inner else "quotes")
        before_key = self._end_before_next_key(quote)
        if before_key is not None:
            return StringEnd(self.start + 1, before_key, before_key, True, "missing_quote")
        if not self.inner and self.before_newline is None and _LINE_END.match(self.text, quote + 1):
            self.before_newline = quote
        if not self._is_apostrophe(quote):
            self.inner += 1
        return None

    def _closes(self, quote: int) -> bool:
        """Whether the syntax can go on after `quote`; after an odd number of inner quotes it takes more to say so."""
        if self.place.after_bare_key and syntax.NEXT_BARE_PAIR.match(self.text, quote + 1):
            return True
        after = (self.surely_goes_on if self.inner % 2 else self.goes_on).match(self.text, quote + 1)
        if after is None:
            return False
        at_the_very_end = after.end() == len(self.text) and not after[0].strip()
        return not (at_the_very_end and self.text[quote - 1].isspace())

    def _is_doubled(self, quote: int) -> bool:
        return self.text[quote + 1 : quote + 2] == self.text[quote]

    def _closed_at(self, quote: int) -> StringEnd:
        boundary = syntax.BOUNDARY.search(self.text, self.start + 1, quote) if self.inner else None
        if boundary:
            return self._cut_at(boundary.start())
        return StringEnd(self.start + 1, quote, quote + 1, True, "inner_quote" if self.inner else None)

    def _cut_at(self, limit: int) -> StringEnd:
        """No quote closes before `limit`: the one before a line's end does, if there was one."""
        if self.before_newline is not None and self.before_newline < limit:
            return StringEnd(self.start + 1, self.before_newline, self.before_newline + 1, True)
        return StringEnd(self.start + 1, limit, limit, False)

    def _end_before_next_key(self, quote: int) -> int | None:
        """Where this string ends if `quote` opens the next key, so that its own closing quote is missing."""
        if not syntax.WORD_KEY.match(self.text, quote):
            return None
        tail = syntax.TAIL.search(self.text, max(self.start + 1, quote - _WIDEST_TAIL), quote)
        end = self._back_over(tail.start() if tail else quote, _BEFORE_KEY)
        if sum(map(self.text[end:quote].count, _CLOSERS)) >= self.place.depth:
            end = self._back_over(quote, _BEFORE_CLOSER)
        sure = self.text[end:quote].strip(" ") or (end < quote and syntax.SNAKE_KEY.match(self.text, quote))
        return end if sure else None

    def _back_over(self, position: int, characters: str) -> int:
        first = max(self.start + 1, position - _WIDEST_RUN)
        while position > first and self.text[position - 1] in characters:
            position -= 1
        return position

    def _is_apostrophe(self, quote: int) -> bool:
        around = self.text[quote - 1] + self.text[quote + 1 : quote + 2]
        return self.text[quote] in "'’´`" and len(around) == 2 and around.isalnum()

    def _never_closed(self) -> StringEnd:
        boundary = syntax.BOUNDARY.search(self.text, self.start + 1)
        limit = boundary.start() if boundary else len(self.text)
        if self.before_newline is None and self.inner % 2 == 0:
            for closers in _CLOSER_RUN.finditer(self.text, self.start + 1, limit):
                if closers.end() == limit or "\n" in closers[0]:
                    return self._without_its_quote(closers) or self._cut_at(limit)
        return self._cut_at(limit)

    def _without_its_quote(self, closers: re.Match[str]) -> StringEnd | None:
        """The end before the object's own closers, if they are not the text's: `compro {nessa}` cut there is no end."""
        body = self.text[self.start + 1 : closers.start()]
        if body.count("{") - body.count("}") >= closers[0].count("}"):
            return None
        end = self.start + 1 + len(body.rstrip(_BEFORE_CLOSER))
        return StringEnd(self.start + 1, end, end, True, "missing_quote")
