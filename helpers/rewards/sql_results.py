"""Whether a query's result says what the reference says, whatever its shape: rows as a multiset, names ignored."""

import re
from collections.abc import Callable, Collection, Sequence
from functools import partial
from itertools import islice, permutations
from typing import Any

from helpers.rewards.text.words import fold

Row = Sequence[Any]
Same = Callable[[Any, Any], bool]

MAX_EXTRA_COLUMNS = 4
"""An answer may show so many columns that nobody asked for; one with more leaves the answer to be searched for."""
MAX_COLUMN_ORDERS = 2000
MAX_ORDERS_COMPARED = 32
MAX_DECIMALS = 6
MAX_LABEL_NUMBER = 31
LABEL_MONTHS = range(190001, 210013)
"""Labels may be numbered (hours, weekdays, days, months as 3 or 201803); other numbers are figures, not labels."""
PARTLY_RIGHT = 0.5
"""Worth of the right rows in the wrong order, and the ceiling of some right rows."""

_NUMERIC_TEXT = re.compile(r"\s*(?:R\$\s*)?(-?\d{1,15}(?:[.,]\d{1,15})?)(?:\s*%)?\s*")


def result_share(
    rows: Sequence[Row],
    reference: Sequence[Row],
    ordered: bool = False,
    decimals: Sequence[int | None] = (),
    open_label: int | None = None,
    percentages: Collection[int] = (),
) -> float:
    """1 for the reference's rows (in its order where `ordered`), up to 0.5 for a part of them, else 0.

    Columns may stand in another order, with others between them. Numbers are equal, also as text, where they agree to
    `decimals`, which the reference was rounded to (None: to those it shows); or, from two on, to those that the answer
    shows. The labels in column `open_label` may be any others that stand for the reference's one to one. Those columns
    of the reference in `percentages` may be fractions in the answer. A row whose figure is undefined in the reference
    (the first month's growth) need not be there.

    >>> reference = [["SP", 20.13], ["RJ", 22.5]]
    >>> result_share([("RJ", 22.5), ("SP", "20.1299")], reference), result_share([("SP", 20.2)], reference)
    (1.0, 0.0)
    """
    if not rows or not reference:
        return 0.0
    width = len(reference[0])
    if open_label is not None and width == 2 and len(rows) == 1 < len(reference) == len(rows[0]):
        rows = [(f"column {place}", value) for place, value in enumerate(rows[0])]
    if not width <= len(rows[0]) <= width + MAX_EXTRA_COLUMNS:
        return 0.0
    given = [[_number(value) for value in column] for column in zip(*rows, strict=True)]
    wanted = [[_number(value) for value in column] for column in zip(*reference, strict=True)]
    rounded = [*decimals, *[None] * width][:width]
    test_for = [
        partial(_test, wanted[place], place == open_label, rounded[place], place in percentages)
        for place in range(width)
    ]
    gaps = [place for place in range(width) if place != open_label and _has_gaps(wanted[place])]
    target = _without_gaps(list(zip(*wanted, strict=True)), gaps)
    best = 0.0
    for order in _column_orders(given, wanted, test_for):
        columns = [given[place] for place in order]
        tests = [test(column) for test, column in zip(test_for, columns, strict=True)]
        answer = _without_gaps(list(zip(*columns, strict=True)), gaps)
        best = max(best, _rows_share(answer, target, tests, ordered))
        if best == 1.0:
            break
    return best


def _rows_share(rows: Sequence[Row], reference: Sequence[Row], tests: list[Same], ordered: bool) -> float:
    if _in_order(rows, reference, tests):
        return 1.0
    matches = _matches(rows, reference, tests)
    if matches == len(rows) == len(reference):
        return PARTLY_RIGHT if ordered else 1.0
    return PARTLY_RIGHT * 2 * matches / (len(rows) + len(reference))


def _has_gaps(column: Sequence[Any]) -> bool:
    """Whether a column of figures has some that are undefined."""
    figures = [value for value in column if value is not None]
    return 0 < len(figures) < len(column) and all(isinstance(value, int | float) for value in figures)


def _without_gaps(rows: list[Row], gaps: list[int]) -> list[Row]:
    return [row for row in rows if all(row[place] is not None for place in gaps)]


