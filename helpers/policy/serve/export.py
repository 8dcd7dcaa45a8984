"""Export: a trained run as files for elsewhere, checked by answering the same prompts before and after.

    adapter/      the LoRA adapter with tokenizer and chat template
    merged/       base and adapter as one bfloat16 model (on request)
    README.md     a model card with the record's facts
    export.json   how the check was made and what it found

The exported adapter must give the very texts that the run gives. Rounding to 16 bits changes texts, as greedy decoding
takes another turn at the first near tie: the merged model must agree within a tolerance, in texts and in reward.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from helpers.core import stats
from helpers.core.errors import UserError
from helpers.core.files import write_json, write_text
from helpers.core.progress import Progress
from helpers.core.stats import Interval
from helpers.policy import evaluation, loading
from helpers.policy.loading import Policy
from helpers.policy.run_policy import Origin, RunPolicy, load_run_policy, read_origin
from helpers.runs import analysis
from helpers.runs.load import Run, load_run
from helpers.tasks import ROWS, TASKS
from helpers.tasks.records import load_split

PROMPTS = 40
SELECTION = "of each task's records in the eval split, in file order, the same number at even steps"

REWARD_WITHIN = 0.05
"""How far the merged model's mean reward may lie from the run's, paired by prompt; the interval is told beside it.

Measured on a CPU run of V4.1 (seed 1): +0.016 [-0.009, +0.045] over 40 prompts, +0.014 [+0.004, +0.024] over 200.
"""
IDENTICAL_AT_LEAST = 0.25
"""The share of texts that the merged model repeats letter by letter. Measured on the same run: 17 of 40, 91 of 200."""


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
        return all(found.agrees for found in self.checks.values())


def export_run(folder: Path, out: Path, merged: bool = False, prompts: int = PROMPTS) -> Export:
    """Export the run in `folder` to `out`: its adapter, with `merged` the 16-bit model too, a model card, the check.

    `out` appears only when it is whole and agrees with the run; what does not agree is left in `<out>.rejected`.
    Raises `UserError` where `out` is there already, the run has no adapter, or `prompts` is not a fair number.
    """
    if out.exists():
        raise UserError(f"{out}: already there; give another --out, or remove it first")
    selected = selection(prompts)
    origin = read_origin(folder)
    loading.require_adapter(folder / "adapter")
    building = out.with_name(f".{out.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    try:
        _copy_adapter(folder / "adapter", building / "adapter", origin)
        if merged:
            _write_merged(folder, building / "merged")
        checks = check(folder, building, prompts)
        _describe(folder, origin, building, checks, selected)
        agrees = all(found.agrees for found in checks.values())
        for path in building.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)  # safetensors files come readable for their owner alone
        final = out if agrees else out.with_name(f"{out.name}.rejected")
        shutil.rmtree(final, ignore_errors=True)
        building.rename(final)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return Export(final, checks)


def check(folder: Path, exported: Path, prompts: int = PROMPTS) -> dict[str, Agreement]:
    """Answer eval prompts with the run in `folder` and with what `exported` holds, and compare: part -> agreement."""
    selected = selection(prompts)
    before = _answers(load_run_policy(folder), selected, "the run")
    after = _answers(load_exported_adapter(folder, exported / "adapter"), selected, "the exported adapter")
    found = {"adapter": compare(before, after, exact=True)}
    if (exported / "merged").is_dir():
        after = _answers(load_merged(folder, exported / "merged"), selected, "the merged 16-bit model")
        found["merged"] = compare(before, after)
    return found


def compare(before: Sequence[dict[str, Any]], after: Sequence[dict[str, Any]], exact: bool = False) -> Agreement:
    """The agreement of two evaluations of the same prompts in the same order; `exact` asks for identical texts."""
    identical = sum(old["completion"] == new["completion"] for old, new in zip(before, after, strict=True))
    difference = stats.paired_difference([row["total"] for row in before], [row["total"] for row in after])
    close = identical >= IDENTICAL_AT_LEAST * len(before) and abs(difference.mean) <= REWARD_WITHIN
    return Agreement(identical, len(before), difference, identical == len(before) if exact else close)


def selection(prompts: int = PROMPTS) -> list[dict[str, Any]]:
    """The eval records that a check asks: `SELECTION`. `UserError` where the number cannot be shared out."""
    a_task, rest = divmod(prompts, len(TASKS))
    if rest or a_task < 2:
        raise UserError(
            f"--prompts {prompts}: the {len(TASKS)} tasks share them, at least 2 each; give 8, 12 ... 40 ..."
        )
    by_task = [[record for record in load_split("eval") if record["task"] == task] for task in TASKS]
    if a_task > min(map(len, by_task)):
        raise UserError(f"--prompts {prompts}: the eval split has {min(map(len, by_task))} records of a task")
    return [rows[place * len(rows) // a_task] for rows in by_task for place in range(a_task)]


def load_exported_adapter(folder: Path, adapter: Path) -> RunPolicy:
    """An export's adapter on the base policy of the run in `folder`."""
    base = load_run_policy(folder, adapter=None)
    return replace(base, policy=loading.load_adapter(base.policy, adapter))


