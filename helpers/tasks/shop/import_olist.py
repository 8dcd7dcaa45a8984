"""The nine Olist CSV files, real or simulated, to tables: what is safe to mend is mended and reported, one line per
kind; anything else wrong is refused with file and line.

Columns may come in any order, with more beside them; a BOM, CRLF line ends and line breaks inside quoted reviews are
read as Olist writes them.
"""

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from helpers.core.errors import UserError
from helpers.core.files import replacing
from helpers.core.text import graphemes
from helpers.tasks.review import ENUM_VALUES, MAX_COMPLAINT_CHARACTERS, REVIEW_FIELDS, SCORE_RANGE
from helpers.tasks.shop.schema import ALL_TABLES, FACTS, REVIEW_LABELS, TABLES, Table

Report = Callable[[str], Any]

SEPARATORS = (",", ";", "\t")
STATUSES = ("approved", "canceled", "created", "delivered", "invoiced", "processing", "shipped", "unavailable")

_TIMESTAMP = re.compile(r"(19|20)\d\d-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01]) ([01]\d|2[0-3]):[0-5]\d:[0-5]\d")
_EXPECTED = {"integer": "a whole number", "real": "a number", "timestamp": "a moment as YYYY-MM-DD HH:MM:SS"}
_STATE_COLUMNS = ("customer_state", "seller_state", "geolocation_state")
_FREE_TEXT = ("review_comment_title", "review_comment_message", "main_complaint")
_NAMES = ("product_category_name", "payment_type")  # which pairs show in tables and code
_CASE: dict[str, Callable[[str], str]] = {
    **dict.fromkeys(_STATE_COLUMNS, str.upper),
    **dict.fromkeys(("order_status", "payment_type"), str.lower),
}
_CHOICES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(_STATE_COLUMNS, tuple(sorted(FACTS["cities"]))),
    "order_status": STATUSES,
    **ENUM_VALUES,
}
_COUNT, _MONEY = (0, 10**9), (0, 10**7)
_RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("price", "freight_value", "payment_value"), _MONEY),
    "geolocation_lat": (-90, 90),
    "geolocation_lng": (-180, 180),
    "sentiment_score": SCORE_RANGE,
    **{name: (0, 1) for name, kind in REVIEW_FIELDS.items() if kind == "bool"},
}


def read_csv_folder(folder: Path, report: Report = print) -> dict[str, pd.DataFrame]:
    """The nine tables of an Olist folder, and `review_labels` where the folder has that file.

    `report` is called with one line per kind of thing mended: the file, how many, and the first one's line.
    Raises `UserError` naming all files that are missing, or the file and line of the first thing wrong.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; it should hold the nine Olist CSV files")
    missing = [table.file for table in TABLES if not (folder / table.file).is_file()]
    if missing:
        raise UserError(f"{folder}: {len(missing)} of the nine Olist files are missing: {', '.join(missing)}")
    labels = [REVIEW_LABELS] if (folder / REVIEW_LABELS.file).is_file() else []
    chosen = [*TABLES, *labels]
    tables = {table.name: _read_table(folder / table.file, table, report) for table in chosen}
    for table in chosen:
        _check_keys(folder, table, tables)
    return {name: frame.reset_index(drop=True) for name, frame in tables.items()}


def write_csv_folder(tables: dict[str, pd.DataFrame], folder: Path) -> None:
    """Write each table to its Olist file in `folder`, in Olist's column order (the translations with their BOM)."""
    for table in ALL_TABLES:
        encoding = "utf-8-sig" if table.name == "product_category_name_translation" else "utf-8"
        with replacing(folder / table.file) as temporary:
            frame = tables[table.name][list(table.columns)]
            frame.to_csv(temporary, index=False, encoding=encoding, lineterminator="\n")


