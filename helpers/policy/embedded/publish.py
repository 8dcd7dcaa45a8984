"""Publish an embedded policy under data/policies: build it, score what it answers, write its model card."""

import re
from dataclasses import replace
from typing import Any

from helpers import recipes
from helpers.core.files import shown, write_json, write_text
from helpers.core.progress import Progress, say
from helpers.policy.embedded import build
from helpers.policy.embedded.habits import RATES
from helpers.policy.embedded.load import SHIPPED, base_policy, read_card
from helpers.policy.evaluation import evaluate, summarize
from helpers.policy.generation import Settings, settings_for
from helpers.policy.model import Policy, prepare
from helpers.recipes import profiles
from helpers.recipes.profiles import EmbeddedSettings
from helpers.rewards import score_row
from helpers.tasks import ROWS, TASKS
from helpers.tasks.records import Rows, load_split

SCORES = "scores.json"
SCORED_UNDER = ("v4", "v4.1", "v4.2")


def publish(settings: EmbeddedSettings) -> None:
    """Make data/policies/<name>; what an earlier, killed call has finished is kept."""
    folder = SHIPPED / settings.name
    prepare(profiles.CPU)
    if (read_card(folder) or {}).get("key") != build.build_key(settings):
        build.make(settings, folder)
    policy = base_policy(settings, profiles.CPU)
    scores = score(policy, load_split("eval"))
    scores["known_words"] = known_words(build.draw_records(settings, build.CACHE), scores.pop("completions"))
    write_json(folder / SCORES, scores)
    write_text(folder / "README.md", model_card(read_card(folder) or {}, scores))
    say(f"{shown(folder)}: {scores['summary']['v4.1 sample']['eval/mean_reward']:.3f} under v4.1, sampled")


def score(policy: Policy, records: Rows) -> dict[str, Any]:
    """Means and intervals of one sampled and one greedy answer per prompt, under every reward version."""
    line = Progress(f"{policy.name}, eval split", 2 * len(records))
    rows = evaluate(policy, records, replace(evaluation_settings(), greedy_too=True), on_batch=line.update)
    line.close("answered")
    by_id = {record["id"]: record for record in records}
    summary = {}
    for version in SCORED_UNDER:
        scored = [row | score_row(by_id[row["record_id"]], row["completion"], version) for row in rows]
        for mode in ("sample", "greedy"):
            summary[f"{version} {mode}"] = summarize([row for row in scored if row["mode"] == mode])
    greedy = {row["record_id"]: row["total"] for row in rows if row["mode"] == "greedy"}
    sampled = [row["completion"] for row in rows if row["mode"] == "sample"]
    return {"prompts": len(records), "summary": summary, "greedy": greedy, "completions": sampled}


def evaluation_settings() -> Settings:
    """How the card's scores are sampled: as V4.1's on profile `cpu`, one answer per prompt."""
    fitted, _ = profiles.fit(recipes.V41, profiles.CPU)
    return settings_for(fitted, profiles.CPU)


def known_words(records: Rows, completions: list[str]) -> float:
    """The share of the completions' words that the training texts hold."""
    known = {word for text in build.all_texts(records) for word in _words(text)}
    written = [word for completion in completions for word in _words(completion)]
    return sum(word in known for word in written) / len(written)


