"""The warm-up before GRPO: supervised training of a LoRA adapter on one task's pairs, with a run record of its own."""

from pathlib import Path
from typing import Any

from helpers.core import processes
from helpers.core.files import read_jsonl, shown
from helpers.core.tracking import NoRun
from helpers.policy import Policy, generation, lora, sft
from helpers.recipes import Recipe
from helpers.recipes.profiles import Profile
from helpers.runs.record import EVAL, RunRecorder, is_finished, require_same_run
from helpers.training import base_answers, callbacks

FOLDER = "warmup"
"""Where a run keeps its warm-up."""

Records = list[dict[str, Any]]


def warm_up(
    policy: Policy, splits: dict[str, Records], recipe: Recipe, profile: Profile, folder: Path, known: dict[str, Any]
) -> Policy:
    """`policy` with LoRA that was trained on the pairs of the recipe's `sft_task`; GRPO goes on with that very LoRA.

    `folder` gets the adapter and a run record: its first evaluation is the base policy's, its last the adapter's. The
    adapter of a finished warm-up of the same run (`known`, its identity) is loaded instead of trained again.
    """
    from transformers import set_seed

    set_seed(known["seed"])
    policy = lora.with_lora(policy, recipe)
    if is_finished(folder):
        require_same_run(folder, known)
        lora.restore_adapter(policy, folder / "adapter")
    else:
        _train(policy, splits, recipe, profile, folder, known)
    return policy


def last_answers(folder: Path) -> tuple[Records, dict[str, float]]:
    """What the policy answered after the warm-up in `folder`, as rows of eval.jsonl, and the seconds it took, a mode;
    nothing where there was no warm-up."""
    if not (folder / EVAL).is_file():
        return [], {}
    rows = [row for _, row in read_jsonl(folder / EVAL)]
    last = rows[-1]["step"]
    seconds = callbacks.split_seconds(RunRecorder(folder).read_metrics(), last)
    return [row for row in rows if row["step"] == last], seconds


def _train(
    policy: Policy, splits: dict[str, Records], recipe: Recipe, profile: Profile, folder: Path, known: dict[str, Any]
) -> None:
    recorder = RunRecorder(folder)
    recorder.truncate_after(-1)
    chosen = [record for record in splits["train"] if record["task"] == recipe.sft_task]
    recorder.write_config(known | _described(policy, recipe))
    recorder.log_event("start", 0, f"SFT on {len(chosen)} {recipe.sft_task} pairs")
    track = callbacks.Track(recorder, NoRun())
    settings = generation.settings_for(recipe, profile)
    base_answers.evaluate_base(policy, splits["eval"], settings, track)
    losses = _fine_tune(policy, chosen, recipe, profile, folder, known["seed"])
    for row in losses:
        recorder.log_metrics(int(row["step"]), {"train/loss": row["loss"]})
    step = int(losses[-1]["step"])
    callbacks.evaluate_split(policy, splits["eval"], "eval", step, settings, track)
    if processes.is_first():
        policy.model.save_pretrained(folder / "adapter")
    recorder.log_event("end", step, f"{step} steps")


def _fine_tune(
    policy: Policy, chosen: Records, recipe: Recipe, profile: Profile, folder: Path, seed: int
) -> list[dict[str, float]]:
    _, losses = sft.fine_tune(
        policy.model,
        policy.tokenizer,
        sft.chat_rows(chosen),
        folder / "sft",
        epochs=recipe.sft_epochs,
        batch=recipe.sft_batch,
        learning_rate=recipe.sft_learning_rate,
        max_length=recipe.max_seq_length,
        seed=seed,
        title=f"warm-up, SFT on {recipe.sft_task}",
        on_gpu=profile.device == "cuda",
    )
    return losses


def _described(policy: Policy, recipe: Recipe) -> dict[str, Any]:
    return {
        "policy": policy.name,
        "base_policy": shown(Path(policy.source)),
        "reward_version": recipe.version,
        "parser": recipe.parser,
    }
