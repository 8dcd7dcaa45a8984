"""Reading and writing files so that nothing is ever left half-written."""

import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from helpers.core.errors import UserError

PROJECT_ROOT = Path(__file__).resolve().parents[2]


def database_path(root: Path = PROJECT_ROOT) -> Path:
    """The shop's database: `COMMERCE_DB` in the environment, else `data/commerce.db` of the project in `root`."""
    return Path(os.environ.get("COMMERCE_DB") or root / "data" / "commerce.db")


def shown(path: Path) -> str:
    """A path to show or to paste into a command: relative to the project's root where it lies inside it.

    >>> shown(PROJECT_ROOT / "runs" / "v4.1")
    'runs/v4.1'
    """
    return str(path.relative_to(PROJECT_ROOT)) if path.is_relative_to(PROJECT_ROOT) else str(path)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`; it takes `path`'s place only when the block ends without an exception."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` (UTF-8, line ends as given) to `path` in one step: the old file stays until the new one is whole."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, in one step."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write one JSON object per line, in one step."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_jsonl(path: Path, faults: list[str] | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, object) for each non-blank line of `path`.

    Raises `UserError` naming the file and the line where the file is missing, not UTF-8, or a line is not an object.
    Given a list of `faults`, such lines are described there and left out instead: a crash or a process that is still
    writing leaves half a line at the end.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = _row(line)
        except ValueError as error:
            if faults is None:
                raise UserError(f"{path}, line {number}: {error}") from error
            fault = "cut off in the middle" if number == len(lines) else "not a JSON object"
            faults.append(f"line {number}: {fault}; left out")
        else:
            yield number, row


def _row(line: bytes) -> dict[str, Any]:
    """The object that a line holds; a `ValueError` says why there is none."""
    try:
        row = json.loads(line.decode())
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON ({error}); each line is one JSON object") from error
    if not isinstance(row, dict):
        raise ValueError(f"a {type(row).__name__} where a JSON object is expected")
    return row
