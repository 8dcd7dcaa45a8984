"""Read a run record and ask it questions: curves with intervals, paired gains, coverage, before and after.

Every mean is over prompts (`helpers.core.stats`). "The start" is the base policy's evaluation (the first step recorded,
0), "the end" the last one of the same split and decoding, so that a gain compares the same prompts.
"""

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd

from helpers.core import stats
from helpers.core.errors import UserError
from helpers.core.files import PROJECT_ROOT
from helpers.core.stats import Interval
from helpers.rewards import score_row
from helpers.runs import stop_rules
from helpers.runs.record import CONFIG, EVAL, EVENTS, METRICS, evaluation_due, has_ended
from helpers.runs.stop_rules import RuleStatus
from helpers.tasks import TASKS
from helpers.tasks.records import PAIRS_DIR, load_split

ALL = "all"
"""Stands for all tasks together, beside the names in `TASKS`."""
RUN_DIR_VARIABLE = "HELPERS_RUN_DIR"
OWN_RUNS = PROJECT_ROOT / "runs"
SHIPPED_RUNS = PROJECT_ROOT / "data" / "runs"
Rewards = Mapping[str, Mapping[str, float]]
"""Task -> record id -> reward of that prompt."""
_EVAL_TEXT = ("split", "mode", "record_id", "task", "version")
_EVAL_KEY = ["step", "split", "mode", "sample", "record_id", "version", "parser"]
_MAX_WARNINGS_A_FILE = 5


@dataclass(frozen=True)
class Run:
    """One run record, as far as it is sound; `warnings` name every place where something was left out.

    `history` holds the rows of metrics.jsonl with numbers only; `evals` one row a scored completion, including those
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
        """The run's folder, from the project's root where it lies there: fit for a command and for a shipped output."""
        return _short(self.path.resolve())

    @property
    def recipe(self) -> str:
        """The recipe's name; `unknown` where config.json names none."""
        return str(self.config.get("recipe", {}).get("name", "unknown"))

    @property
    def max_steps(self) -> int:
        """The steps that the run was to take; the last one logged where that is not recorded."""
        return int(self.config.get("max_steps") or self.last_step)

    @property
    def last_step(self) -> int:
        """The last step that was logged, 0 for none."""
        return max((int(row["step"]) for row in self.history), default=0)

    @property
    def finished(self) -> bool:
        """Whether the run says that it came to its end."""
        return has_ended(self.events)

    @property
    def reward_version(self) -> str:
        """The reward version that the run trained on."""
        return str(self.config.get("reward_version", "unknown"))

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """metrics.jsonl as a table: one row a step, one column a key, NaN where nothing was logged."""
        if not self.history:
            return pd.DataFrame(index=pd.Index([], name="step", dtype=int))
        return pd.DataFrame(self.history).groupby("step").last()

    def series(self, key: str) -> pd.Series:
        """The logged values of one metric by step; empty where it was never logged."""
        return self.metrics[key].dropna() if key in self.metrics else pd.Series(dtype=float)

    @cached_property
    def scored(self) -> pd.DataFrame:
        """The scored completions under the run's own reward version and parser."""
        own = self.evals
        for column, wanted in (("version", self.config.get("reward_version")), ("parser", self.config.get("parser"))):
            if wanted is not None:
                own = own[own[column] == wanted]
        return own


@dataclass(frozen=True)
class Gain:
    """What changed between two evaluations of the same prompts: both means and the paired difference."""

    before: Interval
    after: Interval
    difference: Interval


@dataclass(frozen=True)
class Measured:
    """How a candidate's rewards were obtained; two candidates compare only where all of it is equal."""

    split: str
    mode: str
    version: str
    parser: str


