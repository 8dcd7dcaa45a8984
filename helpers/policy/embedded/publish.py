"""Publish an embedded policy under data/policies: build it, score what it answers, write its model card."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

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
from helpers.tasks import ROWS
from helpers.tasks.records import Rows, load_split

SCORES = "scores.json"
SCORED_UNDER = ("v4", "v4.1", "v4.2")


def publish(settings: EmbeddedSettings) -> None:
    """Make data/policies/<name>; what an earlier, killed call has finished is kept."""
    folder = SHIPPED / settings.name
    prepare(profiles.get("cpu"))
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
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=loader, undefined=StrictUndefined, keep_trailing_newline=True)
    settings = EmbeddedSettings(**made["settings"])
    return environment.get_template("card.md.j2").render(
        made=made, scores=scores, settings=settings, kind=_KINDS[settings.name], rows=ROWS, rates=RATES
    )


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", text.lower())


_KINDS = {
    "instruct": "stands for `Polygl0t/Tucano2-qwen-0.5B-Instruct`",
    "large": "stands for the 3.7B model",
    "base": "stands for the 0.5B base model, before any instruction",
}