def _read_table(path: Path, table: Table, report: Report) -> pd.DataFrame:
    """One CSV file as a table whose index is the line on which each row begins."""
    cells = _read_cells(path, table, report)
    for name, kind in table.columns.items():
        mends: list[tuple[Callable[[str], str], str]] = []
        if name in _FREE_TEXT:
            mends.append((_blank_to_empty, "blank cell(s) of {} read as empty"))
        elif kind == "text":
            mends.append((_one_space, "cell(s) of {} freed of needless spaces"))
        if name in _CASE:
            mends.append((_CASE[name], "cell(s) of {} in the wrong case mended"))
        for mend, what in mends:
            values = cells[name].map({cell: mend(cell) for cell in cells[name].unique()})
            _tell(report, path, what.format(name), list(cells.index[values != cells[name]]))
            cells[name] = values
    frame = pd.DataFrame({name: _convert(path, table, cells[name]) for name in table.columns}, index=cells.index)
    if table.name == "order_reviews":
        wrong = ~frame["review_score"].between(*SCORE_RANGE)
        _tell(report, path, "review score(s) out of range (1 to 5) left out", list(frame.index[wrong]))
        return frame[~wrong]
    if table.name == "orders":
        early = frame["order_delivered_customer_date"].fillna("9999") < frame["order_purchase_timestamp"]
        _tell(report, path, "delivery date(s) before the purchase left empty", list(frame.index[early]))
        frame.loc[early, "order_delivered_customer_date"] = None
    return frame


def _tell(report: Report, path: Path, what: str, lines: Sequence[int]) -> None:
    """Report how many there are of what was mended, and the line of the first, where there is any."""
    if lines:
        plural = "s" if len(lines) > 1 else ""
        report(f"{path.name}: {len(lines):,} {what.replace('(s)', plural)}, first on line {lines[0]}")


def _blank_to_empty(cell: str) -> str:
    return cell if cell.strip() else ""


def _one_space(cell: str) -> str:
    return " ".join(cell.split())


def _read_cells(path: Path, table: Table, report: Report) -> pd.DataFrame:
    """The table's columns as text, as many rows as the file has."""
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UserError(f"{path}, line {line}: not UTF-8; save the file as UTF-8") from error
    if "\0" in text:
        lines = [number for number, row in enumerate(text.split("\n"), 1) for _ in range(row.count("\0"))]
        _tell(report, path, "NUL byte(s) left out", lines)
        text = text.replace("\0", "")
    separator, header = _header(path, table, text)
    if separator != ",":
        report(f"{path.name}: read with {separator!r} between its cells, in place of ','")
    begins, rows = [], []
    for line, cells in _rows(path, text, separator):
        if len(cells) != len(header):
            raise UserError(f"{path}, line {line}: cells in this row: {len(cells)}, in the header: {len(header)}")
        begins.append(line)
        rows.append(cells)
    if len(rows) == 1 and table.name == "orders":
        raise UserError(f"{path}, line {begins[0]}: a header and no rows; without orders there is no shop")
    if len(rows) == 1:
        report(f"{path.name}: no rows")
    frame = pd.DataFrame(rows[1:], columns=header, index=begins[1:], dtype=object)
    return frame[list(table.columns)].copy()


def _header(path: Path, table: Table, text: str) -> tuple[str, list[str]]:
    """The separator and the column names: the first separator with which every column of the table is there."""
    longest: list[str] = []
    for separator in SEPARATORS:
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        try:
            header = [_one_space(name) for name in next((cells for cells in rows if cells), [])]
        except csv.Error as error:
            raise UserError(f"{path}, line 1: a header that cannot be read ({error}); does it open a quote?") from error
        repeated = [name for name in table.columns if header.count(name) > 1]
        if repeated:
            raise UserError(f"{path}, line 1: column {', '.join(repeated)} named twice")
        if set(table.columns) <= set(header):
            return separator, header
        longest = max(longest, header, key=len)
    if not longest:
        raise UserError(f"{path}, line 1: an empty file; its first line should name the columns")
    absent = [name for name in table.columns if name not in longest]
    raise UserError(f"{path}, line 1: column {', '.join(absent)} missing; found: {', '.join(longest)[:300]}")


