"""What can be said, figure by figure, about a small table: its values and what follows from them."""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, permutations
from typing import Any

from helpers.rewards.text.language import stems
from helpers.rewards.text.numbers import Sources, WrittenNumber, numbers_in
from helpers.rewards.text.words import fold

MAX_ROWS = 30


class TableFacts:
    """The figures that an analysis of a table may cite, each with the unit it may be cited in.

    Values, totals, means, differences and sums of two rows may be cited plainly; shares of the total and relative
    changes only as percentages; ratios of two rows only as `vezes`. The numbers of the prompt's prose and of the
    rows' names (a period, a threshold) may be cited too.

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
        prose = [line for line in prompt.split("\n") if "|" not in line] + self.labels
        plain = [value for number in numbers_in("\n".join(prose)) for value in number.values] + [float(len(rows))]
        self.direct = Sources(value for column in columns for value in column)
        self._rows = [Sources(_numeric(row[1:])) for row in rows]
        self._differences = Sources(_differences(columns))
        self._plain = Sources([*plain, *_plain(columns)])
        self._derived = {"percent": Sources(_percentages(columns)), "times": Sources(_ratios(columns))}

    def hold(self, number: WrittenNumber) -> bool:
        """Whether the number is the table's or follows from it in its unit."""
        return self.direct.hold(number) or self._follows(number)

    def hold_about(self, number: WrittenNumber, named: set[int], compares: bool = False) -> bool:
        """As `hold`, in a sentence that names these rows: a value of a row that is not among them is another's.

        It may still be a ratio, or a difference where the sentence compares. A sentence that names no row may cite any.
        """
        rows = {place for place, sources in enumerate(self._rows) if sources.hold(number)}
        if not rows or not named:
            return self.hold(number)
        differs = compares and self._differences.hold(number)
        return bool(rows & named) or differs or (number.unit == "times" and self._follows(number))

    def _follows(self, number: WrittenNumber) -> bool:
        if self._plain.hold(number) or self._differences.hold(number):
            return True
        return number.unit in self._derived and self._derived[number.unit].hold(number)

    @property
    def label_count(self) -> int:
        """How many rows the table has."""
        return len(self.labels)

    def rows_named(self, text: str) -> set[int]:
        """The places of the rows that a text names, by their label or by all of its words where it has several.

        A label inside of a longer one that is named (`alto` in `muito alto`) is not named there.
        """
        left, mentioned, places = " ".join(fold(text).replace("_", " ").split()), stems(text), set()
        for place in sorted(range(len(self.labels)), key=lambda place: -len(self.labels[place])):
            label = fold(self.labels[place]).replace("_", " ")
            rest = re.sub(rf"(?<!\w){re.escape(label)}(?!\w)", " ", left)
            wanted = stems(label)
            if rest != left or (len(wanted) > 1 and wanted <= mentioned):
                places.add(place)
            left = rest
        return places


def _numeric(column: Sequence[Any]) -> list[float]:
    return [float(value) for value in column if isinstance(value, int | float) and not isinstance(value, bool)]


def _differences(columns: list[list[float]]) -> Iterator[float]:
    for column in columns:
        mean = sum(column) / len(column)
        yield from (value - mean for value in column)
        yield from (one - other for one, other in combinations(column, 2))


def _plain(columns: list[list[float]]) -> Iterator[float]:
    for column in columns:
        yield from (sum(column), sum(column) / len(column))
        yield from (one + other for one, other in combinations(column, 2))
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
