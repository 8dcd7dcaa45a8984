"""Where a notebook leaves what it made, and the few numbers that whoever ran it should see first."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from helpers.core.errors import UserError
from helpers.core.files import PROJECT_ROOT, write_json

FILE = "summary.json"


def run_folder() -> Path:
    """The folder for a notebook's run records: `HELPERS_RUN_DIR` where the runner set it, else `runs/`."""
    return Path(os.environ.get("HELPERS_RUN_DIR") or PROJECT_ROOT / "runs")


def add(numbers: dict[str, Any], folder: Path | None = None) -> None:
    """Add titled values to the folder's `summary.json`; a title that is there already gets the new value.

    The runner prints every title and value when the notebooks are done: keep titles short and values readable.
    """
    folder = folder or run_folder()
    with _alone_in(folder):
        write_json(folder / FILE, read(folder) | numbers)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Wait until no other notebook that runs at the same time is writing to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def read(folder: Path) -> dict[str, Any]:
    """The folder's titles and values, in the order in which they were added; empty where there are none."""
    path = folder / FILE
    if not path.is_file():
        return {}
    try:
        numbers = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); delete it and run the notebooks again") from error
    if not isinstance(numbers, dict):
        raise UserError(f"{path}: a {type(numbers).__name__} where a JSON object is expected; delete it")
    return numbers
