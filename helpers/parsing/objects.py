"""One object, read from its opening brace in a single pass, mending what a careful reader would mend."""

import re
import string
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import Any

from helpers.parsing import syntax
from helpers.parsing.numbers import NOT_A_NUMBER, goes_on_after_comma, is_number_run, read_number
from helpers.parsing.strings import StringPlace, find_string_end, unescape

MAX_DEPTH = 64
"""Containers inside containers; deeper text is no answer to any prompt here."""

_LITERALS: dict[str, bool | None] = {
    "true": True, "false": False, "null": None, "verdadeiro": True, "falso": False, "nulo": None,
}  # fmt: skip
_EXACT_LITERALS = {"None": None, "undefined": None}
_STRICT_LITERALS = ("true", "false", "null")
_NO_GAP = "\"'{}[],:" + string.ascii_letters + string.digits  # what no gap starts with
_STOP_STARTS = "`~"
_NO_REMARK = syntax.QUOTES + "{}｛｝]［］:：="
_VALUE_ENDS = syntax.SEPARATORS + syntax.OBJECT_CLOSERS


class UnreadableError(Exception):
    """The text at `position` has no certain meaning."""

    def __init__(self, position: int) -> None:
        super().__init__(position)
        self.position = position


class TooMuchError(Exception):
    """The text is nested too deeply, or reading it took more work than its length allows."""


class _EndedError(Exception):
    """The text ended inside the object; nested containers are dropped on the way up."""


class Budget:
    """A step counter with a limit. A step is a token looked at or a character passed over."""

    def __init__(self, limit: int) -> None:
        self.limit, self.steps = limit, 0

    def spend(self, steps: int) -> None:
        """Count `steps` more; `TooMuchError` once the limit is passed."""
        self.steps += steps
        if self.steps > self.limit:
            raise TooMuchError("too much work")


@dataclass
class ReadObject:
    """What `read_object` read: the fields, where reading stopped, and how sure one can be that it is an object."""

    value: dict[str, Any] = field(default_factory=dict)
    end: int = 0
    complete: bool = True
    repairs: list[str] = field(default_factory=list)
    all_bare: bool = True


@dataclass
class _Item:
    """An array element, with the span of its token and how many semicolons came before it."""

    value: Any
    start: int
    end: int
    bare: bool
    group: int


def read_object(text: str, start: int, budget: Budget) -> ReadObject:
    """The object that opens with the brace at `start`.

    Where the text ends first, `complete` is False and only the fields whose values are whole are kept. Raises
    `UnreadableError` where the meaning is not certain (or there is no `key: value` at all), `TooMuchError` beyond the
    limits.
    """
    reader = _Reader(text, start, budget)
    result = reader.result
    try:
        reader.read_object(result.value)
        if result.value and not reader.colons:
            raise UnreadableError(start + 1)
        reader.read_on_after_surplus_closer()
    except _EndedError:
        result.complete = False
        reader.note("truncated")
    result.end = reader.position
    return result


