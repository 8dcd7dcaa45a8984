"""Reward of push: one notification of at most 120 characters, personal, with a call to action."""

from collections.abc import Mapping
from typing import Any

import regex

from helpers.core.text import graphemes
from helpers.rewards.base import Parser, Parts
from helpers.rewards.text.language import novelty_share, own_words_share, portuguese_share, prompt_words, stems
from helpers.rewards.text.numbers import Sources, WrittenNumber, numbers_in
from helpers.rewards.text.words import fold, synonyms, terms, vocabulary, words
from helpers.tasks import MAX_PUSH_CHARACTERS, user_text

WEIGHTS = {
    "v4.1": {"length": 0.40, "call_to_action": 0.25, "personal": 0.20, "no_formulas": 0.15},
    "v4.2": {"facts": 0.45, "length": 0.15, "call_to_action": 0.15, "language": 0.15, "no_formulas": 0.10},
}

ZERO_LENGTH = 200
FACTS_WANTED = 2
INVENTED = 0.25
"""What right facts are worth beside an invented one."""
IMPERSONAL = 0.4
"""What good form is worth in a notification that holds none of its context's facts."""

_AMOUNT_STEMS = stems("partir reais apenas somente custa preço valor à vista")

_ADDRESSING = regex.compile(r"\b(?:voces?|seus?|suas?)\b")
_CODE = regex.compile(r"\b(?=[A-Z0-9]*[A-Z]{2})(?=[A-Z0-9]*\d)[A-Z0-9]{4,20}\b")
# Code, tags, links and unfilled templates; an arrow, a heart `<3`, a bar or a `[Ver]` is typography.
_MARKUP = regex.compile(
    r"`[^`]+`|```|</?[a-z][\w-]*(?:\s[^<>]*)?/?>|<!--|\{[^{}]*\}|[{\[]\s*[\"']|\[[^\[\]]*\]\([^()]*\)|\[\w*_\w*\]"
    r"|\[(?:o |a |seu |sua )?(?:nome|cliente|produto|item|desconto|cupom|c[oó]digo|link|url|data|valor|pre[cç]o"
    r"|percentual|loja|marca|cidade|categoria|empresa|inserir|insira)\b[^\[\]]*\]",
    regex.IGNORECASE,
)
_HEART = regex.compile(r"<3+(?!\d|[.,]\d|\s?(?:%|dias?|horas?|h\b|reais|x\b|vezes))")
_COUNTED = regex.compile(
    r"[ \u00a0]{0,3}(?:(?P<money>reais)|(?P<minutes>min(?:utos?)?)|(?P<hours>h(?:s|oras?)?)|(?P<days>dias?)"
    r"|(?P<weeks>semanas?)|(?P<months>m[eê]s(?:es)?)|(?P<years>anos?))\b",
    regex.IGNORECASE,
)
_TOKEN = regex.compile(r"[^\W\d_]+|[^\w\s]|\n")
_GREETING = regex.compile(r"oi|ola|ei|hey|alo|parabens|querid[ao]|car[ao]|dia|tarde|noite|bem")
_COLOUR = regex.compile(
    r"azul|pret[ao]|branc[ao]|verde|amarel[ao]|vermelh[ao]|cinza|rox[ao]|lilas|bege|marrom|laranja|dourad[ao]|prata"
)
_PLACE_PREFIX = regex.compile(r"s[aã]o|santa|santo|san|dom|rua|avenida")


def length_share(characters: int) -> float:
    """0 for nothing, full to 120 characters, linear to 0 at 200.

    >>> [length_share(n) for n in (0, 1, 120, 160, 200, 500)]
    [0.0, 1.0, 1.0, 0.5, 0.0, 0.0]
    """
    if characters == 0:
        return 0.0
    return max(0.0, min(1.0, (ZERO_LENGTH - characters) / (ZERO_LENGTH - MAX_PUSH_CHARACTERS)))


