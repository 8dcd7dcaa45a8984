"""Training: a recipe on a profile becomes a run with its record. Also launchable by accelerate or torchrun:

python -m helpers.training --recipe v4.1 --profile cpu --out runs/v4.1

TRL's `GRPOTrainer` does the learning. Every setting that decides generation or loss is passed by name, then read back
from the trainer, because defaults differ between TRL versions and Unsloth changes them.
"""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from helpers import evaluation, models, profiles, recipes, rewards, stop_rules, tracking
from helpers.errors import UserError, require_known
from helpers.files import PROJECT_ROOT, read_jsonl
from helpers.models import Policy
from helpers.profiles import Profile
from helpers.progress import in_notebook
from helpers.recipes import Recipe
from helpers.records import PAIRS_DIR, count_by_task, eval_subset, load_records
from helpers.rewards import errors
from helpers.run_record import CONFIG, EVENTS, RunRecorder

_VERSIONED = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "tokenizers")
_CHECKPOINT_FILES = ("trainer_state.json", "adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth")


def train_grpo(
    recipe: Recipe,
    profile: Profile,
    folder: Path,
    seed: int = 0,
    resume: bool = False,
    on_eval: Callable[[Path], None] | None = None,
    stop: Sequence[str] = (),
    pairs: Path = PAIRS_DIR,
) -> Path:
    """Train `recipe` as `profile` can run it, from the profile's base policy; returns `folder`, the run record.

    The base policy and the final one both answer the whole eval split, sampled and greedy; the test split is answered
    once, at the end. Stop rules warn; those named in `stop` end the run. `resume` goes on from the newest whole
    checkpoint in `folder`, or starts where there is none.
    Raises `UserError` where `folder` already holds a run and `resume` is off, or the pairs are missing or malformed.
    """
    from transformers import set_seed

    from helpers import callbacks

    for name in stop:
        require_known("stop rule", name, tuple(rule.name for rule in stop_rules.RULES))
    fitted, changes = profiles.fit(recipe, profile)
    splits = _load_splits(pairs, profile)
    known = identity(fitted, profile, seed, pairs)
    checkpoint = _checkpoint_to_resume(folder, resume, known)
    policy = models.load_base(fitted, profile, pairs)
    set_seed(seed)
    recorder = RunRecorder(folder)
    recorder.truncate_after(_step_of(checkpoint) if checkpoint else -1)
    requested = grpo_arguments(fitted, profile, folder, seed)
    config = known | describe_run(fitted, changes, requested, policy, splits["train"])
    recorder.write_config(config)
    wandb_run = tracking.start(folder.name, folder / "wandb", config)
    track = callbacks.Track(recorder, wandb_run, recorder.read_metrics())
    recorder.log_event("resume" if checkpoint else "start", _step_of(checkpoint), f"{fitted.name} on {profile.name}")

    trainer, policy = _build_trainer(fitted, policy, splits, requested, track, profile, on_eval, stop)
    with errors.recording(track.reward_error):
        if not checkpoint:
            final_evaluation(policy, splits["eval"], "eval", 0, fitted, profile, track)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        step = trainer.state.global_step
        final_evaluation(policy, splits["eval"], "eval", step, fitted, profile, track)
        final_evaluation(policy, splits["test"], "test", step, fitted, profile, track)
    trainer.save_model(str(folder / "adapter"))
    recorder.log_event("end", step, f"{step} steps")
    track.wandb_run.finish()
    return folder


def train_or_reuse(
    recipe: Recipe,
    profile: Profile,
    folder: Path,
    seed: int = 0,
    on_eval: Callable[[Path], None] | None = None,
    pairs: Path = PAIRS_DIR,
) -> Path:
    """The finished run in `folder` where it is one of this very recipe, profile, seed and data; else train, or resume.

    What a notebook calls, so that running it again costs seconds. Raises `UserError` where `folder` holds another run.
    """
    fitted, _ = profiles.fit(recipe, profile)
    if is_finished(folder):
        _require_same_run(folder, identity(fitted, profile, seed, pairs))
        if on_eval:
            on_eval(folder)
        print(f"{shown(folder)}: finished before, used as it is")
        return folder
    return train_grpo(recipe, profile, folder, seed, resume=True, on_eval=on_eval, pairs=pairs)


def identity(recipe: Recipe, profile: Profile, seed: int, pairs: Path) -> dict[str, Any]:
    """What makes two runs the same run: recipe, profile, seed and the pairs' bytes; part of config.json."""
    return {
        "name": recipe.name,
        "recipe": recipes.values(recipe),
        "profile": asdict(profile),
        "seed": seed,
        "data": {path.name: sha256(path.read_bytes()).hexdigest() for path in sorted(pairs.glob("*.jsonl"))},
    }


