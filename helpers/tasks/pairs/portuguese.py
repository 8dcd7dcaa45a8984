"""Brazilian Portuguese forms: numbers, money, months, states with their prepositions, category names."""

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

TEXT_DIR = Path(__file__).resolve().parent / "text"


@cache
def load_text(name: str) -> dict[str, Any]:
    """The fragments of `text/<name>.toml`."""
    return tomllib.loads((TEXT_DIR / f"{name}.toml").read_text(encoding="utf-8"))


def number(value: float, decimals: int = 0) -> str:
    """A number in Brazilian notation.

    >>> number(1234.5, 1)
    '1.234,5'
    """
    return f"{value:,.{decimals}f}".translate(str.maketrans(",.", ".,"))


def month_name(month: str) -> str:
    """The month of `YYYY-MM` in words.

    >>> month_name("2017-11")
    'novembro de 2017'
    """
    year, position = month.split("-")
    return f"{load_text('portuguese')['months'][int(position) - 1]} de {year}"


def state_name(state: str) -> str:
    """The state's name: `RJ` -> `Rio de Janeiro`."""
    return load_text("portuguese")["states"][state][0]


def state_subject(state: str) -> str:
    """The state with its article, as a subject: `o Rio de Janeiro`, `a Bahia`, `São Paulo`."""
    name, article = load_text("portuguese")["states"][state]
    return f"{article} {name}".strip()


def of_state(state: str) -> str:
    """The state after "de".

    >>> of_state("RJ"), of_state("SP"), of_state("BA")
    ('do Rio de Janeiro', 'de São Paulo', 'da Bahia')
    """
    name, article = load_text("portuguese")["states"][state]
    return f"d{article or 'e'} {name}"


def in_state(state: str) -> str:
    """The state after "em".

    >>> in_state("RJ"), in_state("SP"), in_state("BA")
    ('no Rio de Janeiro', 'em São Paulo', 'na Bahia')
    """
    name, article = load_text("portuguese")["states"][state]
    return f"n{article} {name}" if article else f"em {name}"


def category_name(category: str) -> str:
    """A category as people say it; one without a name of its own loses its underscores.

    >>> category_name("cama_mesa_banho")
    'cama, mesa e banho'
    """
    return load_text("portuguese")["categories"].get(category, category.replace("_", " "))


def city_name(city: str) -> str | None:
    """A city as it is written in Portuguese; None where Olist's spelling, without accents, does not tell.

    >>> city_name("sao paulo"), city_name("recife"), city_name("jau")
    ('São Paulo', 'Recife', None)
    """
    cities = load_text("portuguese")["cities"]
    return city.title() if city in cities["plain"] else cities.get(city)


def payment_name(payment: str) -> str:
    """A payment type in words: `credit_card` -> `cartão de crédito`."""
    return load_text("portuguese")["payments"].get(payment, payment.replace("_", " "))


def status_name(status: str) -> str:
    """An order status as a plural participle: `canceled` -> `cancelados`."""
    return load_text("portuguese")["statuses"].get(status, status)
