"""Customers' reviews from a grammar of meanings. What a text means is decided first, so its ten labels are true.

A review is a few fragments (`text/reviews.toml`): the issue and its cause, praise, asides that each carry an effect
(a request makes it urgent, "nunca mais compro" means churn), an ironic opening, a recommendation. The labels follow
from the fragments that were written, never from a second look at the text. A style (capitals, no accents,
abbreviations, typos, emoji) is laid over the words and changes no meaning, save that shouting makes the tone strong.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

from helpers.core.text import without_accents
from helpers.tasks.shop.schema import load_toml

FRAGMENTS = load_toml("text/reviews")
PRODUCT_NOUNS: dict[str, list[str]] = load_toml("text/products")
"""What each category sells, each noun with its article."""

CEILING = 200
TARGET_MEDIAN = {1: 96, 2: 82, 3: 74, 4: 37, 5: 41}
TARGET_SIGMA = {1: 0.95, 2: 0.90, 3: 0.85, 4: 0.65, 5: 0.60}
EXCLAMATION_SHARE, CAPITALS_SHARE, EMOJI_SHARE = 0.135, 0.028, 0.03
STRONG_EFFECTS = frozenset({"never_again", "threat", "upset"})
LEAVING_EFFECTS = frozenset({"never_again", "threat", "not_recommend"})

DELIVERY_ISSUES = frozenset({"late_delivery", "not_delivered"})
PRODUCT_ISSUES = frozenset({"damaged_product", "wrong_product", "product_quality"})
SELLER_ISSUES = frozenset({"wrong_product", "customer_service", "payment_refund"})
NEEDS_ANSWER = frozenset({"not_delivered", "payment_refund"})  # someone waits for goods or money: urgent


class OrderFacts(NamedTuple):
    """What the customer's order was like: score 1-5, Olist status, days late (NaN where undelivered), category."""

    score: int
    status: str
    delay_days: float
    category: str | None


@dataclass
class Meaning:
    """What a review says."""

    score: int
    product: str  # what was bought, with its article
    days: int  # days late
    issue: str = "none"
    cause: dict[str, Any] = field(default_factory=dict)
    second: str = "none"  # a further issue
    mild: bool = False
    ironic: bool = False
    ending: str = "o"  # of "satisfeito": who writes
    named: bool = False  # whether the complaint names the product


class Clause(NamedTuple):
    """A fragment and what it does to the labels (`issue:<name>`, `praise`, or a key of `[aside]`)."""

    text: str
    effect: str


def sentiment_of(score: int) -> str:
    """The sentiment that a review's score stands for: 4-5 positive, 3 neutral, 1-2 negative."""
    return "positive" if score >= 4 else "neutral" if score == 3 else "negative"


def write_review(
    rng: random.Random, order: OrderFacts, with_title: bool, wordiness: float
) -> tuple[str | None, str, dict[str, Any]]:
    """Title, message and labels of a review; `wordiness` is in standard deviations of the length."""
    meaning = _draw_meaning(rng, order)
    target = min(CEILING, TARGET_MEDIAN[order.score] * math.exp(TARGET_SIGMA[order.score] * wordiness))
    clauses = _bare(rng, meaning, target) or _compose(rng, meaning, target)
    message, loud = _style(rng, _join(rng, clauses), meaning.score)
    title = _title(rng, meaning) if with_title else None
    return title, message, label(meaning, {clause.effect for clause in clauses}, loud)


def label(meaning: Meaning, effects: set[str], loud: bool) -> dict[str, Any]:
    """The ten fields of a review from its meaning and the effects of what was written (data/README.md tells the rules).

    >>> label(Meaning(5, "o produto", 0), {"praise", "recommend"}, loud=False)["churn_risk"]
    'low'
    """
    said = {effect.removeprefix("issue:") for effect in effects if effect.startswith("issue:")}
    issue = meaning.issue if meaning.issue in said else "none"
    strong = loud or bool(effects & STRONG_EFFECTS) or meaning.ironic
    complaint = None
    if issue != "none":  # the summary names the product only where the customer did
        named = meaning if meaning.named else replace(meaning, product="o produto")
        complaint = _fill(meaning.cause["summary"], named)
    return {
        "sentiment": sentiment_of(meaning.score),
        "sentiment_score": _sentiment_score(meaning.score, strong, "praise" in effects, issue != "none"),
        "complaint_category": issue,
        "churn_risk": _churn_risk(meaning.score, issue, effects, strong),
        "urgency": _urgency(meaning.score, issue, effects),
        "delivery_issue": bool(said & DELIVERY_ISSUES),
        "product_issue": bool(said & PRODUCT_ISSUES),
        "seller_issue": bool(said & SELLER_ISSUES) or "contact" in effects,
        "would_buy_again": _would_buy_again(meaning.score, issue, effects),
        "main_complaint": complaint,
    }


