"""Table readings: small tables of figures drawn by chance, read aloud row by row. They teach a policy to copy figures.

An analysis cites three or four figures of a table among a hundred other words, which a small policy takes to be noise.
A reading is little else than figures, each next to its row's and its column's name.
"""

import random
import re

from helpers.tasks import user_text
from helpers.tasks.pairs.insights import markdown_of_cells
from helpers.tasks.records import Rows

REQUEST = "Leia a tabela."


def table_readings(records: Rows, count: int, rng: random.Random) -> list[tuple[str, str]]:
    """So many readings of the `records`' tables (insights), short tables first, as user's text and answer."""
    readings = [_reading(user_text(rng.choice(records)["prompt"]), rng) for _ in range(count)]
    return sorted(readings, key=lambda reading: len(reading[1]))


def _reading(asked: str, rng: random.Random) -> tuple[str, str]:
    """Some rows and columns of the table that a text ends in, in any order, with other figures."""
    _, _, first, _, *others = asked.split("\n")
    columns, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in (first, *others)]
    rows = rng.sample(rows, rng.randint(1, len(rows)))
    shown = [0, *rng.sample(range(1, len(columns)), rng.randint(1, len(columns) - 1))]
    rows = [[row[0], *(_other_figure(row[place], rng) for place in shown[1:])] for row in rows]
    header = [columns[place] for place in shown]
    text = f"{REQUEST}\n{markdown_of_cells(header, rows)}"
    return text, "\n".join(_read_aloud(header, row, rng) for row in rng.sample(rows, len(rows)))


def _read_aloud(header: list[str], row: list[str], rng: random.Random) -> str:
    """A row's name and, in any order, its figures with their columns' names: `Bahia: Pedidos 120, Nota média 4,1.`."""
    pairs = [f"{column} {figure}" for column, figure in zip(header[1:], row[1:], strict=True)]
    return f"{row[0]}: " + ", ".join(rng.sample(pairs, len(pairs))) + "."


def _other_figure(figure: str, rng: random.Random) -> str:
    """Another figure of the same form.

    >>> _other_figure("1.234,5", random.Random(0))
    '7.604,8'
    """
    return str(rng.randint(1, 9)) + re.sub(r"\d", lambda _: str(rng.randint(0, 9)), figure[1:])
