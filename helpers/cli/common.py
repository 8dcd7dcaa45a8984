"""What several verbs do alike: check what was typed, print a table, write results to `--out`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from helpers.core.errors import UserError, require_known
from helpers.core.files import write_text
from helpers.plots.style import save_png


def require_names(kind: str, names: str | Sequence[str] | None, valid: Sequence[str]) -> None:
    """Raise `UserError` listing the valid names unless every name typed is one of them; None is a flag left out."""
    for name in [names] if isinstance(names, str) else names or ():
        require_known(kind, name, tuple(valid))


def require_positive(flag: str, value: float, unit: str) -> None:
    """Raise `UserError` unless `value` is above 0.

    >>> require_positive("--orders", 0, "order")
    Traceback (most recent call last):
        ...
    helpers.core.errors.UserError: --orders 0: at least 1 order
    """
    if value <= 0:
        raise UserError(f"{flag} {value:g}: {'at least 1' if isinstance(value, int) else 'more than 0'} {unit}")


def require_seed(seed: int) -> None:
    """Raise `UserError` unless every random generator takes `seed`: NumPy's take 32 bits without a sign.

    >>> require_seed(-1)
    Traceback (most recent call last):
        ...
    helpers.core.errors.UserError: --seed -1: a whole number from 0 to 4294967295
    """
    if not 0 <= seed < 2**32:
        raise UserError(f"--seed {seed}: a whole number from 0 to {2**32 - 1}")


def print_frame(title: str, frame: pd.DataFrame) -> None:
    """Print a table under its title: the index on the left, the columns right-aligned."""
    table = Table(title=escape(title), title_justify="left")
    for name in frame.index.names:
        table.add_column(str(name or ""))
    for name in frame.columns:
        table.add_column(str(name), justify="right")
    for row in frame.reset_index().itertuples(index=False):
        table.add_row(*map(str, row))
    Console().print(table)


def write_results(folder: Path, name: str, frame: pd.DataFrame, figures: Mapping[str, Figure]) -> None:
    """Write `<name>.csv` and one PNG per figure to `folder`, and say so."""
    write_text(folder / f"{name}.csv", frame.to_csv(index=False))
    for title, figure in figures.items():
        save_png(figure, folder / f"{title}.png")
    print(f"wrote {name}.csv and {len(figures)} figures to {folder}")


def put_between_markers(text: str, name: str, part: str) -> str:
    """`text` with what stands between the markers of `name` replaced; `UserError` where a marker is missing.

    >>> put_between_markers("<!-- n -->\\nold\\n<!-- /n -->", "n", "new")
    '<!-- n -->\\nnew\\n<!-- /n -->'
    """
    before, opening, rest = text.partition(f"<!-- {name} -->\n")
    _, closing_mark, after = rest.partition(f"<!-- /{name} -->")
    if not opening or not closing_mark:
        raise UserError(
            f"the page has lost its markers <!-- {name} --> and <!-- /{name} -->: put them back, then renew it"
        )
    return f"{before}{opening}{part}\n{closing_mark}{after}"