def load_run(path: Path | str) -> Run:
    """Read the run record in folder `path`.

    A cut-off or malformed line, a value that is not a number, missing steps and rows of another reward version are left
    out or told apart, each with a warning that names the file and the line. Raises `UserError` where `path` is not a
    run folder or its config.json cannot be read.
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


def run_roots() -> list[Path]:
    """Where runs are looked for: this session's (`HELPERS_RUN_DIR`), the reader's other runs, then the shipped ones."""
    session = os.environ.get(RUN_DIR_VARIABLE)
    return [*([Path(session)] if session else []), OWN_RUNS, SHIPPED_RUNS]


def find_runs(root: Path) -> list[Path]:
    """Every run folder under `root` (config.json and metrics.jsonl side by side), latest written first.

    A checkout gives all shipped files one date: those come by name.
    """
    folders = [path.parent for path in root.rglob(METRICS) if (path.parent / CONFIG).is_file()]
    if root == SHIPPED_RUNS:
        return sorted(folders)
    return sorted(folders, key=lambda folder: ((folder / METRICS).stat().st_mtime, folder.name), reverse=True)


def latest_run(*roots: Path, recipe: str | None = "v4.1") -> tuple[Run, str]:
    """The latest run of `recipe` under the first of `roots` that has one, and a sentence saying which it is.

    A run that did not come to its end counts too: it may be training now. The sentence says so.
    `roots` defaults to `run_roots()`. Raises `UserError` where there is none at all.
    """
    searched = list(roots) or run_roots()
    for root in searched:
        for folder in find_runs(root):
            if recipe in (None, read_config(folder).get("recipe", {}).get("name")):
                run = load_run(folder)
                own = not folder.is_relative_to(SHIPPED_RUNS)
                kind = "your own latest run" if own else "a run shipped with the project (there is none of your own)"
                so_far = "" if run.finished else f"; not finished: step {run.last_step} of {run.max_steps}"
                return run, f"{run.name}: {kind}, {run.where}{so_far}"
    places = ", ".join(_short(root) for root in searched)
    raise UserError(f"no {recipe or ''} run record under {places}; `python -m helpers train` makes one")


def evaluated_steps(run: Run, split: str, mode: str = "sample") -> list[int]:
    """The steps at which `split` was evaluated, in order."""
    rows = run.scored
    return sorted(int(step) for step in rows.loc[(rows["split"] == split) & (rows["mode"] == mode), "step"].unique())


def comparison_split(run: Run, mode: str = "sample") -> str | None:
    """The largest split that was evaluated at the start and again later; `test` is kept for the last word."""
    for split in ("eval", "eval_subset"):
        if len(evaluated_steps(run, split, mode)) > 1:
            return split
    return None


def end_split(run: Run, mode: str = "sample") -> str | None:
    """The largest split (not `test`) evaluated at the run's last planned step; `None` for an unfinished run."""
    return next((s for s in ("eval", "eval_subset") if run.max_steps in evaluated_steps(run, s, mode)), None)


def end_rewards(run: Run) -> dict[str, dict[str, float]]:
    """`prompt_rewards` of the end evaluation, sampled; empty for an unfinished run."""
    split = end_split(run)
    return prompt_rewards(run, run.max_steps, split) if split else {}


def prompt_rewards(run: Run, step: int, split: str, mode: str = "sample") -> dict[str, dict[str, float]]:
    """Task -> record id -> mean reward of that prompt's completions, at one evaluation."""
    rows = run.scored
    rows = rows[(rows["step"] == step) & (rows["split"] == split) & (rows["mode"] == mode)]
    return rewards_by_prompt(rows[["task", "record_id", "total"]].to_dict("records"))


def rewards_by_prompt(rows: Sequence[Mapping[Any, Any]]) -> dict[str, dict[str, float]]:
    """Task -> record id -> mean reward, of scored completions as eval.jsonl holds them.

    >>> rewards_by_prompt([{"task": "push", "record_id": "p1", "total": total} for total in (0.0, 1.0)])
    {'push': {'p1': 0.5}}
    """
    by_task = {task: [row for row in rows if row["task"] == task] for task in TASKS}
    return {
        task: stats.by_prompt([row["record_id"] for row in own], [row["total"] for row in own])
        for task, own in by_task.items()
        if own
    }