def is_finished(folder: Path) -> bool:
    """Whether the run record in `folder` says that its run came to its end."""
    events = folder / EVENTS
    return events.is_file() and any(row["kind"] == "end" for _, row in read_jsonl(events))


def shown(path: Path) -> str:
    """A path as a person reads it: from the project's root where it lies inside."""
    return str(path.relative_to(PROJECT_ROOT)) if path.is_relative_to(PROJECT_ROOT) else path.name


def grpo_arguments(recipe: Recipe, profile: Profile, folder: Path, seed: int) -> dict[str, Any]:
    """Every argument we give TRL's `GRPOConfig`: the recipe's values, the profile's, and defaults worth writing out."""
    every = profiles.eval_every(recipe, profile)
    on_gpu = profile.device == "cuda"
    return {
        "output_dir": str(folder / "checkpoints"),
        "max_steps": recipe.max_steps,
        "learning_rate": recipe.learning_rate,
        "lr_scheduler_type": recipe.lr_schedule,
        "warmup_steps": recipes.warmup_steps(recipe),
        "per_device_train_batch_size": profile.micro_batch,
        "gradient_accumulation_steps": profiles.accumulation(recipe, profile),
        "num_generations": recipe.num_generations,
        "max_completion_length": recipe.max_completion_length,
        "temperature": recipe.temperature,
        "top_p": recipe.top_p,
        "top_k": recipe.top_k,
        "repetition_penalty": recipe.repetition_penalty,
        "beta": recipe.beta,
        "loss_type": recipe.loss_type,
        "scale_rewards": "group" if recipe.scale_rewards else "none",
        "epsilon": recipe.epsilon,
        "num_iterations": recipe.num_iterations,
        "mask_truncated_completions": False,
        "weight_decay": recipe.weight_decay,
        "max_grad_norm": recipe.max_grad_norm,
        "optim": "adamw_torch",
        "adam_beta1": 0.9,
        "adam_beta2": 0.999,
        "use_vllm": False,
        "bf16": on_gpu and profile.dtype == "bfloat16",
        "gradient_checkpointing": profile.gradient_checkpointing,
        "use_cpu": not on_gpu,
        "dataloader_pin_memory": on_gpu,
        "logging_steps": 1,
        "save_strategy": "steps",
        "save_steps": every,
        "save_total_limit": 2,
        "report_to": [],
        "disable_tqdm": True,
        "seed": seed,
        "data_seed": seed,
    }


def training_rows(records: list[dict[str, Any]]) -> list[dict[str, str]]:
    """The trainer's dataset rows: the prompt, and what the reward functions need of the record."""
    return [
        {"prompt": r["prompt"], "task": r["task"], "record_id": r["id"], "record": json.dumps(r, ensure_ascii=False)}
        for r in records
    ]


def final_evaluation(
    policy: Policy,
    records: list[dict[str, Any]],
    split: str,
    step: int,
    recipe: Recipe,
    profile: Profile,
    track: Any,
) -> None:
    """Answer a whole split: sampled, and for `eval` greedy beside it; GRPO sharpens, so the two gains differ."""
    for mode in ("sample", "greedy") if split == "eval" else ("sample",):
        settings = evaluation.settings_for(recipe, profile, mode)
        rows, metrics = evaluation.timed_evaluate(policy, records, settings, step, split)
        track.recorder.log_eval(rows)
        track.metrics(step, {key.replace("eval/", f"full/{split}_{mode}/"): value for key, value in metrics.items()})


