"""Reading run records and finding them: sound rows are kept, everything else is left out with a warning."""

import json
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from helpers.core.errors import UserError
from helpers.core.files import PROJECT_ROOT, read_jsonl, shown
from helpers.core.progress import say
from helpers.runs.record import CONFIG, EVAL, EVENTS, METRICS, WARM_UP, evaluation_due, has_ended
from helpers.tasks import TASKS

OWN_RUNS = PROJECT_ROOT / "runs"
SHIPPED_RUNS = PROJECT_ROOT / "data" / "runs"
_EVAL_TEXT = ("split", "mode", "record_id", "task", "version")
_EVAL_KEY = ["step", "split", "mode", "sample", "record_id", "version", "parser"]
_MAX_WARNINGS_PER_FILE = 5


@dataclass(frozen=True)
class Run:
    """One run record, as far as it is sound; `warnings` name every place where something was left out.

    `history` holds the rows of metrics.jsonl, numbers only; `evals` one row per scored completion, including those
    scored under another reward version or parser (`scored` leaves these out).
    """

    path: Path
    config: dict[str, Any]
    history: list[dict[str, float]]
    evals: pd.DataFrame
    events: list[dict[str, Any]]
    warnings: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The run folder's name."""
        return self.path.resolve().name

    @property
    def where(self) -> str:
        """The run's folder, relative to the project's root where it lies inside: fit for a command."""
        return shown(self.path.resolve())

    @property
    def recipe(self) -> str:
        """The recipe's name; `unknown` where config.json names none."""
        return recipe_name(self.config) or "unknown"

    @property
    def max_steps(self) -> int:
        """The planned number of steps; the last one logged where that is not recorded."""
        return int(self.config.get("max_steps") or self.last_step)

    @property
    def last_step(self) -> int:
        """The last step logged; 0 for none."""
        return max((int(row["step"]) for row in self.history), default=0)

    @property
    def reward_version(self) -> str:
        """The reward version that the run trained on."""
        return str(self.config.get("reward_version", "unknown"))

    @property
    def parser(self) -> str:
        """The parser that the run's rewards used."""
        return str(self.config.get("parser", "unknown"))

    @property
    def eval_every(self) -> int:
        """Steps between two evaluations of the subset; 0 where that is not recorded."""
        return int(self.config.get("eval_every") or 0)

    def data_hash(self, split: str) -> str | None:
        """The SHA-256 of the pairs file that holds `split` (a subset lies in its split's file), as recorded."""
        return self.config.get("data", {}).get(f"{split.removesuffix('_subset')}.jsonl")

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """metrics.jsonl as a table: one row per step, one column per key, NaN where nothing was logged."""
        if not self.history:
            return pd.DataFrame(index=pd.Index([], name="step", dtype=int))
        return pd.DataFrame(self.history).groupby("step").last()

    def series(self, key: str) -> pd.Series:
        """The logged values of one metric by step; empty where it was never logged."""
        return self.metrics[key].dropna() if key in self.metrics else pd.Series(dtype=float)

    @cached_property
    def scored(self) -> pd.DataFrame:
        """The scored completions under the run's own reward version and parser."""
        own = {"version": self.config.get("reward_version"), "parser": self.config.get("parser")}
        return select(self.evals, **{column: value for column, value in own.items() if value is not None})

    def answers(self, split: str, mode: str = "sample", **wanted: Any) -> pd.DataFrame:
        """The rows of `scored` of one split and decoding, narrowed by further columns such as `step` and `task`."""
        return select(self.scored, split=split, mode=mode, **wanted)


def select(rows: pd.DataFrame, **wanted: Any) -> pd.DataFrame:
    """The rows of a table whose columns have the values `wanted`."""
    for column, value in wanted.items():
        rows = rows[rows[column] == value]
    return rows


def load_run(path: Path | str) -> Run:
    """Read the run record in folder `path`.

    Malformed lines and values, missing steps and rows of another reward version each give a warning that names the file
    and the line. Raises `UserError` where `path` is not a run folder or its config.json cannot be read.
    """
    folder = Path(path)
    config = read_config(folder)
    warnings: list[str] = []
    history = _sound_metrics(folder / METRICS, warnings)
    evals = _sound_evals(folder / EVAL, str(config.get("parser", "unknown")), warnings)
    events = [row for _, row in _read_rows(folder / EVENTS, warnings)]
    run = Run(folder, config, history, evals, events, warnings)
    warnings += _missing_steps(run) + _other_versions(run)
    return run