def rewards_under(run: Run, step: int, measured: Measured, pairs: Path = PAIRS_DIR) -> Rewards:
    """Task -> record id -> reward of one evaluation of a run, under any reward version.

    Completions that the record scores under another version are scored again. Raises `UserError` where the run has no
    such evaluation, or where `pairs` no longer holds the records it answered.
    """
    rows = run.evals
    rows = rows[(rows["step"] == step) & (rows["split"] == measured.split) & (rows["mode"] == measured.mode)]
    scored = rows[(rows["version"] == measured.version) & (rows["parser"] == measured.parser)]
    if rows.empty:
        raise UserError(f"{run.where}: no evaluation of {measured.split} in mode {measured.mode} at step {step}")
    return rewards_by_prompt(scored.to_dict("records") if len(scored) else _rescored(run, rows, measured, pairs))


def task_interval(rewards: Rewards, task: str = ALL, draws: int = stats.DRAWS) -> Interval:
    """The mean reward of one task, or of all prompts with each task resampled on its own, from `prompt_rewards`."""
    chosen = rewards if task == ALL else {task: rewards.get(task, {})}
    return stats.stratified_mean({name: list(values.values()) for name, values in chosen.items()}, draws=draws)


def curve(run: Run, task: str = ALL, split: str = "eval_subset", mode: str = "sample") -> pd.DataFrame:
    """Mean reward by step with its interval: columns mean, low, high, n.

    Where the record has no scored completions (eval.jsonl lost), the intervals logged in metrics.jsonl are used.
    """
    steps = evaluated_steps(run, split, mode)
    if not steps and split == "eval_subset" and mode == "sample":
        return _logged_curve(run, task)
    found = {step: task_interval(prompt_rewards(run, step, split, mode), task) for step in steps}
    rows = {step: vars(interval) for step, interval in found.items() if interval.n}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["mean", "low", "high", "n"]).rename_axis("step")


def gains(run: Run, split: str | None = None, mode: str = "sample", draws: int = stats.DRAWS) -> dict[str, Gain]:
    """The paired gain between start and end of a run, for all prompts (`ALL`) and each task.

    Empty where `split` (default: `comparison_split`) was not evaluated twice. Only prompts scored at both ends count.
    """
    split = split or comparison_split(run, mode)
    steps = evaluated_steps(run, split, mode) if split else []
    if split is None or len(steps) < 2:
        return {}
    before, after = (prompt_rewards(run, step, split, mode) for step in (steps[0], steps[-1]))
    return paired_gains(before, after, draws)


def paired_gains(before: Rewards, after: Rewards, draws: int = stats.DRAWS) -> dict[str, Gain]:
    """Gains between two evaluations given as `prompt_rewards`, over the prompts that both hold."""
    found = {task: paired_gain(before, after, task, draws) for task in (ALL, *before)}
    return {task: gain for task, gain in found.items() if gain.difference.n}


def paired_gain(before: Rewards, after: Rewards, task: str = ALL, draws: int = stats.DRAWS) -> Gain:
    """The gain of one task, or of all; no prompts in common give a gain over 0 prompts."""
    pairs = {
        name: [(old, after[name][record]) for record, old in before[name].items() if record in after.get(name, {})]
        for name in before
        if task in (ALL, name)
    }

    def mean(value: Callable[[float, float], float]) -> Interval:
        """What `value` makes of each prompt's two rewards, as a mean over the tasks' prompts."""
        strata = {name: [value(old, new) for old, new in found] for name, found in pairs.items()}
        return stats.stratified_mean(strata, draws=draws)

    return Gain(mean(lambda old, new: old), mean(lambda old, new: new), mean(lambda old, new: new - old))


