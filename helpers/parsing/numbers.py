"""Numbers as Brazilians and language models write them; only well-formed ones are numbers."""

import re

from helpers.parsing.strict import finite_float, finite_integer

NOT_A_NUMBER = object()
"""What `read_number` returns for a token that is no number; None stands for a number that is not finite."""

_ASCII = str.maketrans("０１２３４５６７８９，．－＋−\u00a0\u202f\u2009\u2007", "0123456789,.-+-    ")
_GROUP = r"[1-9]\d{0,2}"
_INTEGER = re.compile(r"-?(?:0|[1-9]\d*)", re.ASCII)
_FLOAT = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)
_DECIMAL_COMMA = re.compile(r"-?(?:0|[1-9]\d*),\d+(?:[eE][+-]?\d+)?", re.ASCII)
_SPACED_SIGN = re.compile(r"([-+])[ \t]+(?=\d)")
_POINT_GROUPS = re.compile(rf"-?{_GROUP}(?:\.\d{{3}})+(?:,\d+)?", re.ASCII)
_COMMA_GROUPS = re.compile(rf"-?{_GROUP}(?:(?:,\d{{3}})+\.\d+|(?:,\d{{3}}){{2,}})", re.ASCII)
_SPACE_GROUPS = re.compile(rf"-?{_GROUP}(?: \d{{3}})+(?:[,.]\d+)?", re.ASCII)
_LOOSE = re.compile(r"-?(?:\.\d+|(?:0|[1-9]\d*)\.)(?:[eE][+-]?\d+)?", re.ASCII)
_NON_FINITE = re.compile(r"[-+]?(?:nan|inf|infinity)", re.IGNORECASE)
_OPEN_ENDED = re.compile(rf"[-+]?(?:\d+|{_GROUP}(?:\.\d{{3}})+|{_GROUP}(?:,\d{{3}})+|{_GROUP}(?: \d{{3}})+)", re.ASCII)
_RUN = re.compile(r"[-+]?\d[\d.]*+(?:[,;\s]++[-+]?\d[\d.]*+)++", re.ASCII)


def read_number(token: str) -> tuple[object, str | None]:
    """The number a bare token stands for and the repair it took; (`NOT_A_NUMBER`, None) for anything else.

    >>> read_number("4,5"), read_number("1.234,56"), read_number("1.234")
    ((4.5, 'decimal_comma'), (1234.56, 'digit_grouping'), (1.234, None))
    >>> read_number("50%")[0] is NOT_A_NUMBER
    True
    """
    if _INTEGER.fullmatch(token):
        return _finite(finite_integer(token), None)
    if _FLOAT.fullmatch(token):
        return _finite(finite_float(token), None)
    if _DECIMAL_COMMA.fullmatch(token):
        return _finite(finite_float(token.replace(",", ".")), "decimal_comma")
    if _NON_FINITE.fullmatch(token):
        return None, "non_finite"
    plain = token.translate(_ASCII)
    if plain.startswith(("-", "+")):
        plain = _SPACED_SIGN.sub(r"\1", plain, count=1)
    unsigned = plain.removeprefix("+")
    if plain != token or unsigned != plain:
        value, repair = (NOT_A_NUMBER, None) if unsigned[:1] in "+-" and unsigned != plain else read_number(unsigned)
        return value, (repair or "number_format") if value is not NOT_A_NUMBER else None
    return _grouped_number(token)


def _grouped_number(token: str) -> tuple[object, str | None]:
    if _POINT_GROUPS.fullmatch(token):
        return _finite(_number(token.replace(".", "").replace(",", ".")), "digit_grouping")
    if _COMMA_GROUPS.fullmatch(token):
        return _finite(_number(token.replace(",", "")), "digit_grouping")
    if _SPACE_GROUPS.fullmatch(token):
        return _finite(_number(token.replace(" ", "").replace(",", ".")), "digit_grouping")
    if _LOOSE.fullmatch(token):
        return _finite(finite_float(token), "number_format")
    return NOT_A_NUMBER, None


def _number(digits: str) -> float | None:
    return finite_float(digits) if "." in digits else finite_integer(digits)


def _finite(number: float | None, repair: str | None) -> tuple[object, str | None]:
    return (None, "non_finite") if number is None else (number, repair)


def goes_on_after_comma(token: str) -> bool:
    """Whether a comma right after `token` may be the middle of a longer number: true of `4` and `1.234`, not of `4.5`.

    >>> goes_on_after_comma("4"), goes_on_after_comma("4.5")
    (True, False)
    """
    return _OPEN_ENDED.fullmatch(token.translate(_ASCII)) is not None


def is_number_run(token: str) -> bool:
    """Whether `token` is several bare numbers where one value is allowed, such as `4, 5`."""
    return _RUN.fullmatch(token) is not None
