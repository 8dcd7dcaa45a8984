"""The strict reading: the standard library's JSON decoder, told to report what RFC 8259 leaves open."""

import json
from math import isfinite
from typing import Any

NOT_STRICT = object()
"""What `read_strict` returns for text that is not JSON; None is a JSON value."""

_MOST_DIGITS_OF_A_DOUBLE = 308


def finite_integer(digits: str) -> int | None:
    """The integer of a literal, or None where no finite double is that large (Python would also refuse 4,301 digits).

    >>> finite_integer("12"), finite_integer("9" * 5000)
    (12, None)
    """
    if len(digits) > _MOST_DIGITS_OF_A_DOUBLE and not isfinite(float(digits)):
        return None
    return int(digits)


class StrictReader:
    """`json.JSONDecoder` with hooks; after a read, `repairs` names what was found, in order of appearance."""

    def __init__(self) -> None:
        self.repairs: list[str] = []
        self._decoder = json.JSONDecoder(
            object_pairs_hook=self._object,
            parse_float=self._float,
            parse_int=self._integer,
            parse_constant=self._constant,
        )

    def read(self, text: str) -> Any:
        """The value of `text`, or `NOT_STRICT`."""
        self.repairs.clear()
        try:
            return self._decoder.decode(text)
        except (ValueError, RecursionError):
            return NOT_STRICT

    def read_at(self, text: str, position: int) -> tuple[Any, int]:
        """The value that starts at `position` and where it ends, or (`NOT_STRICT`, position)."""
        self.repairs.clear()
        try:
            return self._decoder.scan_once(text, position)
        except (ValueError, RecursionError, StopIteration):
            return NOT_STRICT, position

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            self.repairs.append("duplicate_key")
        return result

    def _float(self, digits: str) -> float | None:
        number = float(digits)
        return number if isfinite(number) else self._constant(digits)

    def _integer(self, digits: str) -> int | None:
        number = finite_integer(digits)
        return self._constant(digits) if number is None else number

    def _constant(self, name: str) -> None:
        self.repairs.append("non_finite")
