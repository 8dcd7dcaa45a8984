"""Whether two query results say the same: rows as a multiset, numbers to the precision shown, column names ignored."""

from collections.abc import Sequence
from itertools import permutations
from typing import Any

Row = Sequence[Any]

MAX_PERMUTED_COLUMNS = 4
MAX_EXTRA_COLUMNS = 2
MAX_DECIMALS = 6
PARTLY_RIGHT = 0.5
"""Worth of the right rows in the wrong order or with extra columns, and the ceiling of some right rows."""


def result_share(rows: Sequence[Row], reference: Sequence[Row], ordered: bool = False) -> float:
    """1 for the reference's rows (in its order where `ordered`), up to 0.5 for a part of them, else 0.

    Columns may stand in another order. Numbers are equal where they agree to the decimals that the reference's column
    shows (or, from two decimals on, to those that the answer's value shows).

    >>> reference = [["SP", 20.13], ["RJ", 22.5]]
    >>> result_share([("RJ", 22.5), ("SP", 20.1299)], reference), result_share([("SP", 20.2)], reference)
    (1.0, 0.0)
    """
    if not rows or not reference or not 0 <= len(rows[0]) - len(reference[0]) <= MAX_EXTRA_COLUMNS:
        return 0.0
    tolerances = [_tolerance([row[column] for row in reference]) for column in range(len(reference[0]))]
    best = max(_matches(_pick(rows, order), reference, tolerances) for order in _column_orders(rows, reference))
    if best < len(reference) or len(rows) != len(reference):
        return PARTLY_RIGHT * 2 * best / (len(rows) + len(reference))
    if len(rows[0]) > len(reference[0]):
        return PARTLY_RIGHT
    in_order = any(_in_order(_pick(rows, order), reference, tolerances) for order in _column_orders(rows, reference))
    return 1.0 if in_order or not ordered else PARTLY_RIGHT


def _column_orders(rows: Sequence[Row], reference: Sequence[Row]) -> list[tuple[int, ...]]:
    """The ways to read the answer's columns as the reference's, the given order first."""
    given, wanted = len(rows[0]), len(reference[0])
    if given > MAX_PERMUTED_COLUMNS:
        return [tuple(range(wanted))]
    return list(permutations(range(given), wanted))


def _pick(rows: Sequence[Row], order: tuple[int, ...]) -> list[Row]:
    return [[row[column] for column in order] for row in rows]


def _matches(rows: list[Row], reference: Sequence[Row], tolerances: list[float]) -> int:
    """How many reference rows have a row of their own among `rows`."""
    if _in_order(rows, reference, tolerances):
        return len(reference)
    left = list(rows)
    found = 0
    for wanted in reference:
        index = next((i for i, row in enumerate(left) if _same_row(row, wanted, tolerances)), None)
        if index is not None:
            found += 1
            del left[index]
    return found


def _in_order(rows: Sequence[Row], reference: Sequence[Row], tolerances: list[float]) -> bool:
    return len(rows) == len(reference) and all(
        _same_row(row, wanted, tolerances) for row, wanted in zip(rows, reference, strict=True)
    )


def _same_row(row: Row, wanted: Row, tolerances: list[float]) -> bool:
    return all(_same(value, target, slack) for value, target, slack in zip(row, wanted, tolerances, strict=True))


def _same(value: Any, wanted: Any, tolerance: float) -> bool:
    if not isinstance(value, int | float) or not isinstance(wanted, int | float):
        return value == wanted
    decimals = decimals_shown(value)
    slack = max(tolerance, 0.5 * 10.0**-decimals) if decimals >= 2 else tolerance
    return abs(value - wanted) <= slack * (1 + 1e-9) + 1e-9 * abs(wanted)


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