def _sentiment_score(score: int, strong: bool, praised: bool, complained: bool) -> float:
    """The score, moved a little by tone: up by praise in a bad review, down by a complaint in a good one."""
    if score >= 4:
        step = -0.4 if complained else 0.0 if strong else -0.2
        return round({5: 5.0, 4: 4.3}[score] + step, 1)
    if score == 3:
        return 3.3 if praised else 2.7 if complained else 3.0
    step = 0.0 if strong else 0.5 if praised else 0.2
    return round({2: 1.8, 1: 1.0}[score] + step, 1)


def _churn_risk(score: int, issue: str, effects: set[str], strong: bool) -> str:
    if effects & LEAVING_EFFECTS:
        return "high"
    if score >= 4:
        return "low"
    if score == 3:
        return "medium"
    return "high" if score == 1 or strong or issue in NEEDS_ANSWER else "medium"


def _urgency(score: int, issue: str, effects: set[str]) -> str:
    if effects & {"request", "threat"} or (issue in NEEDS_ANSWER and score <= 3):
        return "high"
    return "medium" if issue in NEEDS_ANSWER or (issue != "none" and score <= 3) else "low"


def _would_buy_again(score: int, issue: str, effects: set[str]) -> bool:
    if effects & LEAVING_EFFECTS:
        return False
    if effects & {"recommend", "maybe"}:
        return True
    return score >= 4 or (score == 3 and issue == "none")


def _draw_meaning(rng: random.Random, order: OrderFacts) -> Meaning:
    noun = rng.choice(PRODUCT_NOUNS.get(order.category or "", ["o produto"]))
    if rng.random() < 0.35:
        noun = "o produto"
    late = order.delay_days > 0
    days = max(1, math.ceil(order.delay_days)) if late else 0
    meaning = Meaning(order.score, noun, days, ending=rng.choice("ao"))
    meaning.issue = _draw_issue(rng, order)
    if meaning.issue == "none":
        return meaning
    meaning.mild = order.score >= 4 or (order.score == 3 and rng.random() < 0.6)
    causes = FRAGMENTS["issue"][meaning.issue]["causes"]
    if not 2 <= days <= 60:
        causes = [cause for cause in causes if "{dias}" not in cause["summary"]]
    meaning.cause = rng.choice(causes)
    meaning.ironic = order.score == 1 and rng.random() < 0.06
    if order.score <= 2 and late and meaning.issue != "late_delivery" and rng.random() < 0.3:
        meaning.second = "late_delivery"
    elif order.score <= 2 and meaning.issue == "late_delivery" and rng.random() < 0.12:
        meaning.second = rng.choice(("product_quality", "damaged_product", "wrong_product"))
    return meaning


def _draw_issue(rng: random.Random, order: OrderFacts) -> str:
    """The main complaint: what the order shows (late, undelivered) first, else the product or the seller."""
    delivered = order.status == "delivered"
    if not delivered:
        if order.status in ("canceled", "unavailable") and order.score <= 3 and rng.random() < 0.6:
            return "payment_refund"
        return "not_delivered" if order.score <= 4 or rng.random() < 0.5 else "none"
    late = order.delay_days > 0
    if late and rng.random() < {1: 0.8, 2: 0.8, 3: 0.75, 4: 0.5, 5: 0.3}[order.score]:
        return "late_delivery"
    if rng.random() < {1: 0.0, 2: 0.0, 3: 0.35, 4: 0.75, 5: 0.985}[order.score]:
        return "none"
    issues = ("product_quality", "wrong_product", "damaged_product", "customer_service", "payment_refund")
    shares = (60, 15, 10, 15, 0) if order.score >= 4 else (40, 24, 15, 13, 8)
    return rng.choices(issues, shares)[0]


