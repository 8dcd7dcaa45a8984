"""Export: a trained run as files to use elsewhere, checked by answering the same prompts before and after.

    adapter/      the LoRA adapter with tokenizer and chat template
    merged/       base and adapter as one bfloat16 model (on request)
    README.md     a model card with the record's facts
    export.json   how the check was made, and its result

The exported adapter must give exactly the run's texts. Rounding to 16 bits changes texts, because greedy decoding takes
another turn at the first near tie: the merged model must agree within a tolerance, in texts and in reward.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from helpers.core import stats
from helpers.core.errors import UserError
from helpers.core.files import write_json, write_text
from helpers.core.progress import Progress
from helpers.core.stats import Interval
from helpers.policy.evaluation import evaluate
from helpers.policy.generation import MODES, settings_for
from helpers.policy.loading import RunPolicy, load_run_policy
from helpers.policy.lora import load_adapter, require_adapter
from helpers.policy.model import load, prepare
from helpers.runs import analysis
from helpers.runs.load import Run, load_run
from helpers.runs.origin import Origin, read_origin
from helpers.tasks import ROWS, TASKS
from helpers.tasks.records import count_by_task, eval_subset, load_split

PROMPTS = 40
SELECTION = "of each task's records in the eval split, in file order, the same number at even steps"

REWARD_WITHIN = 0.05
"""How far the merged model's mean reward may lie from the run's, paired by prompt."""

IDENTICAL_AT_LEAST = 0.25
"""The share of texts that the merged model must repeat letter by letter."""


@dataclass(frozen=True)
class Agreement:
    """Two sets of greedy answers to the same prompts: how many texts are identical, and how far rewards differ.

    `difference` is the exported policy's mean reward minus the run's, paired by prompt.
    """

    identical: int
    prompts: int
    difference: Interval
    agrees: bool

    def __str__(self) -> str:
        verdict = "agrees" if self.agrees else "DOES NOT AGREE"
        texts = f"{self.identical} of {self.prompts} texts identical"
        return f"{texts}, mean reward {self.difference.signed()} against the run: {verdict}"


@dataclass(frozen=True)
class Export:
    """What was exported, where it lies, and whether each part agrees with the run."""

    folder: Path
    checks: dict[str, Agreement]

    @property
    def agrees(self) -> bool:
        """Whether every part that was exported answers as the run does."""
        return all(check.agrees for check in self.checks.values())


def export_run(folder: Path, out: Path, merged: bool = False, prompts: int = PROMPTS) -> Export:
    """Export the run in `folder` to `out`: its adapter, with `merged` the 16-bit model too, a model card, the check.

    `out` appears only when it is whole and agrees with the run; what does not agree is left in `<out>.rejected`.
    Raises `UserError` where `out` exists, the run has no adapter, or the tasks cannot share `prompts` evenly.
    """
    if out.exists():
        raise UserError(f"{out}: already there; give another --out, or remove it first")
    selected = selection(prompts)
    origin = read_origin(folder)
    require_adapter(folder / "adapter")
    building = out.with_name(f".{out.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    try:
        _copy_adapter(folder / "adapter", building / "adapter", origin)
        if merged:
            _write_merged(folder, building / "merged")
        checks = check(folder, building, prompts)
        done = Export(out, checks)
        if not done.agrees:
            done = replace(done, folder=out.with_name(f"{out.name}.rejected"))
        write_text(building / "README.md", _card(load_run(folder), origin, checks, prompts))
        write_json(building / "export.json", _facts(folder, origin, done, selected))
        for path in building.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)  # safetensors files come readable for their owner alone
        shutil.rmtree(done.folder, ignore_errors=True)
        building.rename(done.folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return done


def check(folder: Path, exported: Path, prompts: int = PROMPTS) -> dict[str, Agreement]:
    """Answer eval prompts with the run in `folder` and with what `exported` holds, and compare: part -> agreement."""
    selected = selection(prompts)
    origin = read_origin(folder)
    before = _answers(load_run_policy(folder), selected, "the run")
    base = load_run_policy(folder, adapter=None)
    adapter = replace(base, policy=load_adapter(base.policy, exported / "adapter"))
    checks = {"adapter": compare(before, _answers(adapter, selected, "the exported adapter"), exact=True)}
    if (exported / "merged").is_dir():
        profile = replace(origin.profile, dtype="bfloat16", load_in_4bit=False)
        prepare(profile)
        merged = RunPolicy(load(str(exported / "merged"), profile), origin.recipe, profile)
        checks["merged"] = compare(before, _answers(merged, selected, "the merged 16-bit model"))
    return checks


def compare(before: Sequence[dict[str, Any]], after: Sequence[dict[str, Any]], exact: bool = False) -> Agreement:
    """The agreement of two evaluations of the same prompts in the same order; `exact` asks for identical texts."""
    identical = sum(old["completion"] == new["completion"] for old, new in zip(before, after, strict=True))
    difference = stats.paired_difference([row["total"] for row in before], [row["total"] for row in after])
    close = identical >= IDENTICAL_AT_LEAST * len(before) and abs(difference.mean) <= REWARD_WITHIN
    return Agreement(identical, len(before), difference, identical == len(before) if exact else close)


def selection(prompts: int = PROMPTS) -> list[dict[str, Any]]:
    """The eval records that a check asks, as `SELECTION` says. `UserError` where the tasks cannot share the number."""
    per_task, rest = divmod(prompts, len(TASKS))
    if rest or per_task < 2:
        raise UserError(
            f"--prompts {prompts}: the {len(TASKS)} tasks share them, at least 2 each; give 8, 12 ... 40 ..."
        )
    records = load_split("eval")
    fewest = min(count_by_task(records).values())
    if per_task > fewest:
        raise UserError(f"--prompts {prompts}: the eval split has {fewest} records of a task")
    return eval_subset(records, dict.fromkeys(TASKS, per_task))


def _answers(run_policy: RunPolicy, records: list[dict[str, Any]], title: str) -> list[dict[str, Any]]:
    settings = settings_for(run_policy.recipe, run_policy.profile, "greedy")
    line = Progress(f"export check, {title}", len(records))
    rows = evaluate(run_policy.policy, records, settings, on_batch=line.update)
    line.close(f"{len(rows)} greedy answers")
    return rows


def _copy_adapter(source: Path, target: Path, origin: Origin) -> None:
    """The adapter without the trainer's pickle and card; its config names the base and no path of this machine."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("training_args.bin", "README.md"))
    config = target / "adapter_config.json"
    write_json(config, json.loads(config.read_text(encoding="utf-8")) | {"base_model_name_or_path": origin.base})