def run_folder() -> Path:
    """The folder for a notebook's run records: `HELPERS_RUN_DIR` where the runner set it, else `runs/`."""
    return Path(os.environ.get("HELPERS_RUN_DIR") or OWN_RUNS)


def run_roots() -> list[Path]:
    """Where to look for runs: this session's folder, the reader's other runs, then the shipped ones."""
    return list(dict.fromkeys([run_folder(), OWN_RUNS, SHIPPED_RUNS]))


def find_runs(root: Path, deep: bool = True) -> list[Path]:
    """Every run folder under `root` (config.json and metrics.jsonl side by side) but warm-ups, latest written first.

    Shipped runs are sorted by name instead: a checkout gives all files one date. Unless `deep`, only `root`'s own
    folders are looked at.
    """
    rows = root.rglob(METRICS) if deep else root.glob(f"*/{METRICS}")
    folders = [path.parent for path in rows if (path.parent / CONFIG).is_file() and path.parent.name != WARM_UP]
    if root == SHIPPED_RUNS:
        return sorted(folders)
    return sorted(folders, key=lambda folder: ((folder / METRICS).stat().st_mtime, folder.name), reverse=True)


def runs_of(recipe: str | None, *roots: Path) -> Iterator[Path]:
    """The run folders of a recipe (`None`: any), root by root (default `run_roots()`), in the order of `find_runs`."""
    for root in roots or run_roots():
        for folder, config in readable(find_runs(root)):
            if recipe is None or recipe_name(config) == recipe:
                yield folder


