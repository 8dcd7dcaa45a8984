"""Numbers as Brazilian text writes them, and whether each one has a source."""

import bisect
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

Unit = Literal["plain", "money", "percent", "times"]

_SCALES = {"mil": 1e3, "milhao": 1e6, "milhoes": 1e6, "mi": 1e6, "bilhao": 1e9, "bilhoes": 1e9, "bi": 1e9}
_DIGITS = r"\d{1,3}(?:\.\d{3})+(?:,\d+)?|\d{1,3}(?:,\d{3})+\.\d+|\d+[.,]\d+|\d+"
_NUMBER = re.compile(
    rf"(?<!\d)(?<!\d[.,])(?P<money>R\$[ \u00a0]{{0,3}})?(?P<digits>{_DIGITS})(?![\d])"
    r"(?:[ \u00a0]{0,3}(?P<scale>mil(?:h(?:ão|ao|ões|oes))?|bilh(?:ão|ao|ões|oes)|mi|bi)\b)?"
    r"(?:[ \u00a0]{0,3}(?:(?P<percent>%|por cento\b|p\.?p\.?\b|pontos? percentua(?:l|is)\b)|(?P<times>x\b|vezes\b)))?",
    re.IGNORECASE,
)
_LETTER = re.compile(r"[^\W\d]")
_ABOUT = re.compile(
    r"\b(?:(?P<above>(?:mais|acima) de)|(?P<below>menos de|abaixo de|quase)"
    r"|(?P<around>cerca de|por volta de|em torno de|aproximadamente))\s+\Z",
    re.IGNORECASE,
)
ABOUT_REACH = 24
"""Characters before a number in which `mais de` and the like stand."""
_AFTER_MARKER = re.compile(r"[ºª°]|[.)](?=\s|$)")
_BEFORE_MARKER = re.compile(r"(?:^|[\n.;:])[ \t#>*_\-(]*$")
MAX_DIGITS = 20
MAX_LIST_MARKER = 20
MARKER_REACH = 12
"""Characters before a number in which a line's or a sentence's start makes it a list marker."""


class Reading(NamedTuple):
    """A value that a written number may have, and half a unit of its last digit."""

    value: float
    tolerance: float


@dataclass(frozen=True)
class WrittenNumber:
    """A number found in text: what it may mean, in which unit, and where it stands."""

    readings: tuple[Reading, ...]
    unit: Unit
    start: int
    end: int

    @property
    def values(self) -> tuple[float, ...]:
        """The values it may have, the likeliest first."""
        return tuple(reading.value for reading in self.readings)


def numbers_in(text: str) -> list[WrittenNumber]:
    """Every number in a text, in order.

    List markers (`1.`, `2)`), ordinals (`3º`) and digits that a word ends in (`top10`) are not quantities; a unit makes
    one of those too (`até77%`).

    >>> [number.values for number in numbers_in("R$ 1.234,56; 12,5%; 3,4 mil; 4.28")]
    [(1234.56,), (12.5,), (3400.0,), (4.28,)]
    """
    matches = (match for match in _NUMBER.finditer(text) if not _is_marker(text, match))
    return [_written(match) for match in matches if not _ends_a_word(text, match)]


def approximate(number: WrittenNumber, text: str) -> WrittenNumber:
    """The number with what `mais de`, `quase`, `cerca de` before it in the text let it stand for too.

    That is a unit of its last digit that is not 0, up or down, or half of one either way.

    >>> text = "Mais de 300 pedidos"
    >>> [Sources([value]).hold(approximate(numbers_in(text)[0], text)) for value in (305, 295, 405)]
    [True, False, False]
    """
    about = _ABOUT.search(text[max(0, number.start - ABOUT_REACH) : number.start])
    if about is None:
        return number
    side = {"above": 0.5, "below": -0.5, "around": 0.0}[str(about.lastgroup)]
    units = [(reading.value, _last_unit(reading)) for reading in number.readings]
    wider = tuple(Reading(value + side * unit, unit / 2) for value, unit in units)
    return replace(number, readings=(*number.readings, *wider))


def _last_unit(reading: Reading) -> float:
    """What one of the number's last digit that is not 0 is worth: 100 in 300, 0.1 in 12.50."""
    unit = 2 * reading.tolerance
    digits = round(reading.value / unit)
    while digits and digits % 10 == 0:
        digits, unit = digits // 10, unit * 10
    return unit


def _ends_a_word(text: str, match: re.Match[str]) -> bool:
    has_unit = any(match[name] for name in ("money", "scale", "percent", "times"))
    return not has_unit and bool(_LETTER.match(text[match.start() - 1 : match.start()]))


def _is_marker(text: str, match: re.Match[str]) -> bool:
    digits = match["digits"]
    if len(digits) > MAX_DIGITS:
        return True
    if not digits.isdigit() or int(digits) > MAX_LIST_MARKER or match.end() != match.end("digits"):
        return False
    after = _AFTER_MARKER.match(text, match.end())
    before = text[max(0, match.start() - MARKER_REACH) : match.start()]
    return after is not None and (after[0] in "ºª°" or bool(_BEFORE_MARKER.search(before)))


def _written(match: re.Match[str]) -> WrittenNumber:
    digits = match["digits"]
    scale = _SCALES[_plain(match["scale"])] if match["scale"] else 1.0
    unit: Unit = (
        "percent" if match["percent"] else "times" if match["times"] else "money" if match["money"] else "plain"
    )
    readings = tuple(Reading(value * scale, 0.5 * 10.0**-decimals * scale) for value, decimals in _read(digits))
    return WrittenNumber(readings, unit, match.start(), match.end())


def _plain(scale: str) -> str:
    return scale.lower().replace("ã", "a").replace("õ", "o")


def _read(digits: str) -> list[tuple[float, int]]:
    """The values a run of digits may have, each with its decimals; `1.234` is 1234, or 1.234 as SQL prints it."""
    if "," in digits and ("." not in digits or digits.rindex(",") > digits.rindex(".")):
        whole, _, fraction = digits.replace(".", "").partition(",")
        return [(float(f"{whole}.{fraction}"), len(fraction))]
    if "," in digits:
        return [(float(digits.replace(",", "")), len(digits.rpartition(".")[2]))]
    pointed = (float(digits), len(digits.partition(".")[2])) if digits.count(".") <= 1 else None
    if re.fullmatch(r"\d{1,3}(?:\.\d{3})+", digits):
        grouped = (float(digits.replace(".", "")), 0)
        return [grouped, pointed] if pointed else [grouped]
    return [pointed] if pointed else []


class Sources:
    """Values that a text may cite; a written number has a source where it rounds to one of them.

    >>> Sources([42.4, 0.082]).hold(numbers_in("42%")[0]), Sources([42.4]).hold(numbers_in("43")[0])
    (True, False)
    """

    def __init__(self, values: Iterable[float]) -> None:
        """Signs do not count: text says `queda de 3%` for -3 %."""
        self._values = sorted(abs(value) for value in values if math.isfinite(value))

    def hold(self, number: WrittenNumber) -> bool:
        """Whether one of the number's values lies within its tolerance of a source; 8,2% also reads 0.082."""
        readings = list(number.readings)
        if number.unit == "percent":
            readings += [Reading(value / 100, tolerance / 100) for value, tolerance in readings]
        return any(self._near(value, tolerance) for value, tolerance in readings)

    def _near(self, value: float, tolerance: float) -> bool:
        slack = tolerance * (1 + 1e-6) + 1e-9 * abs(value)
        index = bisect.bisect_left(self._values, value - slack)
        return index < len(self._values) and self._values[index] <= value + slack