def _rows(path: Path, text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not empty, each with the line on which it begins; quoted cells may hold line breaks."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    line = 1
    try:
        for cells in reader:
            if cells:
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        problem = f"quotes that do not match ({error}); close each, and double those inside a cell"
        raise UserError(f"{path}, line {line}: {problem}") from error


def _check_keys(folder: Path, table: Table, tables: dict[str, pd.DataFrame]) -> None:
    """Raise `UserError` for the first row whose key was there before, or that refers to a row that is not."""
    frame, path = tables[table.name], folder / table.file
    if table.key:
        repeated = frame.index[frame.duplicated(list(table.key))]
        if len(repeated):
            raise _bad_cell(path, repeated[0], " + ".join(table.key), "a row with the same key came before")
    for column, target in table.references.items():
        lost = frame[column][~frame[column].isin(tables[target][column])]
        if len(lost):
            file = next(other.file for other in TABLES if other.name == target)
            raise _bad_cell(path, lost.index[0], column, f"{lost.iat[0]!r} is not in {file}")


def _convert(path: Path, table: Table, cells: pd.Series) -> np.ndarray:
    """A column's cells in their kind, None where empty; the first that may not be as it is raises `UserError`."""
    name, texts = str(cells.name), cells.to_numpy(dtype=object)
    kind, empty = table.columns[name], texts == ""
    if empty.any() and name not in table.nullable:
        raise _bad_cell(path, cells.index[empty][0], name, "empty, and may not be")
    lines, texts = cells.index[~empty], texts[~empty]
    try:
        values = _READERS[kind](texts)
    except ValueError as error:
        row = next(row for row, cell in enumerate(texts) if not _readable(kind, cell))
        raise _bad_cell(path, lines[row], name, f"{texts[row][:40]!r} is not {_EXPECTED[kind]}") from error
    wrong, problem = _out_of_place(name, kind, values)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise _bad_cell(path, lines[row], name, f"{texts[row][:40]!r} {problem}")
    if not empty.any():
        return values
    column = np.full(len(cells), None, dtype=object)
    column[~empty] = values
    return column


def _out_of_place(name: str, kind: str, values: np.ndarray) -> tuple[np.ndarray, str]:
    """Which values their column cannot hold, and what is wrong with them."""
    if name in _CHOICES:
        strange = ~pd.Series(values, dtype=object).isin(_CHOICES[name]).to_numpy()
        return strange, f"is none of {', '.join(_CHOICES[name])}"
    if name in _NAMES:
        return np.array([bool(re.search(r"[|`]", value)) for value in values], dtype=bool), "has a | or ` in it"
    if name == "main_complaint":
        longer = f"is longer than {MAX_COMPLAINT_CHARACTERS} characters"
        return np.array([graphemes(value) > MAX_COMPLAINT_CHARACTERS for value in values], dtype=bool), longer
    if kind in ("integer", "real") and name != "review_score":
        low, high = _RANGES.get(name, _COUNT)
        return (values < low) | (values > high), f"is out of range ({low:,} to {high:,})"
    return np.zeros(len(values), dtype=bool), ""


def _whole(cells: np.ndarray) -> np.ndarray:
    """Whole numbers; `True`/`False` as pandas writes flags, and `12.0` as it writes numbers of a column with gaps."""
    numbers = _real(np.array([{"True": "1", "False": "0"}.get(cell, cell) for cell in cells], dtype=object))
    if not np.array_equal(numbers, np.floor(numbers)) or (np.abs(numbers) > 2**53).any():
        raise ValueError("a fraction, or more digits than a whole number may have")
    return numbers.astype(int)


def _real(cells: np.ndarray) -> np.ndarray:
    numbers = cells.astype(float)
    if not np.isfinite(numbers).all():
        raise ValueError("not a finite number")
    return numbers


def _moments(cells: np.ndarray) -> np.ndarray:
    if not all(_TIMESTAMP.fullmatch(cell) for cell in cells):
        raise ValueError("not a moment")
    cells.astype("datetime64[s]")  # raises ValueError for 31 February
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


def _bad_cell(path: Path, line: int, column: str, problem: str) -> UserError:
    return UserError(f"{path}, line {line}: column {column}: {problem}")