def _bare(rng: random.Random, meaning: Meaning, target: float) -> list[Clause]:
    """A review that gives no reason, when it is to be short and the order gives nothing to complain about."""
    on_time = meaning.days == 0 and meaning.issue not in NEEDS_ANSWER
    limit = 16 if meaning.score >= 4 else 30
    if target > limit or not on_time or (meaning.issue != "none" and rng.random() < 0.5):
        return []
    text = _say(rng, FRAGMENTS["bare"][str(meaning.score)], meaning)
    effects = {"Recomendo": "recommend", "Super recomendo": "recommend"}
    effects |= {"Não recomendo": "not_recommend", "Não comprem": "not_recommend"}
    return [Clause(text, effects.get(text, "plain"))]


def _compose(rng: random.Random, meaning: Meaning, target: float) -> list[Clause]:
    """The core, then what else fits until the text is about `target` characters long."""
    core = _core(rng, meaning, target)
    length = sum(len(clause.text) + 2 for clause in core)
    for clause in _further(rng, meaning):
        longer = length + len(clause.text) + 2
        if clause not in core and abs(longer - target) < abs(length - target) and longer <= CEILING + 5:
            core.append(clause)
            length = longer
    return core


def _core(rng: random.Random, meaning: Meaning, target: float) -> list[Clause]:
    """What must be said: the issue, or praise; of three draws the one that fits the length best."""
    if meaning.issue == "none":
        kind = "faint" if meaning.score == 3 else "praise"
        drawn = [_praise(rng, meaning, kind) for _ in range(4)]
        if meaning.score <= 2:
            drawn = [Clause(_say(rng, FRAGMENTS["bare"][str(meaning.score)], meaning), "plain")]
        return [min(drawn, key=lambda clause: abs(len(clause.text) - target))]
    say = meaning.cause["mild"] if meaning.mild else meaning.cause["say"]
    template = min(rng.choices(say, k=3), key=lambda text: abs(len(_fill(text, meaning)) - target))
    meaning.named = "produto}" in template
    core = [Clause(_fill(template, meaning), f"issue:{meaning.issue}")]
    if meaning.ironic:
        core.insert(0, Clause(rng.choice(FRAGMENTS["irony"]["open"]), "irony"))
    if meaning.score >= 4:
        core.insert(0, _praise(rng, meaning, "praise"))
    return core


def _praise(rng: random.Random, meaning: Meaning, kind: str) -> Clause:
    """One praising fragment that contradicts neither the issue nor a late or missing delivery."""
    pools = dict(FRAGMENTS[kind])
    if meaning.days > 0 or meaning.issue in DELIVERY_ISSUES:
        pools.pop("delivery")
    if meaning.issue in PRODUCT_ISSUES or meaning.issue == "not_delivered":
        pools.pop("product")
        pools.pop("value", None)
    if meaning.issue in SELLER_ISSUES:
        pools.pop("seller")
    pool = rng.choice([name for name in pools for _ in range(2 if name == "product" else 1)])
    return Clause(_say(rng, pools[pool], meaning), "praise")


def _aside(rng: random.Random, meaning: Meaning, name: str) -> Clause:
    """One of the asides called `name`; who may send something back may also request an exchange."""
    pool = FRAGMENTS["aside"][name]
    if name == "request" and meaning.issue in PRODUCT_ISSUES:
        pool = pool + FRAGMENTS["aside"]["exchange"]
    return Clause(_say(rng, pool, meaning), name)


