"""The strict reading: the standard library's JSON decoder, told to report what RFC 8259 leaves open."""

import json
import re
from json.scanner import make_scanner
from math import isfinite
from typing import Any, NoReturn

NOT_STRICT = object()
"""What the readers return for text that is not JSON; None is a JSON value."""

_MOST_DIGITS_OF_A_DOUBLE = 308
_SPACE = re.compile(r"[ \t\n\r]*")


class _ReportableError(Exception):
    """The text is JSON, but holds a duplicate key or a number that is not a finite double."""


def finite_integer(digits: str) -> int | None:
    """The integer of a literal, or None where no finite double is that large (Python would also refuse 4,301 digits).

    >>> finite_integer("12"), finite_integer("9" * 5000)
    (12, None)
    """
    if len(digits) > _MOST_DIGITS_OF_A_DOUBLE and not isfinite(float(digits)):
        return None
    return int(digits)


def finite_float(digits: str) -> float | None:
    """The double of a literal, or None where it overflows.

    >>> finite_float("4.5"), finite_float("1e999")
    (4.5, None)
    """
    number = float(digits)
    return number if isfinite(number) else None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise _ReportableError
    return result


def _integer(digits: str) -> int:
    if len(digits) > _MOST_DIGITS_OF_A_DOUBLE:
        raise _ReportableError
    return int(digits)


def _float(digits: str) -> float:
    number = float(digits)
    if not isfinite(number):
        raise _ReportableError
    return number


def _constant(name: str) -> NoReturn:
    raise _ReportableError


_PLAIN = json.JSONDecoder(object_pairs_hook=_object, parse_float=_float, parse_int=_integer, parse_constant=_constant)


def _reporting_decoder(repairs: list[str]) -> json.JSONDecoder:
    """A decoder that notes duplicate keys and non-finite numbers in `repairs` and reads on."""

    def noted(name: str, value: Any) -> Any:
        """`value` as it is; None is reported as the repair `name`."""
        if value is None:
            repairs.append(name)
        return value

    def pairs_hook(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        """The object of `pairs`; a key that stands twice is reported, and its last value counts."""
        result = dict(pairs)
        noted("duplicate_key", result if len(result) == len(pairs) else None)
        return result

    return json.JSONDecoder(
        object_pairs_hook=pairs_hook,
        parse_float=lambda digits: noted("non_finite", finite_float(digits)),
        parse_int=lambda digits: noted("non_finite", finite_integer(digits)),
        parse_constant=lambda name: noted("non_finite", None),
    )


_scan = make_scanner(_PLAIN)  # type: ignore[arg-type]  # the decoder is the context that holds the hooks


def after_space(text: str, start: int = 0) -> int:
    """The first position from `start` that holds no JSON white space."""
    match = _SPACE.match(text, start)
    return match.end() if match else start


def read_strict_at(text: str, start: int, repairs: list[str]) -> tuple[Any, int]:
    """The value that starts at `start` and where it ends, or (`NOT_STRICT`, start).

    What had to be reported is added to `repairs`.

    >>> read_strict_at('{"a": 1} fim', 0, [])
    ({'a': 1}, 8)
    """
    try:
        return _scan(text, start)
    except _ReportableError:
        return _read_reporting(text, start, repairs)
    except (ValueError, RecursionError, StopIteration):
        return NOT_STRICT, start


def _read_reporting(text: str, start: int, repairs: list[str]) -> tuple[Any, int]:
    noted: list[str] = []
    try:
        value, end = _reporting_decoder(noted).raw_decode(text, start)
    except (ValueError, RecursionError):
        return NOT_STRICT, start
    repairs.extend(noted)
    return value, end
