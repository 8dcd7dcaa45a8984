"""The nine Olist CSV files, real or simulated, to tables; what is wrong in them is told with file and line.

Columns may come in any order, with more beside them; a BOM, CRLF line ends and line breaks inside quoted reviews are
read as Olist writes them.
"""

import csv
import itertools
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from helpers.core.errors import UserError
from helpers.core.files import replacing
from helpers.tasks.shop.schema import ALL_TABLES, REVIEW_LABELS, TABLES, Table

_TIMESTAMP = re.compile(r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01]) ([01]\d|2[0-3]):[0-5]\d:[0-5]\d")
_EXPECTED = {"integer": "a whole number", "real": "a number", "timestamp": "a moment as YYYY-MM-DD HH:MM:SS"}


def read_csv_folder(folder: Path) -> dict[str, pd.DataFrame]:
    """The nine tables of an Olist folder, and `review_labels` where the folder has that file.

    Raises `UserError` naming all files that are missing, or the file and line of the first thing wrong.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; it should hold the nine Olist CSV files")
    missing = [table.file for table in TABLES if not (folder / table.file).is_file()]
    if missing:
        raise UserError(f"{folder}: {len(missing)} of the nine Olist files are missing: {', '.join(missing)}")
    tables = {table.name: read_table(folder / table.file, table) for table in TABLES}
    if (folder / REVIEW_LABELS.file).is_file():
        tables[REVIEW_LABELS.name] = read_table(folder / REVIEW_LABELS.file, REVIEW_LABELS)
    for table in ALL_TABLES:
        if table.name in tables:
            _check_keys(folder, table, tables)
    return tables


def write_csv_folder(tables: dict[str, pd.DataFrame], folder: Path) -> None:
    """Write each table to its Olist file in `folder`, in Olist's column order (the translations with their BOM)."""
    for table in ALL_TABLES:
        encoding = "utf-8-sig" if table.name == "product_category_name_translation" else "utf-8"
        with replacing(folder / table.file) as temporary:
            frame = tables[table.name][list(table.columns)]
            frame.to_csv(temporary, index=False, encoding=encoding, lineterminator="\n")


def read_table(path: Path, table: Table) -> pd.DataFrame:
    """One CSV file as a table: text, whole numbers, numbers and moments checked, empty cells None where allowed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # a first row with more cells than the header
            frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", index_col=False)
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise UserError(f"{path}, line {line}: not UTF-8; save the file as UTF-8") from error
    except (pd.errors.ParserError, pd.errors.ParserWarning, pd.errors.EmptyDataError) as error:
        raise UserError(f"{path}: not a readable CSV file ({' '.join(str(error).split())})") from error
    absent = [name for name in table.columns if name not in frame.columns]
    if absent:
        raise UserError(f"{path}, line 1: column {', '.join(absent)} missing; found: {', '.join(frame.columns)}")
    columns = {name: _convert(path, table, name, frame[name].to_numpy(dtype=object)) for name in table.columns}
    return pd.DataFrame(columns)


def _check_keys(folder: Path, table: Table, tables: dict[str, pd.DataFrame]) -> None:
    """Raise `UserError` for the first row whose key was there before, or that refers to a row that is not."""
    frame, path = tables[table.name], folder / table.file
    if table.key:
        repeated = np.flatnonzero(frame.duplicated(list(table.key)))
        if len(repeated):
            raise _bad_cell(path, int(repeated[0]), " + ".join(table.key), "a row with the same key came before")
    for column, target in table.references.items():
        lost = np.flatnonzero(~frame[column].isin(tables[target][column]))
        if len(lost):
            value = frame[column].iat[lost[0]]
            file = next(table.file for table in TABLES if table.name == target)
            raise _bad_cell(path, int(lost[0]), column, f"{value!r} is not in {file}")


def _convert(path: Path, table: Table, name: str, cells: np.ndarray) -> np.ndarray:
    """A column's cells in their kind; the first cell that is not of it raises `UserError`."""
    kind = table.columns[name]
    empty = cells == ""
    if empty.any() and name not in table.nullable:
        raise _bad_cell(path, int(np.flatnonzero(empty)[0]), name, "empty, and may not be")
    try:
        values = _READERS[kind](cells[~empty])
    except ValueError as error:
        row = next(row for row in np.flatnonzero(~empty) if not _readable(kind, cells[row]))
        raise _bad_cell(path, int(row), name, f"{cells[row][:40]!r} is not {_EXPECTED[kind]}") from error
    if not empty.any():
        return values
    column = np.full(len(cells), None, dtype=object)
    column[~empty] = values
    return column


def _whole(cells: np.ndarray) -> np.ndarray:
    """Whole numbers; `True`/`False` as pandas writes flags, and `12.0` as it writes numbers of a column with gaps."""
    numbers = np.array([{"True": "1", "False": "0"}.get(cell, cell) for cell in cells], dtype=object).astype(float)
    if not np.array_equal(numbers, np.floor(numbers)):
        raise ValueError("a fraction where a whole number is expected")
    return numbers.astype(int)


def _real(cells: np.ndarray) -> np.ndarray:
    numbers = cells.astype(float)
    if not np.isfinite(numbers).all():
        raise ValueError("not a finite number")
    return numbers


def _moments(cells: np.ndarray) -> np.ndarray:
    if not all(_TIMESTAMP.fullmatch(cell) for cell in cells):
        raise ValueError("not a moment")
    return cells


_READERS: dict[str, Callable[[np.ndarray], Any]] = {
    "text": lambda cells: cells,
    "integer": _whole,
    "real": _real,
    "timestamp": _moments,
}


def _readable(kind: str, cell: str) -> bool:
    try:
        _READERS[kind](np.array([cell], dtype=object))
    except ValueError:
        return False
    return True


def _bad_cell(path: Path, row: int, column: str, problem: str) -> UserError:
    return UserError(f"{path}, line {_line_of_row(path, row)}: column {column}: {problem}")


def _line_of_row(path: Path, row: int) -> int:
    """The line on which data row `row` (from 0) ends; quoted cells may span lines, so rows are counted by reading."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        filled = (cells for cells in reader if cells)
        next(itertools.islice(filled, row + 1, None), None)  # the header is the first of them
        return reader.line_num
