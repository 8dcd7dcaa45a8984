"""The warm-up before GRPO: supervised training of LoRA on one task's pairs, with a run record of its own."""

from pathlib import Path

from helpers.core import processes
from helpers.core.errors import UserError
from helpers.core.files import read_jsonl
from helpers.policy import Policy, lora, sft
from helpers.runs.record import EVAL, WARM_UP, RunRecorder, is_finished, require_same_run
from helpers.tasks.records import Rows
from helpers.training import base_answers, splits
from helpers.training.plan import Plan
from helpers.training.track import Track, describe_policy


def warm_up(plan: Plan, policy: Policy) -> Policy:
    """`policy` with LoRA trained on the pairs of the recipe's `sft_task`; GRPO then trains that same LoRA.

    The warm-up's folder gets the adapter and a run record, whose first evaluation is the base policy's and whose last
    is the adapter's. If the folder holds this run's finished warm-up, its adapter is loaded. Raises `UserError` where
    the policy has been trained already, as by a warm-up that was interrupted.
    """
    from transformers import set_seed

    folder = plan.folder / WARM_UP
    set_seed(plan.seed)
    policy = lora.with_lora(policy, plan.recipe)
    if is_finished(folder):
        require_same_run(folder, plan.identity)
        lora.restore_adapter(policy, folder / "adapter")
    elif lora.moved(policy.model):
        raise UserError(lora.TRAINED)
    else:
        _train(plan, policy, folder)
    return policy


def last_answers(plan: Plan) -> tuple[Rows, dict[str, float]]:
    """The warmed-up policy's answers, as rows of eval.jsonl, and the seconds they took, by mode; empty if there was no
    warm-up."""
    folder = plan.folder / WARM_UP
    if not (folder / EVAL).is_file():
        return [], {}
    rows = [row for _, row in read_jsonl(folder / EVAL)]
    last = rows[-1]["step"]
    return [row for row in rows if row["step"] == last], splits.split_seconds(RunRecorder(folder).read_metrics(), last)


def _train(plan: Plan, policy: Policy, folder: Path) -> None:
    recipe, recorder = plan.recipe, RunRecorder(folder)
    records = [record for record in plan.splits["train"] if record["task"] == recipe.sft_task]
    recorder.truncate_after(-1)
    recorder.write_config(plan.identity | describe_policy(plan, policy))
    recorder.log_event("start", 0, f"SFT on {len(records)} {recipe.sft_task} pairs")
    track = Track(recorder)
    base_answers.evaluate_base(plan, policy, track)
    arguments = sft.sft_arguments(
        folder / "sft",
        epochs=recipe.sft_epochs,
        batch=recipe.sft_batch // processes.count(),
        learning_rate=recipe.sft_learning_rate,
        max_length=recipe.max_seq_length,
        seed=plan.seed,
        profile=plan.profile,
    )
    title = f"warm-up, SFT on {recipe.sft_task}"
    _, losses = sft.fine_tune(policy.model, policy.tokenizer, sft.chat_rows(records), arguments, title)
    for row in losses:
        recorder.log_metrics(int(row["step"]), {"train/loss": row["loss"]})
    step = int(losses[-1]["step"])
    splits.evaluate_split(plan, policy, "eval", step, track)
    if processes.is_first():
        policy.model.save_pretrained(folder / "adapter")
    recorder.log_event("end", step, f"{step} steps")