def load_merged(folder: Path, merged: Path) -> RunPolicy:
    """The 16-bit model of an export, on the device and with the lengths of the run in `folder`."""
    origin = read_origin(folder)
    profile = replace(origin.profile, dtype="bfloat16", load_in_4bit=False)
    loading.prepare(profile)
    return RunPolicy(loading.load(str(merged), profile), origin.recipe, profile)


def _answers(found: RunPolicy, records: list[dict[str, Any]], title: str) -> list[dict[str, Any]]:
    settings = evaluation.settings_for(found.recipe, found.profile, "greedy")
    line = Progress(f"export check, {title}", len(records))
    rows = evaluation.evaluate(found.policy, records, settings, on_batch=line.update)
    line.close(f"{len(rows)} greedy answers")
    return rows


def _copy_adapter(source: Path, target: Path, origin: Origin) -> None:
    """The adapter without the trainer's pickle and card; its config names the base and no path of this machine."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("training_args.bin", "README.md"))
    config = target / "adapter_config.json"
    write_json(config, json.loads(config.read_text(encoding="utf-8")) | {"base_model_name_or_path": origin.base})


def _write_merged(folder: Path, target: Path) -> None:
    """Merge in 32 bits, then round once: a merge into 16-bit weights would lose most of a small update."""
    import torch

    policy: Policy = load_run_policy(folder, dtype="float32").policy
    whole = policy.model.merge_and_unload().to(torch.bfloat16)
    whole.save_pretrained(target)
    policy.tokenizer.save_pretrained(target)


def _describe(
    folder: Path, origin: Origin, building: Path, checks: dict[str, Agreement], selected: list[dict[str, Any]]
) -> None:
    """README.md and export.json."""
    run = load_run(folder)
    write_text(building / "README.md", _card(run, origin, checks, len(selected)))
    facts = {
        "run": run.name,
        "base": origin.base,
        "split": "eval",
        "mode": "greedy",
        "reward_version": origin.recipe.version,
        "selection": SELECTION,
        "record_ids": [record["id"] for record in selected],
        "tolerance": {"identical_at_least": IDENTICAL_AT_LEAST, "reward_within": REWARD_WITHIN},
        "checks": {name: asdict(found) for name, found in checks.items()},
        "agrees": all(found.agrees for found in checks.values()),
    }
    write_json(building / "export.json", facts)


def _card(run: Run, origin: Origin, checks: dict[str, Agreement], prompts: int) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=loader, undefined=StrictUndefined, keep_trailing_newline=True)
    gains = [
        (mode, task, gain) for mode in evaluation.MODES for task, gain in analysis.gains(run, "eval", mode).items()
    ]
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