def readable(folders: Iterable[Path]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The run folders with their configs; one line names each whose config.json cannot be read and is passed over."""
    for folder in folders:
        try:
            yield folder, read_config(folder)
        except UserError as error:
            say(f"passed over: {error}")


def latest_run(*roots: Path, recipe: str | None = "v4.1") -> tuple[Run, str]:
    """The latest run of `recipe` under the first of `roots` that has one, and a sentence saying which it is.

    An unfinished run counts too: it may be training now, and the sentence says so. `roots` defaults to `run_roots()`.
    Raises `UserError` where there is none at all.
    """
    folder = next(runs_of(recipe, *roots), None)
    if folder is None:
        places = ", ".join(shown(root) for root in roots or run_roots())
        raise UserError(f"no {recipe or ''} run record under {places}; `python -m helpers train` makes one")
    run = load_run(folder)
    own = not folder.is_relative_to(SHIPPED_RUNS)
    kind = "your own latest run" if own else "a run shipped with the project (there is none of your own)"
    progress = "" if has_ended(run.events) else f"; not finished: step {run.last_step} of {run.max_steps}"
    return run, f"{run.name}: {kind}, {run.where}{progress}"


def evaluated_steps(run: Run, split: str, mode: str = "sample") -> list[int]:
    """The steps at which `split` was evaluated, in order."""
    return sorted(int(step) for step in run.answers(split, mode)["step"].unique())


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json of a run folder; raises `UserError` where there is none or where it is not a run's."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; a run folder holds config.json and metrics.jsonl")
    path = folder / CONFIG
    if not path.is_file():
        raise UserError(f"{folder}: not a run folder (no {CONFIG}); runs are kept under runs/ and data/runs/")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); without it a run cannot be read") from error
    if not isinstance(config, dict) or not isinstance(config.get("recipe", {}), dict):
        raise UserError(f"{path}: not a run's config (a JSON object with a `recipe` object is expected)")
    return config


def recipe_name(config: dict[str, Any]) -> str | None:
    """The name of the recipe that a run's config.json describes."""
    return config.get("recipe", {}).get("name")


def policies_of(config: dict[str, Any]) -> tuple[str | None, str | None]:
    """The policy and the base policy that a run's config.json names: what two runs of one policy have in common."""
    return config.get("policy"), config.get("base_policy")


def _read_rows(path: Path, warnings: list[str]) -> list[tuple[int, dict[str, Any]]]:
    """The (line number, object) pairs of `path` that can be read; each other line adds a warning."""
    if not path.is_file():
        warnings.append(f"{path.name}: missing; what it would show is left out")
        return []
    rows: list[tuple[int, dict[str, Any]]] = []
    faults: list[str] = []
    for number, row in read_jsonl(path, faults):
        step = row.get("step")
        if type(step) is int and step >= 0:
            rows.append((number, row))
        else:
            faults.append(f"line {number}: not an object with a whole `step`; left out")
    _warn(path.name, faults, warnings)
    return rows


def _sound_metrics(path: Path, warnings: list[str]) -> list[dict[str, float]]:
    history, faults = [], []
    for number, row in _read_rows(path, warnings):
        sound: dict[str, float] = {"step": row["step"]}
        for key, value in row.items():
            measured = _number(value)
            if key != "step" and measured is not None:
                sound[key] = measured
            if measured is None or not math.isfinite(measured):
                faults.append(f"line {number}: {key} is {value!r}, not a finite number")
        history.append(sound)
    _warn(path.name, faults, warnings)
    return history


def _sound_evals(path: Path, parser: str, warnings: list[str]) -> pd.DataFrame:
    rows, faults = [], []
    for number, row in _read_rows(path, warnings):
        fault = _eval_fault(row)
        if fault:
            faults.append(f"line {number}: {fault}; left out")
        else:
            rows.append({**_EVAL_DEFAULTS, "parser": parser, **row, "line": number})
    table = pd.DataFrame(rows) if rows else pd.DataFrame(columns=[*_EVAL_COLUMNS, "total", "line"])
    repeated = table.duplicated(subset=_EVAL_KEY, keep="last")
    if repeated.any():
        first = int(table.loc[repeated, "line"].iloc[0])
        faults.append(f"line {first}: scored again later, as {int(repeated.sum())} in all; the later one counts")
    _warn(path.name, faults, warnings)
    return table[~repeated].reset_index(drop=True)


_EVAL_DEFAULTS: dict[str, Any] = {
    "parser": "",
    "sample": 0,
    "parts": {},
    "flags": [],
    "repairs": [],
    "clipped": False,
    "completion": "",
}
"""What a row may lack; a value that is there has the default's type."""
_EVAL_COLUMNS = ["step", *_EVAL_TEXT, *_EVAL_DEFAULTS]


def _eval_fault(row: dict[str, Any]) -> str | None:
    missing = [key for key in _EVAL_TEXT if not isinstance(row.get(key), str)]
    if missing:
        return f"no {missing[0]}"
    for key, default in _EVAL_DEFAULTS.items():
        if key in row and type(row[key]) is not type(default):
            return f"{key} is {row[key]!r}, not a {type(default).__name__}"
    if any(_number(share) is None for share in row.get("parts", {}).values()):
        return "a part that is not a number"
    if row["task"] not in TASKS:
        return f"unknown task {row['task']!r}"
    total = _number(row.get("total"))
    if total is None or not 0 <= total <= 1:
        return f"total is {row.get('total')!r}, not a number from 0 to 1"
    return None


def _missing_steps(run: Run) -> list[str]:
    """Warnings for gaps in what should have been logged every step, or every `eval_every` steps."""
    warnings = []
    logged = {int(row["step"]) for row in run.history if any(key.startswith("train/") for key in row)}
    every = int(run.config.get("logging_steps") or 1)
    gaps = sorted(set(range(min(logged, default=0), max(logged, default=0) + 1, every)) - logged)
    if gaps:
        warnings.append(f"{METRICS}: no training row for {len(gaps)} steps, the first is {gaps[0]}")
    steps = set(evaluated_steps(run, "eval_subset"))
    if run.eval_every and steps:
        due = {step for step in range(max(steps) + 1) if evaluation_due(step, run.eval_every, run.max_steps)}
        lost = ", ".join(str(step) for step in sorted(due - steps)[:5])
        if lost:
            warnings.append(f"{EVAL}: no evaluation at step {lost} (expected every {run.eval_every})")
    if run.last_step < run.max_steps:
        warnings.append(f"{METRICS}: ends at step {run.last_step} of {run.max_steps}; the run was not finished")
    return warnings


def _other_versions(run: Run) -> list[str]:
    if len(run.scored) == len(run.evals):
        return []
    other = run.evals.drop(run.scored.index)
    kinds = ", ".join(sorted({f"{row.version} with the {row.parser} parser" for row in other.itertuples()}))
    own = f"{run.reward_version} with the {run.parser} parser"
    first = int(other["line"].iloc[0])
    return [
        f"{EVAL}, line {first}: {len(other)} rows from here on are scored by {kinds}, not by the run's {own}; left out"
    ]


def _number(value: Any) -> float | None:
    """`value` as a float, from the record's "NaN" and "Infinity" too; `None` where it is not a number."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def _warn(name: str, faults: list[str], warnings: list[str]) -> None:
    warnings += [f"{name}, {fault}" for fault in faults[:_MAX_WARNINGS_PER_FILE]]
    if len(faults) > _MAX_WARNINGS_PER_FILE:
        warnings.append(f"{name}: {len(faults) - _MAX_WARNINGS_PER_FILE} more lines like these")
