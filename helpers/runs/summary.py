"""The few numbers of a notebook that its reader should see first, kept in `summary.json` of the run folder."""

import fcntl
import json
import os
from pathlib import Path
from typing import Any

from helpers.core.errors import UserError
from helpers.core.files import write_json
from helpers.runs.load import run_folder

FILE = "summary.json"


def add(numbers: dict[str, Any], folder: Path | None = None) -> None:
    """Add titled values to the folder's `summary.json`; the runner prints them when the notebooks are done."""
    folder = folder or run_folder()
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)  # notebooks that run at the same time write one after another
        write_json(folder / FILE, read(folder) | numbers)
    finally:
        os.close(handle)


def read(folder: Path) -> dict[str, Any]:
    """The folder's titles and values, in the order they were added; empty where there are none."""
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