class _Reader:
    """The state of one reading: a position in the text, the containers open there, the repairs so far."""

    def __init__(self, text: str, start: int, budget: Budget) -> None:
        self.text, self.position, self.budget = text, start, budget
        self.open: list[str] = []
        self.bare_keys = False
        self.colons = 0
        self.result = ReadObject()

    def note(self, repair: str | None) -> None:
        """Report a repair, where one was made."""
        if repair:
            self.result.repairs.append(repair)

    # -- objects

    def read_object(self, into: dict[str, Any]) -> None:
        """Read `{ key: value ... }` at the position into `into`, as far as it goes."""
        self._enter("{")
        doubled = self._skip_second_brace()
        self._read_pairs(into)
        if doubled and self._at(syntax.OBJECT_CLOSERS):
            self.position += 1
        self.open.pop()

    def read_on_after_surplus_closer(self) -> None:
        """`{"a": 1}, "b": 2}`: the first brace closed nothing, if what follows goes on to a brace of its own."""
        while syntax.AFTER_SURPLUS_CLOSER.match(self.text, self.position):
            closed_at, more, repairs = self.position, dict[str, Any](), len(self.result.repairs)
            self.open = ["{"]
            try:
                self._read_pairs(more)
            except (_EndedError, UnreadableError):
                self.position = closed_at
                del self.result.repairs[repairs:]
                return
            self.note("closer")
            self._add_all(self.result.value, more)

    def _read_pairs(self, into: dict[str, Any]) -> None:
        first = True
        while True:
            first = self._read_plain_pairs(into, first)
            self.budget.spend(1)
            before = self.position
            separators = self._skip_separators(0 if first or self._closes_next() else 1, remarks=True)
            if self._read_closer():
                return
            if self._at(syntax.ARRAY_CLOSERS):
                self.position += 1
                self.note("closer")
                continue
            loose = not separators and "\n" in self.text[before : self.position]
            stray = syntax.WORDS_FOR_PAIR if separators and not first else syntax.WORDS_BEFORE_KEY
            if words := stray.match(self.text, self.position):
                self.budget.spend(words.end() - self.position)
                self.position = words.end()
                self.note("remark")
                continue
            key = self._read_key(first, loose)
            self._add(into, key, self._read_value(in_array=False))
            first = False

    def _read_plain_pairs(self, into: dict[str, Any], first: bool) -> bool:
        """Read the pairs that come next with strict keys and values, or a decimal comma, in one match each.

        Returns whether the object's first pair is still to come.
        """
        pair = (syntax.FIRST_PLAIN_PAIR if first else syntax.NEXT_PLAIN_PAIR).match(self.text, self.position)
        while pair:
            key, string, literal, number = pair.groups()
            if number:
                value, repair = read_number(number)
                self.note(repair)
            else:
                value = _LITERALS[literal] if literal else string
            self._add(into, key, value)
            self.budget.spend(pair.end() - self.position)
            self.position = pair.end()
            self.colons += 1
            first = self.result.all_bare = self.bare_keys = False
            pair = syntax.NEXT_PLAIN_PAIR.match(self.text, self.position)
        return first

    def _add(self, into: dict[str, Any], key: str, value: Any) -> None:
        if key in into:
            self.note("duplicate_key")
        into[key] = value

    def _add_all(self, into: dict[str, Any], more: dict[str, Any]) -> None:
        for key, value in more.items():
            self._add(into, key, value)

    def _read_closer(self) -> bool:
        """Whether the object ends here: at its brace, or where only its missing brace explains what follows."""
        if self._at_end():
            raise _EndedError
        if self._at(syntax.OBJECT_CLOSERS):
            self._note_full_width()
            self.position += 1
            return True
        in_array = "[" in self.open
        next_element = self.open[-2:-1] == ["["] and self._at("{｛")
        if next_element or (in_array and self._at(syntax.ARRAY_CLOSERS)):
            self.note("closer")
            return True
        return False

    def _skip_second_brace(self) -> bool:
        if self._at("{｛"):
            self._note_full_width()
            self.position += 1
        mark = self.position
        self._skip_gap()
        if self._at("{｛"):
            self.position += 1
            self.note("doubled_brace")
            return True
        self.position = mark
        return False

    # -- keys

    def _read_key(self, first: bool, loose: bool) -> str:
        """The key at the position, its colon passed. Raises where there is none: the object ends or is unreadable.

        `loose`: only a new line came before it, no comma; between quoted keys, a bare word is then prose.
        """
        text, start = self.text, self.position
        self.budget.spend(8)
        self.colons += 1
        if quoted := syntax.QUOTED_KEY.match(text, start):
            self.result.all_bare = self.bare_keys = False
            return self._quoted_key(quoted[1], quoted.end())
        bare = syntax.BARE_KEY.match(text, start)
        if bare and (first or self.bare_keys or not loose or bare[2] or syntax.STRONG_PAIR.match(text, start)):
            self.note("missing_quote" if bare[2] else "unquoted_key")
            self.bare_keys = not bare[2]
            self._pass_colon(start + len(bare[1]) + len(bare[2]), bare.end())
            return unescape(bare[1].rstrip())[0]
        if half := syntax.HALF_QUOTED_KEY.match(text, start):
            self.result.all_bare = False
            self.note("missing_quote")
            self.position = half.end()
            return unescape(half[1])[0]
        if lone := syntax.KEY_WITHOUT_COLON.match(text, start):
            self.note("missing_colon")
            self.colons -= 1
            self.position = lone.end()
            return unescape(lone[1])[0]
        raise self._no_key(first, loose)

    def _quoted_key(self, quoted: str, end: int) -> str:
        if quoted[0] != '"':
            self.note("quotes")
        self._pass_colon(self.position + len(quoted), end)
        start, end = 1, len(quoted) - 1
        if quoted[0] == "\\":
            start, end = 2, len(quoted) - 2
        while start < min(end, 3) and quoted[start] == quoted[0]:
            start += 1
        while max(start, len(quoted) - 3) < end and quoted[end - 1] == quoted[-1] and quoted[end - 2] != "\\":
            end -= 1
        if end - start < len(quoted) - 2:
            self.note("quotes")
        key, repairs = unescape(quoted[start:end])
        self.result.repairs += repairs
        return key

    def _pass_colon(self, gap: int, end: int) -> None:
        self.position = gap
        self._skip_gap()
        if self.text[self.position : end] != ":":
            self.note("full_width" if self.text[self.position] == "：" else "colon")
        self.position = end

    def _no_key(self, first: bool, loose: bool) -> Exception:
        """Why there is no key: the text is cut, the brace was forgotten at a line's end, or no meaning is certain."""
        if cut := syntax.CUT_KEY.match(self.text, self.position):
            self.position = cut.end()
            return _EndedError()
        if not first and not self._own_closer_follows():
            return _EndedError()
        return UnreadableError(self.position)

    def _own_closer_follows(self) -> bool:
        """Whether the next closing brace has no opening one before it."""
        closers = [at for at in map(self._next, syntax.OBJECT_CLOSERS) if at >= 0]
        return bool(closers) and all(self.text.find(brace, self.position, min(closers)) < 0 for brace in "{｛")

    def _next(self, character: str) -> int:
        return self.text.find(character, self.position)

    # -- values

    def _read_value(self, in_array: bool) -> Any:
        self._skip_gap()
        if self._at_end():
            raise _EndedError
        self.budget.spend(1)
        is_tuple = syntax.TUPLE_START.match(self.text, self.position) is not None
        if not is_tuple:
            self._skip_mark(syntax.MARK_BEFORE_VALUE)
        character = self.text[self.position]
        if character in "{｛":
            nested: dict[str, Any] = {}
            self.read_object(nested)
            return nested
        if character in "[［" or is_tuple:
            return self._read_array()
        if opening := syntax.PARENTHESISED_STRING.match(self.text, self.position):
            self.position = opening.end()
            value = self._read_strings(in_array)
            if closing := syntax.CLOSING_PARENTHESIS.match(self.text, self.position):
                self.position = closing.end()
            return value
        if escaped := syntax.ESCAPED_STRING.match(self.text, self.position):
            self.note("quotes")
            self.position = escaped.end()
            return unescape(escaped[2])[0]
        if character in syntax.QUOTES:
            return self._read_strings(in_array)
        if character in _VALUE_ENDS or character in syntax.ARRAY_CLOSERS:
            self.note("missing_value")
            return None
        return self._read_bare(in_array)

    def _skip_mark(self, pattern: re.Pattern[str]) -> None:
        """Pass what is no part of a value: stars, a remark."""
        if mark := pattern.match(self.text, self.position):
            self.budget.spend(mark.end() - self.position)
            self.note("comment")
            self.position = mark.end()

    def _read_strings(self, in_array: bool) -> str | None:
        """A string, or several joined by `+`."""
        value = self._read_string(in_array)
        if value is None or not syntax.JOIN.match(self.text, self.position):
            return value
        self.note("joined_strings")
        parts = [value]
        while join := syntax.JOIN.match(self.text, self.position):
            self.position = join.end()
            parts.append(self._read_string(in_array) or "")
        return "".join(parts)

    def _read_string(self, in_array: bool) -> str | None:
        start = self.position
        key = None if in_array else syntax.QUOTED_KEY.match(self.text, start)
        # A text that `"` opens ends at a `"` without a backslash: in `"": "0»:"` and `"": "\":"` the value is no key.
        if key and (self.text[start] != '"' or syntax.CLOSING_QUOTE.search(key[1])):
            if not syntax.WORD_KEY.match(self.text, start):
                raise UnreadableError(start)
            self.note("missing_value")
            return None
        place = StringPlace(self._container(in_array), self.bare_keys, len(self.open))
        span = find_string_end(self.text, start, place, self.budget.spend)
        self.position = span.resume
        if not span.closed:
            raise _EndedError
        self.result.all_bare = False
        self.note(span.repair)
        if self.text[start] != '"' or self.text[span.end : span.resume] not in ('"', '"""', ""):
            self.note("quotes")
        value, repairs = unescape(self.text[span.start : span.end])
        self.result.repairs += repairs
        return value

    def _container(self, in_array: bool) -> str:
        return self.open[-1] if in_array else "{"

    def _read_bare(self, in_array: bool) -> Any:
        """A number, a literal, or a string whose quotes were forgotten."""
        start = self.position
        patterns = () if in_array else (syntax.NUMBER_RUN, syntax.SIMPLE_VALUE, syntax.NUMBER_OR_LITERAL)
        simple = next(filter(None, (pattern.match(self.text, start) for pattern in patterns)), None)
        if simple:
            self.position = simple.end(1)
            return self._meaning(simple[1])
        end, quote = self._bare_end(start, in_array)
        token = self._visible(self.text[start:end]).strip()
        self.position = end + quote
        if quote:
            self.note("missing_quote")
            self.result.all_bare = False
            return unescape(token)[0]
        if syntax.ELLIPSIS.fullmatch(token):
            self.note("ellipsis")
            return None
        return self._meaning(token)

    def _bare_end(self, start: int, in_array: bool) -> tuple[int, int]:
        """Where the bare value at `start` ends, and 1 if a quote whose partner is missing ends it (else 0)."""
        position = start
        stops = syntax.TUPLE_STOP if self.open[-1] == "(" else syntax.BARE_STOP
        while stop := stops.search(self.text, position):
            self.budget.spend(4)
            at, character = stop.start(), stop[0]
            if at == start and character[0] == "<":  # a placeholder, `<valor>`
                position = stop.end()
                continue
            if character in "{｛":
                braced = syntax.BRACED_WORDS.match(self.text, at)
                if braced is None:
                    raise UnreadableError(at)
                position = braced.end()
                continue
            if character in syntax.SEPARATORS:
                if in_array or self._separator_ends(start, at):
                    return at, 0
            elif character in syntax.ARRAY_CLOSERS:
                if "[" in self.open or syntax.GOES_ON["{"][0].match(self.text, at + 1):
                    return at, 0
            elif character in syntax.QUOTES:
                if at > start and (syntax.WORD_KEY.match(self.text, at) or self._is_whole(start, at)):
                    symbols = syntax.SYMBOLS_AT_END.search(self.text, max(start, at - 20), at)
                    return symbols.start() if symbols else at, 0
                if syntax.GOES_ON[self._container(in_array)][0].match(self.text, at + 1):
                    return at, 1
            else:
                return at, 0
            position = stop.end()
        if self.text[start:].strip() in (*_STRICT_LITERALS, *_EXACT_LITERALS) or self._is_literal(self.text[start:]):
            return len(self.text), 0
        self.position = len(self.text)
        raise _EndedError

    def _is_whole(self, start: int, end: int) -> bool:
        """Whether a number or a literal ends before `end`, with a space behind it."""
        token = self.text[start : min(end, start + 40)]
        if not token[-1:].isspace():
            return False
        return self._is_literal(token) or read_number(token.strip())[0] is not NOT_A_NUMBER

    def _visible(self, token: str) -> str:
        """A bare token without the invisible characters in it."""
        visible = syntax.INVISIBLES.sub("", token)
        self.note("invisible_character" if visible != token else None)
        return visible

    def _separator_ends(self, start: int, at: int) -> bool:
        """Whether the separator at `at` ends the bare value from `start`. At the very end of the text it may not."""
        if syntax.SEPARATOR_ENDS_VALUE.match(self.text, at):
            return True
        token = self.text[start : min(at, start + 40)].strip()
        if self._is_literal(token):
            return True
        if syntax.WORD_AFTER_SEPARATOR.match(self.text, at) and read_number(token)[0] is not NOT_A_NUMBER:
            return True
        if syntax.SEPARATOR_BEFORE_WORDS.match(self.text, at) and not re.search(r"\s", self.text[start:at].strip()):
            return True
        at_end = syntax.SEPARATOR_AT_END.match(self.text, at)
        if not at_end and not syntax.SEPARATOR_CUT_KEY.match(self.text, at):
            return False
        token = self.text[start:at].strip()
        certain = self._is_literal(token) or read_number(token)[0] is not NOT_A_NUMBER
        half_a_number = self.text[at:] in (",", "，") and goes_on_after_comma(token)
        if at_end and (not certain or half_a_number):
            self.position = len(self.text)
            raise _EndedError
        return certain

    def _meaning(self, token: str) -> Any:
        """The value of a bare token."""
        if token in _STRICT_LITERALS:
            return _LITERALS[token]
        if self._is_literal(token):
            self.note("literal")
            return _EXACT_LITERALS[token] if token in _EXACT_LITERALS else _LITERALS[token.lower()]
        value, repair = read_number(token)
        if value is not NOT_A_NUMBER:
            self.note(repair)
            return value
        if (token.startswith("<") and token.endswith(">")) or token[:2] in ('\\"', "\\'"):
            raise UnreadableError(self.position)
        self.note("number_run" if is_number_run(token) else "unquoted_value")
        return unescape(token)[0]

    @staticmethod
    def _is_literal(token: str) -> bool:
        token = token.strip()
        return token in _EXACT_LITERALS or token.lower() in _LITERALS

    # -- arrays

    def _read_array(self) -> Any:
        """An array, or Python's tuple; brackets around one value are only brackets."""
        opening = "(" if self._at("(") else "["
        self.note("tuple" if opening == "(" else None)
        self._enter(opening)
        self._note_full_width()
        self.position += 1
        items: list[_Item] = []
        groups = separators = 0
        while True:
            self.budget.spend(1)
            before = self.position
            separators += self._skip_separators(0 if not items or self._closes_next() else 1)
            groups += sum(map(self.text[before : self.position].count, ";；"))
            if self._read_array_closer():
                break
            if opening == "[":
                self._skip_mark(syntax.MARK_BEFORE_ELEMENT)
            start = self.position
            bare = self.text[start] not in syntax.QUOTES + "{[｛［"
            items.append(_Item(self._read_value(in_array=True), start, self.position, bare, groups))
            self._skip_mark(syntax.REMARK_BEHIND_ELEMENT)
        self.open.pop()
        if opening == "(" and len(items) == 1 and not separators:
            return items[0].value
        return [item.value for item in items] if not groups else self._regrouped(items)

    def _read_array_closer(self) -> bool:
        if self._at_end():
            raise _EndedError
        if self._at(")" if self.open[-1] == "(" else syntax.ARRAY_CLOSERS):
            self._note_full_width()
            self.position += 1
            return True
        if self._at(syntax.OBJECT_CLOSERS) or self._key_follows():
            self.note("closer")
            return True
        return False

    def _key_follows(self) -> bool:
        """Whether a key stands where an element is expected, so that the array was never closed."""
        keys = (syntax.KEY_AFTER_REMARK, syntax.STRONG_PAIR)
        return any(key.match(self.text, self.position) for key in keys)

    def _regrouped(self, items: list[_Item]) -> list[Any]:
        """In an array that uses semicolons, commas belong to the values: `[4,5; 3,2]` holds two numbers."""
        values: list[Any] = []
        for _, group in groupby(items, key=attrgetter("group")):
            members = list(group)
            if len(members) > 1 and all(item.bare for item in members):
                values.append(self._meaning(self.text[members[0].start : members[-1].end].strip()))
            else:
                values += [item.value for item in members]
        return values

    # -- between tokens

    def _enter(self, container: str) -> None:
        if len(self.open) >= MAX_DEPTH:
            raise TooMuchError("nested too deeply")
        self.open.append(container)

    def _at(self, characters: str) -> bool:
        return self.position < len(self.text) and self.text[self.position] in characters

    def _at_end(self) -> bool:
        if self.position >= len(self.text):
            return True
        return self.text[self.position] in _STOP_STARTS and syntax.STOP.match(self.text, self.position) is not None

    def _closes_next(self) -> bool:
        """Whether a closer comes next, spaces apart: no separator is expected before it."""
        return syntax.CLOSER_NEXT.match(self.text, self.position) is not None

    def _skip_separators(self, expected: int, remarks: bool = False) -> int:
        """Pass separators, gaps, ellipses and (between pairs) remarks.

        Returns how many separators there were; another number than `expected` is a repair.
        """
        count = 0
        while True:
            self._skip_gap()
            if self._at(syntax.SEPARATORS):
                character = self.text[self.position]
                self.note("full_width" if character in "，；" else "semicolon" if character == ";" else None)
                self.position += 1
                count += 1
            elif ellipsis := syntax.ELLIPSIS.match(self.text, self.position):
                self.position = ellipsis.end()
                self.note("ellipsis")
            elif remarks and (remark := self._remark()):
                self.position = remark.end()
                self.note("comment")
            else:
                break
            self.budget.spend(1)
        if count != expected and not self._at_end():
            self.note("comma")
        return count

    def _remark(self) -> re.Match[str] | None:
        if self._at(_NO_REMARK):
            return None
        return syntax.REMARK.match(self.text, self.position)

    def _skip_gap(self) -> None:
        if self._at(_NO_GAP):
            return
        gap = syntax.GAP.match(self.text, self.position)
        if gap is None or gap.end() == self.position:
            return
        self.budget.spend(gap.end() - self.position)
        self.position = gap.end()
        if gap[0].strip(" \t\r\n"):
            self.result.repairs += gap_repairs(gap[0])

    def _note_full_width(self) -> None:
        if self._at("｛｝［］"):
            self.note("full_width")


def gap_repairs(gap: str) -> list[str]:
    """The repairs that the text between two tokens stands for: comments, odd spaces, invisible characters."""
    odd = gap.strip(" \t\r\n")
    repairs = ["comment"] if syntax.COMMENT_START.search(odd) else []
    if not repairs:
        repairs += ["stray_backslash"] * ("\\" in odd)
        repairs += ["invisible_character"] * any(c not in "\\nrt" and not c.isspace() for c in odd)
        repairs += ["exotic_space"] * any(c.isspace() and c not in " \t\r\n" for c in odd)
    return repairs