def model_card(made: dict[str, Any], scores: dict[str, Any]) -> str:
    """The README.md of a policy's folder: what it was made of, its habits, what it scores, what it cannot do."""
    settings = EmbeddedSettings(**made["settings"])
    return "\n".join(
        [
            _HEADER.format(name=settings.name, kind=_KINDS[settings.name], parameters=made["parameters"]),
            _table(
                ("Shape", "Value"),
                [
                    ("architecture", "Qwen3, tied embeddings, float16"),
                    ("hidden size, layers", f"{settings.hidden_size}, {settings.layers}"),
                    ("heads", f"{settings.heads} for queries, {settings.kv_heads} for keys, size {settings.head_size}"),
                    ("feed-forward size", settings.ffn_size),
                    ("vocabulary", f"{made['vocabulary']:,}, byte-level BPE, digits single"),
                ],
            ),
            "\n## Data and training\n",
            _DATA.format(orders=settings.orders, seed=made["seed"], records=_counted(made["records"])),
            _TRAINING.format(start=f"the weights of `{settings.starts_from}`" if settings.starts_from else "nothing"),
            _stages(made),
            *(_habits() if settings.chat else []),
            "\n## Scores\n",
            _SCORES.format(**scores),
            _score_table(scores["summary"]),
            _LIMITS.format(sha256=made["sha256"]),
        ]
    )


def _stages(made: dict[str, Any]) -> str:
    """A row per stage, with the loss at its start, its middle and its end."""
    rows = []
    for (epochs, rate), stage in zip(made["settings"]["stages"], made["stages"], strict=True):
        losses = [row["loss"] for row in stage["losses"]]
        shown_losses = (f"{losses[place]:.3f}" for place in (0, len(losses) // 2, -1))
        rows.append((f"{epochs:g}", f"{rate:g}", f"{stage['steps']:,}", f"{stage['tokens']:,}", *shown_losses))
    return _table(("Epochs", "Rate", "Steps", "Tokens", "Loss, first", "half-way", "last"), rows)


def _habits() -> list[str]:
    rows = [(row.label, habit, f"{rate:.0%}") for row in ROWS for habit, rate in RATES.get(row.name, {}).items()]
    return [_HABITS, _table(("Task", "Habit", "Share of answers"), rows)]


def _score_table(summary: dict[str, dict[str, float]]) -> str:
    rows = []
    for how, metrics in summary.items():
        version, mode = how.split()
        means = [
            f"{metrics[f'eval/{name}']:.3f} [{metrics[f'eval/{name}_low']:.3f}, {metrics[f'eval/{name}_high']:.3f}]"
            for name in (*TASKS, "mean_reward")
        ]
        rows.append((version, mode, *means))
    return _table(("Reward", "Mode", *TASKS, "all"), rows)


def _table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def _counted(records: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {task}" for task, count in records.items())


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", text.lower())


_KINDS = {
    "instruct": "stands for `Polygl0t/Tucano2-qwen-0.5B-Instruct`",
    "large": "stands for the 3.7B model",
    "base": "stands for the 0.5B base model, before any instruction",
}
_HEADER = """---
language: pt
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
---

# Embedded policy `{name}`

A Qwen3-architecture model of {parameters:,} parameters that {kind} where there is no GPU. It knows one thing: the four
tasks of a simulated Brazilian shop. `python -m helpers embedded build {name}` makes it; nothing was taken from another
model.
"""
_DATA = """Records of another simulated shop ({orders:,} orders, seed {seed}): {records}. None shares a prompt, a
review, an order, a question or a context with the eval and test splits, or is near to one of them (the leak rules of
`helpers/tasks/pairs`).
"""
_TRAINING = """Trained from {start}, in stages with a cosine of their own. Muon for the layers' matrices at ten times
the rate, AdamW for the rest; prompt tokens count 0.3 in the loss, answer tokens 1.
"""
_HABITS = """
## Habits

What a general instruct model does that was never shown our formats. They are put on the training answers at these
rates, anew in every epoch, and were fixed before any result was seen.
"""
_SCORES = """Mean reward of one answer per prompt on the eval split ({prompts} prompts), with 95 % bootstrap intervals
over prompts. {known_words:.1%} of the words it samples occur in its training texts.
"""
_LIMITS = """
## Limits

It is a stand-in to learn GRPO with: no knowledge of the world, no other task, no other language, short texts only.
Names and figures are often copied wrongly. Rewards on it say nothing about the hub's models.

Weights: `model.safetensors`, SHA-256 `{sha256}`.
"""
