"""Which object of an answer counts: not a draft, an example, or braces that hold no object."""

import re
from dataclasses import dataclass, field
from typing import Any

from helpers.parsing import syntax
from helpers.parsing.objects import Budget, ReadObject, TooMuchError, UnreadableError, read_object
from helpers.parsing.strict import NOT_STRICT, read_strict_at
from helpers.parsing.strings import unescape

_MOST_STRICT_ATTEMPTS = 8
_MOST_ENCODINGS = 3
_FORMAT_SPECIFICATION = re.compile(r"\{[\w.]*:[<>=^+\-,]?[\d,._%#+\-]*[a-zA-Z%]?\}")
_LABEL_BEFORE = re.compile(r"(?:^|[:>`~\]*])[ \t]*\Z", re.MULTILINE)
_RESTART = re.compile(r"^[ \t]*[{｛]|```|~~~|<", re.MULTILINE)
_OPENS_ARRAY = re.compile(r"[\[［](?=\s*(?:[{｛\[\"'\d\-]|true|false|null))")


@dataclass
class Candidate:
    """An object that may be the answer, with what was mended inside it."""

    value: dict[str, Any]
    complete: bool
    repairs: list[str]


@dataclass
class Search:
    """What a pass over a completion saw: the candidates in order, and what was seen around them."""

    candidates: list[Candidate] = field(default_factory=list)
    around: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)


def search_objects(text: str, budget: Budget, encodings: int = 0, not_strict_at: int = -1) -> Search:
    """Every object of `text` that may be the answer. Raises `TooMuchError` beyond the limits.

    `encodings`: how many layers of JSON strings `text` was taken from. `not_strict_at`: where the strict reading is
    known to fail, so that it is not tried again.
    """
    return _Pass(text, budget, encodings, not_strict_at).run()


def choose(candidates: list[Candidate], fields: frozenset[str] = frozenset()) -> Candidate | None:
    """The last complete candidate that shares at least half of the keys of the largest one; else a truncated such one.

    With `fields`, the largest is the one with most of those keys.

    >>> draft, note = Candidate({"a": 1, "b": 2}, True, []), Candidate({"c": 3}, True, [])
    >>> choose([draft, note]).value
    {'a': 1, 'b': 2}
    """
    if not candidates:
        return None
    latest_first = candidates[::-1]
    largest = max(latest_first, key=lambda c: (len(fields & c.value.keys()), len(c.value), c.complete)).value
    alike = [c for c in latest_first if 2 * len(c.value.keys() & largest.keys()) >= len(largest)]
    return next((c for c in alike if c.complete and (c.value or not largest)), alike[0])


