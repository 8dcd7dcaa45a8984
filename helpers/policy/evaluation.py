"""Evaluation: answer a set of prompts, score every completion, keep all of it."""

import json
import time
from collections.abc import Callable
from typing import Any

from helpers.core import processes, stats
from helpers.policy.generation import Settings, generate
from helpers.policy.model import Policy
from helpers.rewards import score_row
from helpers.runs import analysis
from helpers.tasks import JSON_TASK, ROWS, TASKS
from helpers.tasks.records import Rows

SAMPLES = {row.name: row.samples for row in ROWS}
"""How often a whole eval split samples each task's prompts: more where 65 rewards are too noisy a mean."""


def evaluate(
    policy: Policy,
    records: Rows,
    settings: Settings,
    step: int = 0,
    split: str = "eval",
    on_batch: Callable[[int], None] | None = None,
) -> Rows:
    """Answer and score `records`: one row per completion, in the form of a run record's eval.jsonl.

    Of several processes each answers its share of the prompts, and all get the rows of all, in one process's order.
    """
    # All answers to a prompt are requested together, so that it is read once.
    requests = [
        (settings.mode, sample, record)
        for sample in range(max([settings.samples, *settings.samples_by_task.values()]))
        for record in records
        if sample < settings.samples_by_task.get(record["task"], settings.samples)
    ]
    if settings.greedy_too:
        requests += [("greedy", 0, record) for record in records]
    places = _own_places(policy, [record["prompt"] for _, _, record in requests])
    own = [requests[place] for place in places]
    modes = [mode for mode, _, _ in own]
    answers = generate(policy, [record["prompt"] for _, _, record in own], settings, on_batch, modes) if own else []
    rows = []
    for (mode, sample, record), answer in zip(own, answers, strict=True):
        lengths = {
            "prompt_tokens": answer.prompt_tokens,
            "completion_tokens": answer.completion_tokens,
            "clipped": answer.clipped,
        }
        where = {"step": step, "split": split, "mode": mode, "sample": sample}
        rows.append(where | score_row(record, answer.text, settings.version, settings.parser) | lengths)
    by_place = dict(processes.gather(list(zip(places, rows, strict=True))))
    return [by_place[place] for place in range(len(requests))]


def _own_places(policy: Policy, prompts: list[list[dict[str, str]]]) -> list[int]:
    """The places of the prompts that this process answers: repeats of a prompt together, since they share its seed."""
    if policy.by_first:
        return list(range(len(prompts))) if processes.is_first() else []
    repeats: dict[str, list[int]] = {}
    for place, prompt in enumerate(prompts):
        repeats.setdefault(json.dumps(prompt), []).append(place)
    by_size = sorted(repeats, key=lambda prompt: (len(repeats[prompt]), len(prompt)))
    return sorted(place for prompt in processes.share(by_size) for place in repeats[prompt])


def timed_evaluate(*args: Any, **kwargs: Any) -> tuple[Rows, dict[str, float]]:
    """`evaluate` in one mode, with its summary and throughput as one dict of metrics."""
    ((rows, metrics),) = timed_by_mode(*args, **kwargs)
    return rows, metrics


def timed_by_mode(*args: Any, **kwargs: Any) -> list[tuple[Rows, dict[str, float]]]:
    """`evaluate`'s rows and metrics of each mode; a mode's seconds are its share of the generated tokens."""
    started = time.monotonic()
    rows = evaluate(*args, **kwargs)
    seconds = time.monotonic() - started
    results = []
    for mode in dict.fromkeys(row["mode"] for row in rows):
        own = [row for row in rows if row["mode"] == mode]
        tokens = sum(row["completion_tokens"] for row in own)
        own_seconds = seconds * tokens / sum(row["completion_tokens"] for row in rows)
        speed = {
            "time/eval_s": round(own_seconds, 2),
            "time/eval_tokens_per_s": round(tokens / own_seconds, 1),
        }
        results.append((own, summarize(own) | speed))
    return results


def summarize(rows: Rows) -> dict[str, float]:
    """Means and 95 % intervals over prompts: `eval/mean_reward`, `eval/<task>`, each with `_low` and `_high`."""
    totals = {task: list(rewards.values()) for task, rewards in analysis.rewards_by_prompt(rows).items()}
    intervals = {"mean_reward": stats.stratified_mean(totals)}
    intervals |= {task: stats.bootstrap_mean(values) for task, values in totals.items()}
    summary: dict[str, float] = {}
    for name, interval in intervals.items():
        summary |= {f"eval/{name}": interval.mean, f"eval/{name}_low": interval.low, f"eval/{name}_high": interval.high}
    extractions = [row for row in rows if row["task"] == JSON_TASK]
    if extractions:
        repaired = sum(bool(row["repairs"]) for row in extractions)
        summary["eval/repaired_share/extraction"] = repaired / len(extractions)
    summary["eval/completion_length"] = sum(row["completion_tokens"] for row in rows) / len(rows)
    summary["eval/clipped_ratio"] = sum(row["clipped"] for row in rows) / len(rows)
    return summary


def report(metrics: dict[str, float], settings: Settings) -> str:
    """A summary's means and intervals as lines of text, with how they were obtained."""
    lines = [f"reward {settings.version}, mode {settings.mode}, {settings.samples} a prompt, seed {settings.seed}"]
    for name in ("mean_reward", *TASKS):
        if f"eval/{name}" in metrics:
            mean, low, high = (metrics[f"eval/{name}{end}"] for end in ("", "_low", "_high"))
            lines.append(f"  {name:<12} {mean:.3f} [{low:.3f}, {high:.3f}]")
    lines.append(f"  {metrics['time/eval_tokens_per_s']:.0f} tokens/s, {metrics['eval/clipped_ratio']:.1%} clipped")
    return "\n".join(lines)
