"""Labels for real reviews, which nobody labelled: only where score, order and words agree."""

import difflib
import re
from collections.abc import Iterable
from functools import cache
from typing import Any

from helpers.core.text import without_accents
from helpers.tasks.pairs.portuguese import load_text
from helpers.tasks.shop.reviews import Meaning, label

MAX_WORDS = 40  # a longer complaint tells more than its rule can be sure of
NEARLY = 0.85  # difflib's ratio from which a word is read as another's typo
_WORDS = re.compile(r"[a-z]+|\d+|[.,;!?👎😡😠😤😞🤬🙄💩😒]")


def label_by_rule(message: str, score: int, status: str, delay_days: float | None) -> dict[str, Any] | None:
    """The ten fields of a review that nobody labelled, or None where they are not certain.

    Certain are a happy customer (score 4-5, delivered in time, praise and no word of doubt), and an unhappy one (1-2)
    whose words name one complaint, and no second, that the order does not contradict.
    """
    text = normal(message)
    sure = _without(text, _patterns("harmless"))
    complaints = _complaints(sure)
    if score >= 4:
        in_time = delay_days is not None and delay_days <= 0
        if not in_time or complaints or _matches(sure, _patterns("doubt")) or not _matches(text, _patterns("praise")):
            return None
        return _fields("none", None, score, message, text)
    if score == 3 or len(text.split()) > MAX_WORDS or _matches(text, _patterns("unsure")):
        return None
    contact = complaints.get("customer_service") == load_text("labels")["contact"]["summary"]
    main = [issue for issue in complaints if issue != "customer_service" or not contact] or list(complaints)
    others = _hints(sure) - {*main, *(["customer_service"] if contact else [])}
    if len(main) != 1 or others or not _agrees(main[0], status, delay_days, sure):
        return None
    return _fields(main[0], complaints[main[0]], score, message, text, contact)


def normal(message: str) -> str:
    """A message as the patterns read it: no accents or capitals, abbreviations and typos mended, marks set apart.

    >>> normal("N recebi, o prodto veio QUEBRADO!!!")
    'nao recebi , o produto veio quebrado !'
    """
    plain = re.sub(r"(.)\1{2,}", r"\1", without_accents(message.lower()))
    short = load_text("labels")["short"]
    return " ".join(short.get(word) or _mended(word) for word in _WORDS.findall(plain))


def _agrees(issue: str, status: str, delay_days: float | None, text: str) -> bool:
    """Whether what became of the order bears the complaint out, and nothing in the text leads past it."""
    if issue == "late_delivery":
        return delay_days is not None and delay_days > 0
    if issue == "not_delivered":
        return delay_days is None and status != "delivered"
    if issue == "customer_service":  # seldom the whole story of who tells more than that
        said = [pattern for cause in load_text("labels")["issue"][issue]["causes"] for pattern in cause["say"]]
        more = re.search(load_text("labels")["contact"]["more"], _without(text, said))
        return delay_days is not None and delay_days <= 0 and not more
    return issue == "payment_refund" or delay_days is not None


def _fields(
    issue: str, summary: str | None, score: int, message: str, text: str, contact: bool = False
) -> dict[str, Any]:
    """The fields by the simulated shop's rules, from the complaint and what else the words say; the stars as given."""
    effects = {name for name, pattern in load_text("labels")["effect"].items() if re.search(pattern, text)}
    effects |= {f"issue:{issue}", *(["contact"] if contact else [])}
    meaning = Meaning(score, "o produto", 0, issue=issue, cause={"summary": summary})
    fields = label(meaning, effects, loud="!" in message or message.isupper())
    return {**fields, "sentiment_score": float(score)}


def _complaints(text: str) -> dict[str, str]:
    """The complaints that the text states, each with its cause in a few words."""
    stated = {}
    for issue, entry in load_text("labels")["issue"].items():
        for cause in entry["causes"]:
            if issue not in stated and _matches(text, cause["say"]):
                stated[issue] = cause["summary"]
    return stated


def _hints(text: str) -> set[str]:
    """The complaints of which the text has a word, stated or not."""
    return {issue for issue, entry in load_text("labels")["issue"].items() if _matches(text, entry["hint"])}


def _patterns(name: str) -> list[str]:
    return load_text("labels")[name]["say"]


def _matches(text: str, patterns: Iterable[str]) -> bool:
    return any(re.search(pattern, text) for pattern in patterns)


def _without(text: str, patterns: Iterable[str]) -> str:
    for pattern in patterns:
        text = re.sub(pattern, " ", text)
    return text


@cache
def _mended(word: str) -> str:
    """The word, or the known word of which it is nearly certainly a typo."""
    words = load_text("labels")["typos"]["words"].split()
    if len(word) < 6 or word in words:
        return word
    near = difflib.get_close_matches(word, [other for other in words if other[0] == word[0]], 1, NEARLY)
    return near[0] if near else word