def same_eval_set(a: Run, b: Run) -> bool:
    """Both ended on the same split of the same data: equal hashes of eval.jsonl where both are known, equal records."""
    hashes = [run.config.get("data", {}).get("eval.jsonl") for run in (a, b)]
    if all(hashes) and hashes[0] != hashes[1]:
        return False
    records = [{task: set(found) for task, found in end_rewards(run).items()} for run in (a, b)]
    return bool(records[0]) and records[0] == records[1]


def difference(a: Run, b: Run, task: str = ALL) -> tuple[Interval, str]:
    """How far the end of `b` lies above the end of `a`, and how that was compared: "paired" or "unpaired"."""
    before, after = end_rewards(a), end_rewards(b)
    if same_eval_set(a, b):
        return paired_gain(before, after, task).difference, "paired"
    old, new = (
        [value for name, found in rewards.items() if task in (ALL, name) for value in found.values()]
        for rewards in (before, after)
    )
    return stats.unpaired_difference(old, new), "unpaired"


def best_step(run: Run) -> int | None:
    """The step whose subset evaluation has the highest mean; its value is the best of many, hence optimistic."""
    found = curve(run)
    return None if found.empty else int(found["mean"].idxmax())


def coverage(run: Run) -> pd.DataFrame:
    """A row a task: records in the train split, prompts expected, prompts seen (last `train/prompts_seen/<task>`)."""
    planned = run.config.get("coverage", {})
    rows = {}
    for task in TASKS:
        seen = run.series(f"train/prompts_seen/{task}")
        plan = planned.get(task, {})
        rows[task] = {
            "records": plan.get("records", math.nan),
            "expected": plan.get("expected_prompts", math.nan),
            "seen": float(seen.iloc[-1]) if len(seen) else math.nan,
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def repairs_by_step(run: Run, split: str = "eval_subset", mode: str = "sample") -> pd.DataFrame:
    """Share of extraction completions that needed each parser repair, by step."""
    rows = run.scored
    rows = rows[(rows["split"] == split) & (rows["mode"] == mode) & (rows["task"] == "extraction")]
    single = rows.explode("repairs").dropna(subset=["repairs"])
    counts = single.groupby(["step", "repairs"]).size().unstack(fill_value=0)
    completions = rows.groupby("step").size()
    return counts.reindex(completions.index, fill_value=0).div(completions, axis=0)


def part_shares(run: Run, task: str, split: str = "eval_subset", mode: str = "sample") -> pd.DataFrame:
    """Mean of each reward part (a share from 0 to 1) of one task, by step."""
    rows = run.scored
    rows = rows[(rows["split"] == split) & (rows["mode"] == mode) & (rows["task"] == task)]
    parts = pd.DataFrame(list(rows["parts"]), index=rows["step"])
    return parts.groupby(level=0).mean()


def before_after(run: Run, task: str, n: int = 10, mode: str = "sample") -> pd.DataFrame:
    """`n` prompts of a task with the completion and reward at the start and the end, from largest loss to largest gain.

    The prompts are evenly spaced over all changes, so that failures appear as often as they happened.
    Columns: record_id, before, reward_before, after, reward_after.
    """
    split = comparison_split(run, mode)
    columns = ["record_id", "before", "reward_before", "after", "reward_after"]
    if split is None:
        return pd.DataFrame(columns=columns)
    steps = evaluated_steps(run, split, mode)
    first, last = (_first_samples(run, step, split, mode, task) for step in (steps[0], steps[-1]))
    joined = first.join(last, how="inner", lsuffix="_before", rsuffix="_after")
    joined["change"] = joined["total_after"] - joined["total_before"]
    ordered = joined.sort_values("change", kind="stable").reset_index()
    picked = ordered.iloc[_evenly_spaced(len(ordered), n)]
    picked = picked[["record_id", "completion_before", "total_before", "completion_after", "total_after"]]
    return picked.set_axis(columns, axis=1).reset_index(drop=True)


def watched_history(run: Run) -> list[dict[str, float]]:
    """The metric rows with what the stop rules also watch: repaired extraction answers and failed reward calls."""
    rows = run.scored
    rows = rows[(rows["split"] == "eval_subset") & (rows["mode"] == "sample") & (rows["task"] == "extraction")]
    repaired = rows["repairs"].map(bool).groupby(rows["step"]).mean()
    added: list[dict[str, float]] = [
        {"step": int(step), "eval/repaired_share/extraction": float(share)} for step, share in repaired.items()
    ]
    failed = [int(event["step"]) for event in run.events if event.get("kind") == "reward_error"]
    added += [{"step": step, "train/reward_errors": float(count)} for count, step in enumerate(sorted(failed), 1)]
    return sorted([*run.history, *added], key=lambda row: row["step"])


def rule_settings(run: Run) -> dict[str, float]:
    """The fixed numbers that the stop rules need of a run: completion limit (tokens), beta, V4 extraction."""
    recipe = run.config.get("recipe", {})
    known = {"limit": recipe.get("max_completion_length"), "beta": recipe.get("beta")}
    baseline = run.series(stop_rules.BASELINE_METRIC)
    known["extraction_baseline"] = float(baseline.iloc[0]) if len(baseline) else None
    return {key: value for key, value in known.items() if value is not None}


def stop_statuses(run: Run, **settings: float) -> list[RuleStatus]:
    """What each stop rule says of the run as far as it went; `settings` replace those of `rule_settings`."""
    known: dict[str, Any] = {**rule_settings(run), **settings}
    return stop_rules.evaluate_rules(watched_history(run), run.max_steps, **known)


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json of a run folder; raises `UserError` where there is none or it is not a run's."""
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


def _read_rows(path: Path, warnings: list[str]) -> list[tuple[int, dict[str, Any]]]:
    """The (line number, object) pairs of `path` that can be read; each other line adds a warning."""
    if not path.is_file():
        warnings.append(f"{path.name}: missing; what it would show is left out")
        return []
    rows, faults = [], []
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            cut = number == len(lines)
            faults.append(f"line {number}: {'cut off in the middle' if cut else 'not JSON'}; left out")
            continue
        if isinstance(row, dict) and _is_step(row.get("step")):
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
    table = pd.DataFrame(
        rows, columns=None if rows else list(dict.fromkeys([*_EVAL_KEY, *_EVAL_DEFAULTS, "task", "total", "line"]))
    )
    repeated = table.duplicated(subset=_EVAL_KEY, keep="last")
    if repeated.any():
        first = int(table.loc[repeated, "line"].iloc[0])
        faults.append(f"line {first}: scored again later, as {int(repeated.sum())} in all; the later one counts")
    _warn(path.name, faults, warnings)
    return table[~repeated].reset_index(drop=True)


_EVAL_DEFAULTS: dict[str, Any] = {
    "sample": 0,
    "parts": {},
    "flags": [],
    "repairs": [],
    "prompt_tokens": math.nan,
    "completion_tokens": math.nan,
    "clipped": False,
    "completion": "",
}


_EVAL_TYPES: dict[str, type] = {
    "parser": str,
    "sample": int,
    "parts": dict,
    "flags": list,
    "repairs": list,
    "clipped": bool,
    "completion": str,
}


def _eval_fault(row: dict[str, Any]) -> str | None:
    missing = [key for key in _EVAL_TEXT if not isinstance(row.get(key), str)]
    if missing:
        return f"no {missing[0]}"
    wrong = [key for key, kind in _EVAL_TYPES.items() if key in row and type(row[key]) is not kind]
    if wrong:
        return f"{wrong[0]} is {row[wrong[0]]!r}, not a {_EVAL_TYPES[wrong[0]].__name__}"
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
    found = []
    logged = {int(row["step"]) for row in run.history if any(key.startswith("train/") for key in row)}
    every = int(run.config.get("logging_steps") or 1)
    gaps = sorted(set(range(min(logged, default=0), max(logged, default=0) + 1, every)) - logged)
    if gaps:
        found.append(f"{METRICS}: no training row for {len(gaps)} steps, the first is {gaps[0]}")
    eval_every = run.config.get("eval_every")
    steps = set(evaluated_steps(run, "eval_subset"))
    if eval_every and steps:
        due = {step for step in range(max(steps) + 1) if evaluation_due(step, int(eval_every), run.max_steps)}
        lost = sorted(due - steps)
        if lost:
            found.append(f"{EVAL}: no evaluation at step {', '.join(map(str, lost[:5]))} (expected every {eval_every})")
    if run.last_step < run.max_steps:
        found.append(f"{METRICS}: ends at step {run.last_step} of {run.max_steps}; the run was not finished")
    return found


def _other_versions(run: Run) -> list[str]:
    if len(run.scored) == len(run.evals):
        return []
    other = run.evals.drop(run.scored.index)
    kinds = ", ".join(sorted({f"{row.version} with the {row.parser} parser" for row in other.itertuples()}))
    own = f"{run.reward_version} with the {run.config.get('parser', 'unknown')} parser"
    first = int(other["line"].iloc[0])
    return [
        f"{EVAL}, line {first}: {len(other)} rows from here on are scored by {kinds}, not by the run's {own}; left out"
    ]


def _logged_curve(run: Run, task: str) -> pd.DataFrame:
    key = "eval/mean_reward" if task == ALL else f"eval/{task}"
    table = pd.DataFrame({"mean": run.series(key), "low": run.series(f"{key}_low"), "high": run.series(f"{key}_high")})
    return table.assign(n=math.nan).rename_axis("step")


def _first_samples(run: Run, step: int, split: str, mode: str, task: str) -> pd.DataFrame:
    rows = run.scored
    chosen = (rows["step"] == step) & (rows["split"] == split) & (rows["mode"] == mode) & (rows["task"] == task)
    return rows[chosen].sort_values("sample").groupby("record_id")[["completion", "total"]].first()


def _evenly_spaced(length: int, n: int) -> list[int]:
    """At most `n` positions of a list, first and last included.

    >>> _evenly_spaced(21, 3)
    [0, 10, 20]
    """
    if length <= n:
        return list(range(length))
    return [round(i * (length - 1) / (n - 1)) for i in range(n)] if n > 1 else [length // 2]


def _number(value: Any) -> float | None:
    """`value` as a float; "NaN" and "Infinity" are how the run record writes those. `None` for what is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def _is_step(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _warn(name: str, faults: Iterable[str], warnings: list[str]) -> None:
    listed = list(faults)
    warnings += [f"{name}, {fault}" for fault in listed[:_MAX_WARNINGS_A_FILE]]
    if len(listed) > _MAX_WARNINGS_A_FILE:
        warnings.append(f"{name}: {len(listed) - _MAX_WARNINGS_A_FILE} more lines like these")


def _short(path: Path) -> str:
    return str(path.relative_to(PROJECT_ROOT)) if path.is_relative_to(PROJECT_ROOT) else str(path)


def _rescored(run: Run, rows: pd.DataFrame, measured: Measured, pairs: Path) -> list[dict[Any, Any]]:
    """The rows of an evaluation scored again; the record must have answered the very records that `pairs` hold."""
    split = measured.split.removesuffix("_subset")
    file = f"{split}.jsonl"
    known = run.config.get("data", {}).get(file)
    if known != sha256((pairs / file).read_bytes()).hexdigest():
        raise UserError(f"{run.where}: answered another {file} than {pairs / file}; it cannot be scored again with it")
    records = {record["id"]: record for record in load_split(split, pairs)}
    first = rows.drop_duplicates(["record_id", "sample"])
    return [
        score_row(records[record], completion, measured.version, measured.parser)
        for record, completion in zip(first["record_id"], first["completion"], strict=True)
    ]
