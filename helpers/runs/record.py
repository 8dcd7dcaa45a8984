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
from helpers.tasks.records import SPLITS

CONFIG, METRICS, EVAL, EVENTS = "config.json", "metrics.jsonl", "eval.jsonl", "events.jsonl"
WARM_UP = "warmup"
"""Where a run keeps its warm-up, which has a record of its own."""
PARTS = "parts/"
"""The metric keys `parts/<task>/<part>`: a step's mean share of each reward part, over the completions of its task."""
PHASES = ("generation", "rewards", "log_probs", "backward", "optimiser", "sync", "eval", "other")
"""What a training step's seconds go to; `sync` moves the weights to vLLM, `log_probs` is every scoring forward pass."""
KNOWN_EVAL_SECONDS = "time/known_eval_s"
"""The metric key of an evaluation whose answers were reused: the seconds it took in the run that generated them."""
_EXTRA = "extra"
"""What config.json calls the file of extra pairs; a split goes by its own name."""
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
    data = {f"{split}.jsonl": pairs / f"{split}.jsonl" for split in SPLITS} | ({_EXTRA: extra} if extra else {})
    return {
        "name": recipe.name,
        "recipe": recipes.values(recipe),
        "profile": asdict(profile),
        "seed": seed,
        "data": {name: sha256(path.read_bytes()).hexdigest() for name, path in data.items()},
    }


def require_same_run(folder: Path, wanted: dict[str, Any]) -> None:
    """Raise `UserError` naming what differs unless the run in `folder` has the identity `wanted`."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{folder / CONFIG}: not JSON ({error}); restore it, or give another folder") from error
    if not isinstance(config, dict):
        raise UserError(f"{folder / CONFIG}: holds no JSON object; restore it, or give another folder")
    different = [key for key, value in wanted.items() if not _agrees(key, config.get(key), jsonable(value))]
    if different:
        raise UserError(f"{folder}: holds a run with another {', '.join(different)}; give another folder or remove it")


def _agrees(key: str, recorded: Any, wanted: Any) -> bool:
    """Whether one part of a recorded identity is the wanted one, as far as it decides what is computed."""
    if not isinstance(recorded, dict) or not isinstance(wanted, dict):
        return bool(recorded == wanted)
    if key == "profile":
        return _computing(recorded) == _computing(wanted)
    return _same_pairs(recorded, wanted) if key == "data" else bool(recorded == wanted)


def _same_pairs(recorded: dict[str, str], wanted: dict[str, str]) -> bool:
    """Whether the hashes are those of the same splits and extra pairs.

    Older records also name other files that lay beside the splits, and extra pairs by the name of their file.
    """
    splits = {name: value for name, value in wanted.items() if name != _EXTRA}
    return splits.items() <= recorded.items() and (_EXTRA not in wanted or wanted[_EXTRA] in recorded.values())


def _computing(profile: dict[str, Any]) -> dict[str, Any]:
    """The fields of a profile that decide what is computed: all but its price and its prose."""
    return {name: value for name, value in profile.items() if name not in ("reasons", "usd_per_hour")}


def rows_so_far(path: Path) -> list[dict[str, Any]]:
    """The whole rows of a file of the record, none where it is not there yet.

    A kill leaves half a row at the end, and so does a process that is still writing.
    """
    return [row for _, row in files.read_jsonl(path, faults=[])] if path.is_file() else []


def is_finished(folder: Path) -> bool:
    """Whether the run record in `folder` says that its run reached its end."""
    return has_ended(rows_so_far(folder / EVENTS))


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

    def update_config(self, values: dict[str, Any]) -> None:
        """Add `values` to config.json, or replace them there."""
        if self.writes:
            config = json.loads((self.folder / CONFIG).read_text(encoding="utf-8"))
            self.write_config(config | values)

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