def names_word_of(text: str, fact: object) -> bool:
    """Whether the text holds the first word of a name or product (`Smartwatch Fit` -> `smartwatch`), as a whole word.

    >>> names_word_of("Oi, ana! Seu tênis chegou.", "Ana Souza"), names_word_of("Banana em oferta", "Ana")
    (True, False)
    """
    first = words(str(fact))[:1]
    return bool(first) and first[0] in words(text)


def personal_share(text: str, context: Mapping[str, Any]) -> float:
    """1 where the customer or the product is named, 0.5 where the reader is only addressed (`você`, `seu`, `sua`)."""
    if any(names_word_of(text, context[key]) for key in ("name", "product") if context.get(key)):
        return 1.0
    return 0.5 if _ADDRESSING.search(fold(text)) else 0.0


def form(text: str, record: Mapping[str, Any], parser: Parser) -> Parts:
    """v4.1: length, a call to action, a personal word, no letter formulas. No fact is checked."""
    stripped = text.strip()
    return Parts(
        {
            "length": length_share(graphemes(stripped)),
            "call_to_action": float(bool(vocabulary("calls_to_action").found(stripped))),
            "personal": personal_share(stripped, record.get("meta", {}).get("context", {})),
            "no_formulas": float(bool(stripped) and not vocabulary("letter_formulas").found(stripped)),
        }
    )


def correctness(text: str, record: Mapping[str, Any], parser: Parser) -> Parts:
    """v4.2: facts of the context and no others, in Portuguese, at most 120 characters as a person counts them.

    Form counts fully only in a notification that holds its context's facts, and nothing counts in one that is not
    Portuguese, repeats itself, copies the prompt, holds markup or is longer than 200 characters.
    """
    stripped = text.strip()
    context = record["meta"]["context"]
    invented = invented_facts(stripped, record)
    facts = facts_share(stripped, context, record["reference"]["text"]) * (INVENTED if invented else 1.0)
    length = length_share(graphemes(stripped))
    language = portuguese_share(stripped)
    own_words = own_words_share(stripped, prompt_words(record))
    readable = (length > 0) * language * novelty_share(stripped) * own_words * (not _MARKUP.search(stripped))
    form_worth = readable * (IMPERSONAL + (1 - IMPERSONAL) * facts)
    shares = {
        "facts": readable * facts,
        "length": form_worth * length,
        "call_to_action": form_worth * bool(vocabulary("calls_to_action").found(stripped)),
        "language": form_worth * language,
        "no_formulas": form_worth * (not vocabulary("letter_formulas").found(stripped)),
    }
    return Parts(shares, tuple(f"invented_{kind}" for kind in invented))


def facts_share(text: str, context: Mapping[str, Any], reference: str) -> float:
    """How many of two facts the text holds, out of those that the reference chose to use; its product counts half.

    >>> facts_share("Ana, volte!", {"name": "Ana", "product": "tênis"}, "Ana, seu tênis está aqui. Volte!")
    0.5
    """
    useful = [fact for fact in context.values() if states(reference, fact)]
    if not useful:
        return 1.0
    stated = sum(states(text, fact) for fact in useful)
    if context.get("product") not in useful:
        return min(1.0, stated / min(FACTS_WANTED, len(useful)))
    product = states(text, context["product"])
    return (product + min(1.0, stated - product)) / 2 if len(useful) > 1 else float(product)


def states(text: str, fact: Any) -> bool:
    """Whether a text holds a fact: a number or an amount in any format, or half of the content words of a phrase.

    >>> states("Leve por R$ 59,90!", "a partir de 59,90"), states("Leve por R$ 59,90!", "69,90")
    (True, False)
    """
    if isinstance(fact, bool) or fact is None:
        return False
    if isinstance(fact, int | float):
        return any(Sources([fact]).hold(number) for number in numbers_in(text))
    wanted = stems(str(fact)) - _AMOUNT_STEMS
    numbers = numbers_in(str(fact))
    amounts = [
        number for number in numbers if not wanted or number.unit != "plain" or number.readings[0].tolerance < 0.5
    ]
    if amounts:
        return any(states(text, amount.values[0]) for amount in amounts)
    return bool(wanted) and len(wanted & stems(text)) * 2 >= len(wanted)


