"""Writing the run record: what a training run leaves behind, so that a kill at any moment costs at most one line.

    config.json     what was run: recipe, profile, seed, coverage, versions
    metrics.jsonl   one object per logged step, W&B's keys; durations and throughput under "time/"
    eval.jsonl      one object per scored completion
    events.jsonl    start, resume, checkpoint, warning, stop, reward_error, eval, interrupt, error, end

JSON has no NaN or infinity: they are written as the strings "NaN", "Infinity" and "-Infinity", which `float` reads
back. `helpers.runs.load` reads a record.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from helpers import recipes
from helpers.core import files, processes
from helpers.core.errors import UserError
from helpers.recipes import Recipe
from helpers.recipes.profiles import Profile

CONFIG, METRICS, EVAL, EVENTS = "config.json", "metrics.jsonl", "eval.jsonl", "events.jsonl"
PARTS = "parts/"
"""The metric keys `parts/<task>/<part>`: a step's mean share of each reward part, over the completions of its task."""
PHASES = ("generation", "rewards", "log_probs", "backward", "optimiser", "sync", "eval", "other")
"""What a training step's seconds go to; `sync` moves the weights to vLLM, `log_probs` is every scoring forward pass."""
KNOWN_EVAL_SECONDS = "time/known_eval_s"
"""The metric key of an evaluation whose answers were reused: the seconds it took in the run that generated them."""
EVENT_KINDS = (
    "start",
    "resume",
    "checkpoint",
    "warning",
    "stop",
    "reward_error",
    "eval",
    "interrupt",
    "error",
    "end",
)


def identity(recipe: Recipe, profile: Profile, seed: int, pairs: Path, extra: Path | None = None) -> dict[str, Any]:
    """What makes two runs the same run, and the start of config.json: recipe, profile, seed, hashes of the pairs."""
    splits = [*sorted(pairs.glob("*.jsonl")), *([extra] if extra else [])]
    return {
        "name": recipe.name,
        "recipe": recipes.values(recipe),
        "profile": asdict(profile),
        "seed": seed,
        "data": {path.name: sha256(path.read_bytes()).hexdigest() for path in splits},
    }


def require_same_run(folder: Path, wanted: dict[str, Any]) -> None:
    """Raise `UserError` naming what differs unless the run in `folder` has the identity `wanted`."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{folder / CONFIG}: not JSON ({error}); restore it, or give another folder") from error
    if not isinstance(config, dict):
        raise UserError(f"{folder / CONFIG}: holds no JSON object; restore it, or give another folder")
    different = [key for key, value in wanted.items() if config.get(key) != jsonable(value)]
    if different:
        raise UserError(f"{folder}: holds a run with another {', '.join(different)}; give another folder or remove it")


def is_finished(folder: Path) -> bool:
    """Whether the run record in `folder` says that its run reached its end."""
    events = folder / EVENTS
    return events.is_file() and has_ended(row for _, row in files.read_jsonl(events, faults=[]))


def has_ended(events: Iterable[Mapping[str, Any]]) -> bool:
    """Whether the rows of events.jsonl say that the run reached its end."""
    return any(event.get("kind") == "end" for event in events)


class RunRecorder:
    """Appends to the run record in `folder` (made if missing); each call writes whole lines and flushes them.

    A half line that a killed process left at the end of a file is cut off when the recorder is made. Where several
    processes train together, only the first one writes.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder, self.writes = Path(folder), processes.is_first()
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in (METRICS, EVAL, EVENTS):
            if self.writes:
                _cut_half_line(self.folder / name)

    def write_config(self, config: dict[str, Any]) -> None:
        """Write config.json in one step; a second call replaces it."""
        if self.writes:
            files.write_json(self.folder / CONFIG, jsonable(config))

    def log_metrics(self, step: int, metrics: dict[str, Any]) -> None:
        """Append one row of metrics.jsonl; `metrics` maps W&B keys to numbers."""
        self._append(METRICS, [{"step": step, **metrics}])

    def read_metrics(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl so far; none at the start of a run."""
        path = self.folder / METRICS
        return [row for _, row in files.read_jsonl(path)] if path.exists() else []

    def log_eval(self, rows: Iterable[dict[str, Any]]) -> None:
        """Append scored completions to eval.jsonl, all in one write."""
        self._append(EVAL, rows)

    def log_event(self, kind: str, step: int, message: str, **values: Any) -> None:
        """Append one event; raises `ValueError` for a kind that readers do not know."""
        if kind not in EVENT_KINDS:
            raise ValueError(f"unknown event kind {kind!r}; known: {', '.join(EVENT_KINDS)}")
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._append(EVENTS, [{"time": now, "step": step, "kind": kind, "message": message, **values}])

    def truncate_after(self, step: int) -> None:
        """Truncate the record to the checkpoint being resumed: drop every row later than `step`; -1 drops all.

        Rows that a crashed run wrote after its last checkpoint would otherwise be there twice.
        """
        for name in (METRICS, EVAL, EVENTS):
            path = self.folder / name
            if self.writes and path.exists():
                files.write_jsonl(path, [row for _, row in files.read_jsonl(path) if row.get("step", 0) <= step])

    def _append(self, name: str, rows: Iterable[dict[str, Any]]) -> None:
        if not self.writes:
            return
        text = "".join(json.dumps(jsonable(row), ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
        with (self.folder / name).open("a", encoding="utf-8", newline="") as file:
            file.write(text)


def phase_key(phase: str) -> str:
    """The metric key of one of `PHASES`, in seconds per logged step."""
    return f"time/phase/{phase}_s"


def split_prefix(split: str, mode: str) -> str:
    """The prefix of the metric keys of a whole split's evaluation."""
    return f"full/{split}_{mode}/"


def evaluation_due(step: int, every: int, last: int) -> bool:
    """Whether a run of `last` steps evaluates the subset after `step`: at both ends, and every `every` steps between.

    A step closer to the end than half of `every` is skipped: the end tells the same.

    >>> [step for step in range(41) if evaluation_due(step, every=15, last=40)]
    [0, 15, 30, 40]
    >>> [step for step in range(41) if evaluation_due(step, every=30, last=40)]
    [0, 40]
    """
    return step in (0, last) or (step % every == 0 and last - step >= every / 2)


def jsonable(value: Any) -> Any:
    """`value` as JSON can hold it: NumPy and torch scalars, tuples, paths, NaN and infinities are converted.

    >>> jsonable({"loss": float("nan"), "parts": (1, 2)})
    {'loss': 'NaN', 'parts': [1, 2]}
    """
    if isinstance(value, dict):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item"):
        return jsonable(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _cut_half_line(path: Path) -> None:
    """Cut `path` after its last line end, so that the next row starts on a line of its own."""
    if not path.exists():
        return
    with path.open("r+b") as file:
        content = file.read()
        if not content.endswith(b"\n"):
            file.truncate(content.rfind(b"\n") + 1)