def _further(rng: random.Random, meaning: Meaning) -> list[Clause]:
    """Candidates beyond the core, in the order in which a customer would come to them."""
    aside = partial(_aside, rng, meaning)
    clauses: list[Clause] = []
    if meaning.second != "none":
        cause = rng.choice(FRAGMENTS["issue"][meaning.second]["causes"][1:])
        clauses.append(Clause(_say(rng, cause["say"], meaning), f"issue:{meaning.second}"))
    if meaning.score >= 4:
        clauses += [_praise(rng, meaning, "praise") for _ in range(3)]
        clauses += [aside("plain")] if rng.random() < 0.4 else []
        clauses.append(_praise(rng, meaning, "praise"))
        recommendation = aside("recommend")
        rng.shuffle(clauses)
        return [*clauses, recommendation] if rng.random() < 0.5 else [recommendation, *clauses]
    if meaning.score == 3:
        clauses += [_praise(rng, meaning, "faint")] if rng.random() < 0.7 else []
        clauses.append(aside("plain"))
        clauses += [aside("maybe")] if rng.random() < 0.5 else []
        return [*clauses, _praise(rng, meaning, "faint")]
    middle = [aside(name) for name in ("plain", "upset", "contact", "request", "upset")]
    rng.shuffle(middle)
    if rng.random() < 0.15:
        middle.insert(0, _praise(rng, meaning, "faint"))
    parting = rng.choice(("never_again", "not_recommend", "threat", "upset"))
    return [*clauses, *middle, aside(parting), aside("not_recommend")]


def _say(rng: random.Random, templates: Sequence[str], meaning: Meaning) -> str:
    return _fill(rng.choice(templates), meaning)


def _fill(template: str, meaning: Meaning) -> str:
    """A fragment with its slots filled; an article in front of the noun agrees with it."""
    article, noun = meaning.product.split(" ", 1)
    slots = {
        "o_produto": meaning.product,
        "do_produto": f"d{meaning.product}",
        "produto": noun,
        "Produto": noun[0].upper() + noun[1:],
        "o": article,
        "ele": "ela" if article == "a" else "ele",
        "dias": meaning.days,
        "g": meaning.ending,
    }
    return template.format(**slots)


def _title(rng: random.Random, meaning: Meaning) -> str:
    by_issue = meaning.issue != "none" and not meaning.mild and rng.random() < 0.6
    return _say(rng, FRAGMENTS["title"][meaning.issue if by_issue else str(meaning.score)], meaning)


def _join(rng: random.Random, clauses: Sequence[Clause]) -> str:
    """The fragments as sentences: a turn from praise to complaint takes "mas", the rest stops or commas."""
    text = clauses[0].text
    for before, clause in pairwise(clauses):
        turn = (before.effect == "praise") != (clause.effect == "praise")
        complains = clause.effect.startswith("issue:") or before.effect.startswith("issue:")
        if turn and complains and "mas " not in text:
            link = rng.choice((", mas ", " mas ", ". Só que ", ", porém "))
        else:
            calm = "praise" in clause.effect
            link = rng.choice((". ", ". ", ", ", ", ", "... ", "; ") if calm else (". ", ". ", ", "))
        piece = clause.text
        text += link + (piece[0].upper() + piece[1:] if link in (". ", "... ") else piece)
    return text[0].upper() + text[1:]


def _style(rng: random.Random, text: str, score: int) -> tuple[str, bool]:
    """The text in the customer's own hand, and whether it is loud ("!" or capitals)."""
    if rng.random() < 0.22:
        short = FRAGMENTS["style"]["short"]
        text = " ".join(short[word] if word in short and rng.random() < 0.8 else word for word in text.split(" "))
    if rng.random() < 0.28:
        text = without_accents(text)
    if rng.random() < 0.13:
        text = _typo(rng, text)
    if rng.random() < 0.22:
        text = text.lower()
    exclaimed = rng.random() < EXCLAMATION_SHARE
    text += rng.choice(("!", "!", "!!", "!!!")) if exclaimed else rng.choice((".", ".", "", "", ""))
    capitals = rng.random() < CAPITALS_SHARE
    if capitals:
        text = text.upper()
    if rng.random() < EMOJI_SHARE:
        text += " " + rng.choice(FRAGMENTS["style"]["emoji_bad" if score <= 2 else "emoji_good"])
    return text, exclaimed or capitals


def _typo(rng: random.Random, text: str) -> str:
    """One slip of the finger inside a longer word: a letter lost, doubled, or swapped with the next."""
    places = [at for at in range(1, len(text) - 2) if text[at - 1 : at + 3].isalpha()]
    if not places:
        return text
    at = rng.choice(places)
    kind = rng.randrange(3)
    slip = ("", text[at] * 2, text[at + 1] + text[at])[kind]
    return text[:at] + slip + text[at + (2 if kind == 2 else 1) :]