def describe_run(
    recipe: Recipe,
    changes: list[recipes.Change],
    requested: dict[str, Any],
    policy: Policy,
    train: list[dict[str, Any]],
) -> dict[str, Any]:
    """The rest of config.json beside the run's identity: from what it started, with which arguments and versions."""
    return {
        "changed_by_profile": [asdict(change) for change in changes],
        "trainer_args": requested | {"output_dir": "checkpoints"},
        "policy": policy.name,
        "base_policy": shown(Path(policy.source)),
        "reward_version": recipe.version,
        "parser": recipe.parser,
        "max_steps": recipe.max_steps,
        "eval_every": requested["save_steps"],
        "coverage": recipes.coverage(recipe, count_by_task(train)),
        "versions": {name: version(name) for name in _VERSIONED},
        "git_commit": _git_commit(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": "a notebook" if in_notebook() else " ".join(["python", "-m", "helpers", *sys.argv[1:]]),
    }


def check_effective(trainer: Any, requested: dict[str, Any], recipe: Recipe) -> None:
    """Read the trainer's arguments back: raise `RuntimeError` where one is not what was asked, or where a step would
    not see the recipe's number of prompts (the rule that made V4's `BATCH_SIZE = 2` one prompt a step)."""
    got = trainer.args.to_dict()
    wrong = {key: got[key] for key, value in requested.items() if got[key] != value}
    if wrong:
        raise RuntimeError(f"the trainer changed what was asked for: {wrong}")
    args = trainer.args
    completions = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    if completions != recipe.completions_per_step:
        raise RuntimeError(
            f"a step would see {completions / recipe.num_generations:g} prompts; "
            f"recipe {recipe.name} says {recipe.prompts_per_step}"
        )


def _build_trainer(
    recipe: Recipe,
    policy: Policy,
    splits: dict[str, list[dict[str, Any]]],
    requested: dict[str, Any],
    track: Any,
    profile: Profile,
    on_eval: Callable[[Path], None] | None,
    stop: Sequence[str],
) -> tuple[Any, Policy]:
    """The trainer with its callbacks, and the policy as the trainer holds it (with LoRA on top)."""
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl import GRPOConfig, GRPOTrainer

    from helpers import callbacks, rollouts, step_report

    meter = callbacks.RewardMeter(recipe.num_generations, track.history)
    trainer = GRPOTrainer(
        model=policy.model,
        reward_funcs=[meter.wrap(function) for function in rewards.reward_functions(recipe.version)],
        args=GRPOConfig(**requested),
        train_dataset=Dataset.from_list(training_rows(splits["train"])),
        processing_class=policy.tokenizer,
        peft_config=models.lora_config(recipe),
    )
    check_effective(trainer, requested, recipe)
    trainer.remove_callback(PrinterCallback)
    if not requested["use_vllm"]:
        rollouts.merge_lora(trainer)
    clock = step_report.PhaseClock.attach(trainer)
    trained = replace(policy, model=trainer.model)
    trainer.add_callback(callbacks.RunRecordCallback(recipe.name, track, meter, clock))
    subset = eval_subset(splits["eval"])
    every = profiles.eval_every(recipe, profile)
    settings = evaluation.settings_for(recipe, profile)
    trainer.add_callback(callbacks.EvalRewardCallback(trained, subset, settings, every, track, clock, on_eval))
    actions: dict[str, stop_rules.Action] = dict.fromkeys(stop, "stop")
    trainer.add_callback(callbacks.StopRuleCallback(track, recipe.max_completion_length, recipe.beta, actions))
    return trainer, trained


def _load_splits(pairs: Path, profile: Profile) -> dict[str, list[dict[str, Any]]]:
    """The train split whole; of eval and test, the profile's number of records a task."""
    train = load_records(pairs / "train.jsonl")
    return {"train": train} | {
        split: _limited(load_records(pairs / f"{split}.jsonl"), profile.eval_records) for split in ("eval", "test")
    }


def _limited(records: list[dict[str, Any]], a_task: int) -> list[dict[str, Any]]:
    taken: Counter[str] = Counter()
    kept = []
    for record in records:
        if taken[record["task"]] < a_task:
            taken[record["task"]] += 1
            kept.append(record)
    return kept


def _checkpoint_to_resume(folder: Path, resume: bool, wanted: dict[str, Any]) -> Path | None:
    """The newest whole checkpoint where `resume` is on; a half-written one would resume with a fresh optimiser."""
    if (folder / CONFIG).exists() and not resume:
        raise UserError(f"{folder}: already holds a run; give another --out, or --resume to go on with it")
    if (folder / CONFIG).exists():
        _require_same_run(folder, wanted)
    found = [path for path in (folder / "checkpoints").glob("checkpoint-*") if _is_whole(path)]
    return max(found, key=_step_of) if resume and found else None


def _require_same_run(folder: Path, wanted: dict[str, Any]) -> None:
    """`UserError` naming what differs where the run in `folder` is not the one that `wanted` identifies."""
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    different = [key for key, value in wanted.items() if config.get(key) != value]
    if different:
        raise UserError(f"{folder}: holds a run with another {', '.join(different)}; give another folder or remove it")


def _is_whole(checkpoint: Path) -> bool:
    return all((checkpoint / name).is_file() for name in _CHECKPOINT_FILES)


def _step_of(checkpoint: Path | None) -> int:
    return int(checkpoint.name.rsplit("-", 1)[1]) if checkpoint else 0


def _git_commit() -> str:
    answer = subprocess.run(["git", "rev-parse", "HEAD"], cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
    return answer.stdout.strip() or "not a git checkout"


if __name__ == "__main__":
    from helpers.cli import main

    raise SystemExit(main(["train", *sys.argv[1:]]))
