"""Run records made from chosen means, noise and sizes, where the truth is known; written through the real recorder."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats as distributions

from helpers.rewards import WEIGHTS
from helpers.runs.record import RunRecorder
from helpers.tasks import ROWS, TASKS
from helpers.tasks.records import EVAL_SUBSET

SUBSET = EVAL_SUBSET
FULL, RECORDS = ({row.name: row.counts[split] for row in ROWS} for split in ("eval", "train"))
PARTS = {task: tuple(WEIGHTS["v4.1"][task]) for task in TASKS}
FIELDS = (
    '"complaint_category": "none", "churn_risk": "low", "urgency": "low", "delivery_issue": false, '
    '"product_issue": false, "seller_issue": false, "would_buy_again": true, "main_complaint": null'
)


def steadily(share: float) -> float:
    """Learning in a straight line from start to end."""
    return share


def early_then_flat(share: float) -> float:
    """All learning in the first fifth of the run, as V4."""
    return min(1.0, share / 0.2)


@dataclass(frozen=True)
class Spec:
    """A synthetic run: each task's true mean reward at the start and the end, and how it gets there.

    `spread` is the concentration of the Beta distribution of rewards (5: standard deviation about 0.2 at a mean of
    0.5); infinity gives every prompt its task's mean exactly. `rho` is the correlation of a prompt's two rewards.
    """

    start: Mapping[str, float]
    end: Mapping[str, float]
    recipe: str = "v4.1"
    version: str = "v4.1"
    parser: str = "tolerant"
    policy: str = "embedded"
    max_steps: int = 600
    eval_every: int = 60
    shape: Callable[[float], float] = steadily
    spread: float = 5.0
    rho: float = 0.6
    seed: int = 0
    prompts: int = 7
    full: Mapping[str, int] = field(default_factory=lambda: FULL)
    stopped_at: int | None = None
    completions: bool = True

    @property
    def last_step(self) -> int:
        return self.max_steps if self.stopped_at is None else self.stopped_at

    def mean(self, task: str, step: int) -> float:
        share = self.shape(step / self.max_steps)
        return self.start[task] + share * (self.end[task] - self.start[task])


def means(overall: float, **lower: float) -> dict[str, float]:
    """Task means whose plain mean over equal sizes is `overall`, with the tasks in `lower` fixed."""
    rest = [task for task in TASKS if task not in lower]
    other = (overall * len(TASKS) - sum(lower.values())) / len(rest)
    return {task: lower.get(task, other) for task in TASKS}


def write_run(folder: Path, spec: Spec) -> Path:
    """Write the run record of `spec` to `folder`."""
    recorder = RunRecorder(folder)
    recorder.write_config(config(spec))
    recorder.log_event("start", 0, "synthetic run")
    for row in metric_rows(spec):
        recorder.log_metrics(row.pop("step"), row)
    recorder.log_eval(eval_rows(spec))
    recorder.log_event("end", spec.last_step, f"{spec.last_step} steps")
    return folder


def config(spec: Spec) -> dict[str, Any]:
    share = 2 * spec.max_steps / sum(RECORDS.values())
    return {
        "name": spec.recipe,
        "recipe": {"name": spec.recipe, "max_completion_length": 512, "beta": 0.0, "max_steps": spec.max_steps},
        "profile": {"name": "cpu"},
        "seed": spec.seed,
        "policy": spec.policy,
        "base_policy": "runs/base",
        "reward_version": spec.version,
        "parser": spec.parser,
        "max_steps": spec.max_steps,
        "eval_every": spec.eval_every,
        "coverage": {
            task: {"records": count, "expected_prompts": round(count * share, 1), "share": round(share, 3)}
            for task, count in RECORDS.items()
        },
        "started": "2026-01-01T00:00:00+00:00",
        "command": "python -m tests.synthetic_runs",
    }


def metric_rows(spec: Spec) -> list[dict[str, Any]]:
    """A training row per step, and an evaluation row every `eval_every` steps (as means without scored completions)."""
    rng = np.random.default_rng(spec.seed)
    rows = []
    for step in range(spec.last_step + 1):
        if step:
            rows.append(_training_row(spec, step, rng))
        if step % spec.eval_every == 0:
            by_task = {task: spec.mean(task, step) for task in TASKS}
            overall = sum(SUBSET[task] * by_task[task] for task in TASKS) / sum(SUBSET.values())
            rows.append({"step": step, "eval/mean_reward": overall} | {f"eval/{t}": m for t, m in by_task.items()})
    return rows


def eval_rows(spec: Spec) -> Iterator[dict[str, Any]]:
    """Scored completions: the subset every `eval_every` steps, the full split at the start and the end."""
    for step in sorted({*range(0, spec.last_step + 1, spec.eval_every), spec.last_step}):
        yield from _evaluation(spec, "eval_subset", SUBSET, step)
    for step in (0, spec.last_step):
        yield from _evaluation(spec, "eval", spec.full, step)


def end_rewards(spec: Spec) -> dict[str, dict[str, float]]:
    """Task -> record id -> reward of the full split at the last step, without writing a record."""
    rewards: dict[str, dict[str, float]] = {task: {} for task in TASKS}
    for row in _evaluation(spec, "eval", spec.full, spec.last_step):
        rewards[row["task"]][row["record_id"]] = row["total"]
    return rewards


def _evaluation(spec: Spec, split: str, sizes: Mapping[str, int], step: int) -> Iterator[dict[str, Any]]:
    for number, task in enumerate(TASKS):
        totals = _rewards(spec, number, step, sizes[task], spec.mean(task, step))
        rng = np.random.default_rng((spec.seed, number, step, 99))
        for index, total in enumerate(totals):
            yield {
                "step": step,
                "split": split,
                "mode": "sample",
                "sample": 0,
                "record_id": f"{task}-{split}-{index:04d}",
                "task": task,
                "version": spec.version,
                "parser": spec.parser,
                "total": round(float(total), 6),
                "parts": dict.fromkeys(PARTS[task], round(float(total), 6)),
                "flags": [],
                "repairs": ["decimal_comma"] if task == "extraction" and rng.random() < 0.3 else [],
                "prompt_tokens": 200,
                "completion_tokens": 120,
                "clipped": False,
                "completion": _completion(task, index, step) if spec.completions else "",
            }


def _rewards(spec: Spec, number: int, step: int, n: int, mean: float) -> np.ndarray:
    if math.isinf(spec.spread) or mean in (0.0, 1.0):
        return np.full(n, mean)
    prompt = np.random.default_rng((spec.prompts, number)).standard_normal(n)
    chance = np.random.default_rng((spec.seed, number, step)).standard_normal(n)
    quantile = distributions.norm.cdf(math.sqrt(spec.rho) * prompt + math.sqrt(1 - spec.rho) * chance)
    return distributions.beta.ppf(quantile, mean * spec.spread, (1 - mean) * spec.spread)


def _completion(task: str, index: int, step: int) -> str:
    if task != "extraction":
        return f"resposta {index} no passo {step}: <b>10%</b> de desconto & frete grátis"
    score = "4,5" if index % 3 == 0 else "4.5"
    return f'{{"sentiment": "positive", "sentiment_score": {score}, {FIELDS}}}'


def _training_row(spec: Spec, step: int, rng: np.random.Generator) -> dict[str, Any]:
    by_task = {task: spec.mean(task, step) for task in TASKS}
    overall = sum(by_task.values()) / len(by_task)
    seen = 2 * step / sum(RECORDS.values())
    return (
        {
            "step": step,
            "train/reward": overall + 0.05 * rng.standard_normal(),
            "train/reward_std": 0.15,
            "train/completion_length": 180 + 10 * rng.standard_normal(),
            "train/clipped_ratio": 0.03,
            "train/frac_reward_zero_std": float(rng.choice([0.0, 0.5], p=[0.8, 0.2])),
            "train/grad_norm": abs(0.2 + 0.03 * rng.standard_normal()),
            "train/learning_rate": 5e-6 * min(1.0, (step - 1) / max(1, 0.05 * spec.max_steps)),
            "train/entropy": 1.2 - 0.6 * step / spec.max_steps,
            "train/loss": 0.01 * rng.standard_normal(),
        }
        | {f"train/reward/{task}": by_task[task] + 0.05 * rng.standard_normal() for task in TASKS}
        | {f"train/prompts_seen/{task}": round(count * seen) for task, count in RECORDS.items()}
    )
