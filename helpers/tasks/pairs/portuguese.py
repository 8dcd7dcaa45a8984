"""Brazilian Portuguese forms: numbers, money, months, states with their prepositions, category names."""

import tomllib
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

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


class StateForms(NamedTuple):
    """A state's name, alone, as a subject, after "de" and after "em"."""

    name: str
    subject: str
    of: str
    within: str


def state_forms(state: str) -> StateForms:
    """The forms of a state's name, which is used with an article or without.

    >>> state_forms("RJ")
    StateForms(name='Rio de Janeiro', subject='o Rio de Janeiro', of='do Rio de Janeiro', within='no Rio de Janeiro')
    >>> state_forms("SP")
    StateForms(name='São Paulo', subject='São Paulo', of='de São Paulo', within='em São Paulo')
    """
    name, article = load_text("portuguese")["states"][state]
    if not article:
        return StateForms(name, name, f"de {name}", f"em {name}")
    return StateForms(name, f"{article} {name}", f"d{article} {name}", f"n{article} {name}")


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