def invented_facts(text: str, record: Mapping[str, Any]) -> tuple[str, ...]:
    """The kinds of facts that a text states and its record does not hold: `name`, `number`, `code`, `offer`."""
    given = f"{user_text(record['prompt'])}\n{record['reference']['text']}"
    context = " ".join(str(value) for value in record["meta"]["context"].values())
    facts = f"{context}\n{record['reference']['text']}"
    given_words = set(words(facts))
    kinds = {
        "name": any(name not in given_words for name in names_used(text)),
        "number": _invents_number(_HEART.sub(" ", text), facts, given),
        "code": not set(_CODE.findall(text)) <= set(_CODE.findall(given)),
        "offer": not promises(text) <= promises(given),
    }
    return tuple(kind for kind, invented in kinds.items() if invented)


def promises(text: str) -> set[str]:
    """What a text promises, whatever the words for it.

    >>> sorted(promises("10% off e entrega grátis")) == sorted(promises("Frete grátis e 10% de desconto"))
    True
    """
    return {synonyms("offers")[term] for term in vocabulary("offers").found(text)}


def _invents_number(text: str, facts: str, given: str) -> bool:
    """Whether a number of the text is none of the facts', or has another unit than wherever the record writes it."""
    sources = Sources(value for number in numbers_in(facts) for value in number.values)
    written = [(Sources(number.values), _unit(number, given)) for number in numbers_in(given)]
    for number in numbers_in(text):
        units = {unit for source, unit in written if unit != "plain" and source.hold(number)}
        if not sources.hold(number) or (units and _unit(number, text) not in {*units, "plain"}):
            return True
    return False


def _unit(number: WrittenNumber, text: str) -> str:
    counted = _COUNTED.match(text, number.end)
    return str(counted.lastgroup) if counted and number.unit == "plain" else number.unit


def names_used(text: str) -> list[str]:
    """The first names that a text calls someone by, folded.

    Not those in a place's name (`São Paulo`, `Santa Catarina`). A name that is a word too (`rosa`, `clara`, `março`)
    is one where it is written as one: with a capital inside a sentence in lower case, or where a reader is spoken to.

    >>> names_used("Oi, Bruno! Bolsa rosa para São Paulo, só em março."), names_used("Rosa, volte! É a vez da Clara")
    (['bruno'], ['rosa', 'clara'])
    """
    tokens = [".", *_TOKEN.findall(text), ".", "."]
    capitals = sum(token[0].isupper() for token in tokens)
    in_capitals = 2 * capitals > sum(token[0].isalpha() for token in tokens)
    names = []
    for place, token in enumerate(tokens[1:-2], 1):
        name, before = fold(token), tokens[place - 1]
        if _PLACE_PREFIX.fullmatch(before.lower()):
            continue
        if name in terms("first_names") or (
            name in terms("word_names")
            and _is_written_as_name(token, before, tokens[place + 1 : place + 3], in_capitals)
        ):
            names.append(name)
    return names


def _is_written_as_name(token: str, before: str, after: list[str], in_capitals: bool) -> bool:
    if not token[0].isupper() or "ç" in token.lower():
        return False
    begins = before in ".!?:;\n"
    spoken_to = (begins and after[0] == ",") or (
        after[0] in ",.!?:;" and (before == "," or _GREETING.fullmatch(fold(before)) is not None)
    )
    if spoken_to:
        return not any(_COLOUR.fullmatch(fold(word)) for word in after)
    return not (begins or in_capitals or before[0].isupper())
