"""The table of `make test-engines`, as JSON and as Markdown."""

import platform
from pathlib import Path
from typing import Any

from helpers.core.files import write_json, write_text

COLUMNS = ("backend", "import s", "run s", "s/step", "engine, trainer", "trainer, plain forward", "engine, plain")
RATIO = "importance ratio"


def write(folder: Path, shape: str, rows: list[dict[str, Any]]) -> None:
    """Write the backends' rows of a shape to `folder`."""
    write_json(folder / f"{shape}.json", {"python": platform.python_version(), "backends": rows})
    write_text(folder / f"{shape}.md", markdown(shape, rows))


def markdown(shape: str, rows: list[dict[str, Any]]) -> str:
    """The table with what was compared."""
    head = [*COLUMNS, RATIO, "tokens", "greedy answers"]
    lines = [f"# Engines on a CPU: {shape}", "", _row(head), _row(["---"] * len(head))]
    lines += [_row(_cells(row)) for row in rows]
    versions = ", ".join(f"{name} {version}" for name, version in (rows[-1]["versions"] | rows[0]["versions"]).items())
    caption = (
        f"Written by `make test-engines` on {platform.machine()}, Python {platform.python_version()}; {versions}. "
        f"Each backend: {rows[0]['steps']} steps of V4.1 with SIGTERM and a resume between, evaluations at both ends. "
        "Gaps are mean absolute differences of the same tokens' log-probabilities, the largest of the steps; the "
        "importance ratio is the least and the most of any token; greedy answers are those that the saved adapter, "
        "loaded by transformers alone, repeated, up to ties. Seconds are of a shared machine."
    )
    return "\n".join([*lines, "", caption, ""])


def _cells(row: dict[str, Any]) -> list[str]:
    gaps = [f"{row['gaps'][name]:.1e}" if name in row["gaps"] else "no engine" for name in COLUMNS[4:]]
    ratio = " to ".join(f"{value:.5f}" for value in row["importance_ratio"]) if row["importance_ratio"] else "no engine"
    seconds = [f"{row['import_s']:.0f}", f"{row['run_s']:.0f}", f"{row['step_s']:.1f}"]
    return [row["backend"], *seconds, *gaps, ratio, str(row["tokens_compared"]), str(row["greedy_answers"])]


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
