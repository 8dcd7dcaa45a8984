"""Probes of push: the notification in other dress, with an invented fact, generic, or not a notification."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from helpers.core.text import graphemes, without_accents
from helpers.rewards.probes.base import Probe
from helpers.rewards.push import states
from helpers.tasks import MAX_PUSH_CHARACTERS, user_text

_SYNONYMS = (
    ("Aproveite", "Confira"),
    ("Confira", "Veja"),
    ("Garanta", "Compre"),
    ("Volte", "Venha"),
    ("Finalize", "Conclua"),
    ("desconto", "desconto hoje"),
)
_PROMISES = (
    ("% de desconto", "% off"),
    ("% off", "% de desconto"),
    ("Frete grátis", "Entrega grátis"),
    ("frete grátis", "entrega gratuita"),
    ("ntrega grátis", "ntrega gratuita"),
)


def probes(record: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> list[Probe]:
    """Everything tried on one customer context."""
    text = record["reference"]["text"]
    return [
        Probe("reference", "reference", text),
        *(Probe(name, "harmless", probe) for name, probe in _harmless(text)),
        *(Probe(name, "wrong_fact", probe) for name, probe in _wrong(record, records) if probe != text),
        Probe("name alone", "partial", str(record["meta"]["context"].get("name", "Cliente"))),
        *_other(record, records),
        *(Probe(name, "lazy", probe) for name, probe in _lazy(record).items()),
        *(Probe(name, "cheat", probe) for name, probe in _cheats(record).items()),
        Probe("words in alphabetical order", "limit", " ".join(sorted(text.split()))),
    ]


def _harmless(text: str) -> Iterator[tuple[str, str]]:
    variants = {
        "an emoji": f"{text} 🎉",
        "an emoji of several code points": f"{text} 👩🏽‍💻",
        "extra spaces": f"  {text.replace(' ', '  ')}  ",
        "line break": text.replace("! ", "!\n", 1),
        "space before percent": text.replace("%", " %"),
        "in quotes": f'"{text}"',
        "an arrow to a button": f"{text} -> [Ver]",
        "chevrons": f">> {text}",
        "a bar": f"{text} | App",
        "a heart": f"{text} <3",
        "a month and a colour": f"{text} Só em março, em rosa!",
        "no final mark": text.rstrip("!."),
        "capitals": text.upper(),
        "no accents": without_accents(text),
        "reworded": _reworded(text),
        "the promise in other words": _promised(text),
    }
    yield from ((name, probe) for name, probe in variants.items() if graphemes(probe) <= MAX_PUSH_CHARACTERS)


def _reworded(text: str) -> str:
    for word, other in _SYNONYMS:
        if word in text:
            return text.replace(word, other, 1)
    return f"{text.rstrip('!.')} agora mesmo!"


def _promised(text: str) -> str:
    return next((text.replace(words, others) for words, others in _PROMISES if words in text), text)


def _wrong(record: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    text, context = record["reference"]["text"], record["meta"]["context"]
    yield "invented coupon", f"{text} Cupom VOLTA99"
    yield "invented discount", f"{text} 77% off"
    yield "another unit", re.sub(r"(\d+)%", r"R$ \1", text, count=1)
    yield "another number", re.sub(r"\d+", lambda match: str(int(match[0]) + 37), text, count=1)
    for key in ("name", "product"):
        mine, other = str(context.get(key) or ""), _another(key, context, records)
        if other and mine and mine in text:
            yield f"another {key}", text.replace(mine, other)


def _another(key: str, context: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> str | None:
    values = (other["meta"]["context"].get(key) for other in records)
    return next((value for value in values if value and not states(str(context.get(key, "")), value)), None)


def _other(record: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> list[Probe]:
    """A good notification for someone else: none of its facts are this customer's."""
    prompt = user_text(record["prompt"])
    for other in records:
        theirs = other["meta"]["context"].values()
        text = other["reference"]["text"]
        if not any(states(prompt, fact) for fact in theirs if states(text, fact)):
            return [Probe("another record's reference", "other_record", text)]
    return []


def _lazy(record: Mapping[str, Any]) -> dict[str, str]:
    return {
        "generic offer": "Aproveite as nossas ofertas de hoje e confira tudo no app!",
        "generic and personal": "Você não pode perder: suas ofertas estão no app. Confira!",
        "only the call": "Aproveite agora!",
        "in English": _in_english(record),
        "in Spanish": _in_spanish(record),
    }


def _in_english(record: Mapping[str, Any]) -> str:
    context = record["meta"]["context"]
    return f"{context.get('name', 'Hi')}, this is your {context.get('product', 'offer')} and it is for you. Get it now!"


def _in_spanish(record: Mapping[str, Any]) -> str:
    context = record["meta"]["context"]
    name, product = context.get("name", "Hola"), context.get("product", "regalo")
    return f"{name}, el {product} es tuyo y ya está en tu cesta. Míralo hoy!"


def _cheats(record: Mapping[str, Any]) -> dict[str, str]:
    text = record["reference"]["text"]
    letter = f"Prezado cliente, vimos por meio desta informar a nossa promoção. {text} Atenciosamente, a equipe."
    return {
        "a letter": f"{letter} Sem mais para o momento, subscrevemo-nos e desejamos a você um ótimo dia de compras.",
        "calls to action in a row": "Aproveite Confira Compre Garanta Clique Veja Volte Use Resgate Ganhe",
        "ten notifications": "\n".join([text] * 10),
        "the same words again and again": "Aproveite agora! " * 7,
        "context as JSON": str(dict(record["meta"]["context"])) * 3,
    }