class _Pass:
    """One walk over the top level of a completion; objects are read where they start and never looked into twice."""

    def __init__(self, text: str, budget: Budget, encodings: int, not_strict_at: int) -> None:
        self.text, self.budget, self.encodings, self.not_strict_at = text, budget, encodings, not_strict_at
        self.position = 0
        self.seen = Search()
        self.strict_attempts = 0
        self.brackets: list[int] = []
        self.in_array: list[Candidate] = []
        self.fenced = False

    def run(self) -> Search:
        """Go through the text once."""
        while mark := syntax.TOP_LEVEL.search(self.text, self.position):
            self.budget.spend(mark.end() - self.position)
            self._note_text(mark.start())
            self.position = mark.end()
            self._take(mark.group(), mark.start())
        self._note_text(len(self.text))
        if self.in_array:
            self.seen.reasons.append("an array, not an object")
        return self.seen

    def _take(self, mark: str, start: int) -> None:
        if mark in "{｛":
            self._take_brace(start)
        elif mark in "[］]［":
            self._take_bracket(mark, start)
        else:
            self.seen.around.append("code_fence")
            self.fenced = not self.fenced

    def _take_bracket(self, mark: str, start: int) -> None:
        if mark in "[［":
            if self.brackets or _OPENS_ARRAY.match(self.text, start):
                self.brackets.append(start)
        elif self.brackets:
            self.brackets.pop()
            if not self.brackets and self.in_array:
                self.seen.reasons.append("an array, not an object")
                self.in_array = []

    def _take_brace(self, start: int) -> None:
        if syntax.ESCAPED_OBJECT.match(self.text, start):
            self._take_encoded(start)
            return
        if syntax.CSV_OBJECT.match(self.text, start):
            self._take_csv(start)
            return
        if not syntax.OBJECT_START.match(self.text, start):
            self.seen.reasons.append("braces without an object")
            return
        try:
            read = self._strict_object(start) or read_object(self.text, start, self.budget)
        except UnreadableError as problem:
            self._skip_unreadable(problem.position)
            return
        self.position = max(read.end, start + 1)
        if read.value and not self._is_template(read, start):
            self._keep(Candidate(read.value, read.complete, read.repairs))
        elif self._is_empty_object(read) and self._stands_alone(read.end):
            self._keep(Candidate({}, True, read.repairs))
        else:
            self.seen.reasons.append("braces without an object" if read.complete else "no complete field")

    def _keep(self, candidate: Candidate) -> None:
        (self.in_array if self.brackets else self.seen.candidates).append(candidate)

    def _strict_object(self, start: int) -> ReadObject | None:
        """The object at `start` if it is strict JSON; tried a few times per text, as a failure may cost its length."""
        if start == self.not_strict_at or self.strict_attempts >= _MOST_STRICT_ATTEMPTS:
            return None
        repairs: list[str] = []
        value, end = read_strict_at(self.text, start, repairs)
        self.strict_attempts += value is NOT_STRICT
        if value is NOT_STRICT or not value or syntax.AFTER_SURPLUS_CLOSER.match(self.text, end):
            return None
        self.budget.spend(end - start)
        return ReadObject(value, end, True, repairs, all_bare=False)

    def _skip_unreadable(self, at: int) -> None:
        """After an object that broke, only a brace that opens a line may be another answer, never one inside it."""
        self.seen.reasons.append(f"unreadable at character {at}")
        self.seen.around.append("surrounding_text")
        again = _RESTART.search(self.text, max(at, self.position))
        self.position = again.start() if again else len(self.text)

    def _take_encoded(self, start: int) -> None:
        """JSON inside a JSON string: one level of escapes is undone, and the result read like a completion."""
        layer = syntax.ESCAPED_TEXT.match(self.text, start)
        end = layer.end() if layer else len(self.text)
        self.budget.spend(end - start)
        self.position = max(end, start + 1)
        if self.encodings >= _MOST_ENCODINGS:
            raise TooMuchError("encoded too often")
        self._take_inner(unescape(self.text[start:end])[0])

    def _take_csv(self, start: int) -> None:
        """An object inside a CSV cell, each of its quotes doubled."""
        cell = syntax.CSV_TEXT.match(self.text, start)
        end = cell.end() if cell else len(self.text)
        self.budget.spend(end - start)
        self.position = max(end, start + 1)
        self._take_inner(self.text[start:end].replace('""', '"'))

    def _take_inner(self, text: str) -> None:
        """The candidates of a text that was encoded in this one."""
        inner = search_objects(text, self.budget, self.encodings + 1)
        self.seen.around.append("double_encoding")
        self.seen.around += inner.around
        self.seen.reasons += inner.reasons
        for candidate in inner.candidates:
            self._keep(candidate)

    def _is_template(self, read: ReadObject, start: int) -> bool:
        """Braces with neither quotes nor a place of their own: a format string, a line of code, a remark."""
        if not read.all_bare:
            return False
        if "ellipsis" in read.repairs and all(value is None for value in read.value.values()):
            return True
        if _FORMAT_SPECIFICATION.fullmatch(self.text, start, read.end):
            return True
        label = _LABEL_BEFORE.search(self.text, max(0, start - 80), start)
        only_words = all(isinstance(value, str) for value in read.value.values())
        return label is None or (only_words and bool(label[0].strip()))

    @staticmethod
    def _is_empty_object(read: ReadObject) -> bool:
        return read.complete and not read.value and not {"ellipsis", "comment"} & set(read.repairs)

    def _stands_alone(self, end: int) -> bool:
        """Whether an empty object is all there is, or all that a code fence holds."""
        nothing_before = not (self.seen.candidates or self.seen.reasons or "surrounding_text" in self.seen.around)
        after = self.text[end : end + 80].lstrip()
        return (nothing_before or self.fenced) and (not after or after.startswith(("```", "<")))

    def _note_text(self, until: int) -> None:
        """Report what stands between the last mark and `until`, if anything does."""
        between = self.text[self.position : until].strip(" \t\r\n")
        if not between:
            return
        if between in ("}", "｝"):
            self.seen.around.append("closer")
        elif not between.strip():
            self.seen.around.append("exotic_space")
        else:
            self.seen.around.append("surrounding_text")
