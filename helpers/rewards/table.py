"""What can be said, figure by figure, about a small table: its values and what follows from them."""

from collections.abc import Iterator, Mapping
from itertools import permutations
from typing import Any

from helpers.rewards.language import stems
from helpers.rewards.numbers import Sources, WrittenNumber, numbers_in
from helpers.rewards.text import fold

MAX_ROWS = 30


class TableFacts:
    """The figures that an analysis of a table may cite, each with the unit it may be cited in.

    Values, totals, means, differences and sums of two rows may be cited plainly; shares of the total and relative
    changes only as percentages; ratios of two rows only as `vezes`. The prompt's own numbers (a period, a threshold)
    may be cited too.

    >>> table = {"columns": ["estado", "frete"], "rows": [["SP", 15.0], ["PA", 45.0]]}
    >>> facts = TableFacts(table)
    >>> [facts.hold(number) for number in numbers_in("R$ 45,00; 3 vezes; 25%; 31%; R$ 44,00")]
    [True, True, True, False, False]
    """

    def __init__(self, table: Mapping[str, Any], prompt: str = "") -> None:
        """`table` has `columns` (names) and `rows` (a label, then numbers or None)."""
        rows = table["rows"][:MAX_ROWS]
        self.labels = [str(row[0]) for row in rows]
        columns = [_numeric(column) for column in list(zip(*rows, strict=False))[1:]]
        columns = [column for column in columns if column]
        plain = [value for number in numbers_in(prompt) for value in number.values] + [float(len(rows))]
        self.direct = Sources(value for column in columns for value in column)
        self._plain = Sources([*plain, *_plain(columns)])
        self._percent = Sources(_percentages(columns))
        self._times = Sources(_ratios(columns))

    def hold(self, number: WrittenNumber) -> bool:
        """Whether the number is the table's or follows from it in its unit."""
        if self.direct.hold(number) or self._plain.hold(number):
            return True
        return {"percent": self._percent, "times": self._times}.get(number.unit, self.direct).hold(number)

    @property
    def label_count(self) -> int:
        """How many rows the table has."""
        return len(self.labels)

    def labels_named(self, text: str) -> int:
        """How many rows a text names, by their whole label or all of its content words."""
        folded, found = fold(text), stems(text)
        return sum(_names(label, folded, found) for label in self.labels)


def _names(label: str, folded: str, found: set[str]) -> bool:
    wanted = stems(label.replace("_", " "))
    return wanted <= found if wanted else fold(label) in folded


def _numeric(column: tuple[Any, ...]) -> list[float]:
    return [float(value) for value in column if isinstance(value, int | float) and not isinstance(value, bool)]


def _plain(columns: list[list[float]]) -> Iterator[float]:
    for column in columns:
        total = sum(column)
        yield from (total, total / len(column))
        yield from (value - total / len(column) for value in column)
        for one, other in permutations(column, 2):
            yield from (one - other, one + other)
    for first, second in permutations(columns, 2):
        if len(first) == len(second):
            yield from (one / other for one, other in zip(first, second, strict=True) if other)


def _percentages(columns: list[list[float]]) -> Iterator[float]:
    for column in columns:
        total = sum(column)
        yield from (100 * value / total for value in column if total)
        for one, other in permutations(column, 2):
            if other:
                yield 100 * (one / other - 1)
            if total:
                yield 100 * (one + other) / total
    for first, second in permutations(columns, 2):
        if len(first) == len(second):
            yield from (100 * one / other for one, other in zip(first, second, strict=True) if other)


def _ratios(columns: list[list[float]]) -> Iterator[float]:
    for column in columns:
        mean = sum(column) / len(column)
        yield from (value / mean for value in column if mean)
        yield from (one / other for one, other in permutations(column, 2) if other)