def _column_orders(
    given: list[list[Any]], wanted: list[list[Any]], test_for: Sequence[Callable[[list[Any]], Same]]
) -> list[tuple[int, ...]]:
    """The ways to read the answer's columns as the reference's, those that have most values in common first."""
    common = []
    for target, test in zip(wanted, test_for, strict=True):
        tests = [test(column) for column in given]
        pairs = list(zip(given, tests, strict=True))
        common.append([sum(any(same(value, b) for value in column) for b in target) for column, same in pairs])

    def in_common(order: tuple[int, ...]) -> list[int]:
        return [common[place][column] for place, column in enumerate(order)]

    orders = islice(permutations(range(len(given)), len(wanted)), MAX_COLUMN_ORDERS)
    fitting = [order for order in orders if all(in_common(order))]
    return sorted(fitting, key=lambda order: -sum(in_common(order)))[:MAX_ORDERS_COMPARED]


def _matches(rows: Sequence[Row], reference: Sequence[Row], tests: list[Same]) -> int:
    """How many reference rows have a row of their own among `rows`."""
    left = list(rows)
    for wanted in reference:
        index = next((i for i, row in enumerate(left) if _same_row(row, wanted, tests)), None)
        if index is not None:
            del left[index]
    return len(rows) - len(left)


def _in_order(rows: Sequence[Row], reference: Sequence[Row], tests: list[Same]) -> bool:
    return len(rows) == len(reference) and all(
        _same_row(row, wanted, tests) for row, wanted in zip(rows, reference, strict=True)
    )


def _same_row(row: Row, wanted: Row, tests: list[Same]) -> bool:
    return all(same(value, target) for value, target, same in zip(row, wanted, tests, strict=True))


def _test(wanted: list[Any], is_open_label: bool, decimals: int | None, is_percentage: bool, given: list[Any]) -> Same:
    """When a value of an answer's column is one of the reference's column."""
    if is_open_label and len(set(given)) == len(given) and all(map(_may_be_label, given)):
        return _label_test(given, wanted)
    tolerance = _tolerance(wanted) if decimals is None else 0.5 * 10.0**-decimals
    same = _same_percentage if is_percentage else _same
    return lambda value, target: same(value, target, tolerance)


def _label_test(given: list[Any], wanted: list[Any]) -> Same:
    """Any label may stand for another, but one that both sides use stands for itself, also numbers used alike."""
    ours, theirs = {_label(value) for value in given}, {_label(value) for value in wanted}
    numbered = any(isinstance(value, int) for value in ours | theirs)
    shared = ours & theirs if ours == theirs or not numbered else set()

    def same(value: Any, target: Any) -> bool:
        mine, other = _label(value), _label(target)
        return mine == other or not {mine, other} & shared

    return same


def _label(value: Any) -> Any:
    return fold(value) if isinstance(value, str) else value


def _may_be_label(value: Any) -> bool:
    is_number = isinstance(value, int) and (0 <= value <= MAX_LABEL_NUMBER or value in LABEL_MONTHS)
    return isinstance(value, str) or is_number


def _number(value: Any) -> Any:
    """The number that a text holds, with no more than its unit (`12,5%`); any other value as it is."""
    match = _NUMERIC_TEXT.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return value
    digits = match[1].replace(",", ".")
    return float(digits) if "." in digits else int(digits)


def _same(value: Any, wanted: Any, tolerance: float) -> bool:
    if not isinstance(value, int | float) or not isinstance(wanted, int | float):
        return bool(value == wanted)
    decimals = decimals_shown(value)
    slack = max(tolerance, 0.5 * 10.0**-decimals) if decimals >= 2 else tolerance
    return abs(value - wanted) <= slack * (1 + 1e-9) + 1e-9 * abs(wanted)


def _same_percentage(value: Any, wanted: Any, tolerance: float) -> bool:
    """Whether a value is the percentage, or the fraction that is."""
    is_number = isinstance(value, int | float)
    return _same(value, wanted, tolerance) or (is_number and _same(100 * value, wanted, tolerance))


def _tolerance(column: Sequence[Any]) -> float:
    """Half a unit of the last decimal that a column shows; 0 for whole numbers."""
    fractions = [value for value in column if isinstance(value, float)]
    return 0.5 * 10.0 ** -max(map(decimals_shown, fractions)) if fractions else 0.0


def decimals_shown(value: float) -> int:
    """The decimals of a number as printed, at most six.

    >>> decimals_shown(20.13), decimals_shown(4.0), decimals_shown(7), decimals_shown(1 / 3)
    (2, 1, 0, 6)
    """
    fraction = f"{value:.{MAX_DECIMALS}f}".rstrip("0").partition(".")[2]
    return max(len(fraction), int(isinstance(value, float)))