def _write_merged(folder: Path, target: Path) -> None:
    """Merge in 32 bits, then round once: a merge into 16-bit weights would lose most of a small update."""
    policy = load_run_policy(folder, dtype="float32").policy
    policy.model.merge_and_unload().to(torch.bfloat16).save_pretrained(target)
    policy.tokenizer.save_pretrained(target)


def _facts(folder: Path, origin: Origin, done: Export, selected: list[dict[str, Any]]) -> dict[str, Any]:
    """The content of export.json."""
    return {
        "run": folder.resolve().name,
        "base": origin.base,
        "split": "eval",
        "mode": "greedy",
        "reward_version": origin.recipe.version,
        "selection": SELECTION,
        "record_ids": [record["id"] for record in selected],
        "tolerance": {"identical_at_least": IDENTICAL_AT_LEAST, "reward_within": REWARD_WITHIN},
        "checks": {name: asdict(agreement) for name, agreement in done.checks.items()},
        "agrees": done.agrees,
    }


def _card(run: Run, origin: Origin, checks: dict[str, Agreement], prompts: int) -> str:
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=loader, undefined=StrictUndefined, keep_trailing_newline=True)
    gains = [(mode, task, gain) for mode in MODES for task, gain in analysis.gains(run, "eval", mode).items()]
    return environment.get_template("model_card.md.j2").render(
        run=run,
        origin=origin,
        recipe=origin.recipe,
        hub_base=origin.profile.embedded is None,
        merged="merged" in checks,
        checks=checks,
        prompts=prompts,
        gains=gains,
        system_prompts={row.name: row.system_prompt for row in ROWS},
    )
