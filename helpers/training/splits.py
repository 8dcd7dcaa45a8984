"""Evaluations of a whole split, at the ends of a run."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from helpers.core.progress import in_notebook, say
from helpers.policy import Policy, evaluation, generation
from helpers.runs.record import KNOWN_EVAL_SECONDS, split_prefix
from helpers.tasks.records import Rows
from helpers.training.plan import Plan
from helpers.training.track import Track


def eval_settings(settings: generation.Settings) -> generation.Settings:
    """How the whole eval split is asked: greedily too, since GRPO sharpens and the two gains differ, and tasks whose
    reward is noisiest several times."""
    return replace(settings, samples_by_task=evaluation.SAMPLES, greedy_too=True)


def evaluate_split(plan: Plan, policy: Policy, split: str, step: int, track: Track) -> Rows:
    """Answer a whole split, `eval` as `eval_settings` says; record the answers and return their rows."""
    records = plan.splits[split]
    settings = eval_settings(plan.settings) if split == "eval" else plan.settings
    if not in_notebook():
        say(f"step {step}: answering the {len(records)} prompts of the {split} split")
    answers = []
    for rows, metrics in evaluation.timed_by_mode(policy, records, settings, step, split):
        _record(rows, metrics, step, track)
        answers += rows
    track.collect_errors()
    return answers


def take_answers(rows: Rows, step: int, track: Track, seconds: Mapping[str, float]) -> Rows:
    """Record answers that the same policy gave before; returns them as those of `step`.

    `seconds` holds what they took then, by mode.
    """
    answers = [row | {"step": step} for row in rows]
    for mode in generation.MODES:
        of_mode = [row for row in answers if row["mode"] == mode]
        _record(of_mode, evaluation.summarize(of_mode) | {KNOWN_EVAL_SECONDS: seconds[mode]}, step, track)
    return answers


def split_seconds(history: Sequence[Mapping[str, Any]], step: int) -> dict[str, float]:
    """The seconds that answering the eval split took at `step`, by mode, read from a run's metric rows."""
    return {
        mode: row["time/eval_s"]
        for mode in generation.MODES
        for row in history
        if row["step"] == step and f"{split_prefix('eval', mode)}mean_reward" in row
    }


def _record(rows: Rows, metrics: dict[str, float], step: int, track: Track) -> None:
    track.recorder.log_eval(rows)
    prefix = split_prefix(rows[0]["split"], rows[0]["mode"])
    track.metrics(step, {key.replace("eval/", prefix): value for key, value in metrics.items()})
