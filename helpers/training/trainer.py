"""Training: a recipe on a profile becomes a run with its record. Launchers start the same verb:

    torchrun --nproc_per_node 2 -m helpers train --recipe v4.1 --profile l4 --out runs/v4.1

TRL's `GRPOTrainer` does the learning. Every setting that decides generation or loss is passed by name, then read back
from the trainer, because defaults differ between TRL versions and Unsloth changes them.
"""

import functools
import json
import multiprocessing
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from helpers import recipes, rewards
from helpers.core import processes, tracking
from helpers.core.errors import UserError, require_known
from helpers.core.files import PROJECT_ROOT, shown
from helpers.core.progress import in_notebook
from helpers.policy import backends, evaluation, loading
from helpers.policy.loading import Policy
from helpers.recipes import Recipe, profiles
from helpers.recipes.profiles import Profile
from helpers.rewards import record_errors
from helpers.runs import stop_rules
from helpers.runs.identity import identity, is_finished, require_same_run
from helpers.runs.record import CONFIG, RunRecorder
from helpers.tasks.records import PAIRS_DIR, count_by_task, eval_subset, load_records
from helpers.training import apart

_VERSIONED = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "tokenizers", "unsloth", "vllm")
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
    extra: Path | None = None,
) -> Path:
    """Train `recipe` as `profile` can run it, from the profile's base policy; returns `folder`, the run record.

    A recipe with an `sft_task` is warmed up first, with a run record of its own in `folder`/warmup. `extra`
    is a file of more training records, for a recipe that asks for them.
    The policy that GRPO starts from and the final one both answer the whole eval split, sampled and greedy; the test
    split is answered once, at the end. Stop rules warn; those named in `stop` end the run. `resume` goes on from the
    newest whole checkpoint in `folder`, or starts where there is none.
    Raises `UserError` where `folder` already holds a run and `resume` is off, or the pairs are missing or malformed.
    """
    for name in stop:
        require_known("stop rule", name, tuple(rule.name for rule in stop_rules.RULES))
    fitted, changes = profiles.fit(recipe, profile)
    splits = _load_splits(pairs, profile, _extra_records(fitted, extra), fitted.only_task)
    known = identity(fitted, profile, seed, pairs, extra)
    checkpoint = _checkpoint_to_resume(folder, resume, known)
    processes.wait()
    backend, told = backends.choose(profile)
    policy = _start_policy(fitted, profile, folder, splits, known, backend, pairs)
    requested = grpo_arguments(fitted, profile, folder, seed, backend)
    config = known | describe_run(fitted, changes, requested, policy, splits["train"]) | {"backend": told}
    track = _open_record(folder, config, checkpoint)
    trainer, policy, clock = build_trainer(fitted, policy, splits["train"], requested, track)
    judge = _add_judges(trainer, policy, clock, splits["eval"], fitted, profile, track, on_eval, stop)
    effective = effective_arguments(trainer, requested) | {"output_dir": "checkpoints"}
    track.recorder.write_config(config | {"effective_args": effective})
    if processes.is_first():
        print(f"{told}\n{effective_table(effective)}" if profile.device == "cuda" else effective_line(effective))
    _train_and_evaluate(trainer, judge, splits, folder, checkpoint)
    trainer.save_model(str(folder / "adapter"))
    track.recorder.log_event("end", trainer.state.global_step, f"{trainer.state.global_step} steps")
    track.wandb_run.finish()
    return folder


def train_or_reuse(
    recipe: Recipe,
    profile: Profile,
    folder: Path,
    seed: int = 0,
    on_eval: Callable[[Path], None] | None = None,
    pairs: Path = PAIRS_DIR,
    extra: Path | None = None,
) -> Path:
    """The finished run in `folder` where it is one of this very recipe, profile, seed and data; else train, or resume.

    What a notebook calls, so that running it again costs seconds; on a GPU backend the training gets a process of its
    own (`apart`). Raises `UserError` where `folder` holds another run.
    """
    fitted, _ = profiles.fit(recipe, profile)
    if is_finished(folder):
        require_same_run(folder, identity(fitted, profile, seed, pairs, extra))
        if on_eval:
            on_eval(folder)
        print(f"{shown(folder)}: finished before, used as it is")
        return folder
    train = functools.partial(train_grpo, recipe, profile, folder, seed, resume=True, pairs=pairs, extra=extra)
    if in_notebook() and backends.choose(profile)[0] != "transformers":
        return apart.train_apart(train, folder, fitted.max_steps, on_eval)
    return train(on_eval=on_eval)


def train_beside(
    recipe: Recipe, profile: Profile, folder: Path, seed: int = 0, pairs: Path = PAIRS_DIR
) -> apart.Pending:
    """`train_or_reuse`, for a caller with something else to do meanwhile; its `result` waits for the run.

    On a CPU with a core to spare it is begun at once; a GPU trains one policy at a time, so there it waits to be asked.
    """
    fitted, _ = profiles.fit(recipe, profile)
    loading.describe_base(fitted, profile, pairs)  # made here with its progress shown; the other would wait unseen
    spare = profile.device == "cpu" and (os.cpu_count() or 1) > profile.threads
    train = functools.partial(train_or_reuse, recipe, profile, folder, seed, pairs=pairs)
    return apart.Pending(train, folder, fitted.max_steps, now=spare)


def grpo_arguments(
    recipe: Recipe, profile: Profile, folder: Path, seed: int, backend: str = "transformers"
) -> dict[str, Any]:
    """Every argument we give TRL's `GRPOConfig`: the recipe's values, the profile's and backend's, and defaults worth
    writing out. Where several processes train together they share a step's completions."""
    micro_batch = min(profiles.micro_batch(recipe, profile), recipe.completions_per_step // processes.count())
    together = replace(profile, micro_batch=micro_batch * processes.count())
    return backends.trainer_arguments(recipe, profile, backend) | {
        "output_dir": str(folder / "checkpoints"),
        "max_steps": recipe.max_steps,
        "learning_rate": recipe.learning_rate,
        "lr_scheduler_type": recipe.lr_schedule,
        "warmup_steps": recipes.warmup_steps(recipe),
        "per_device_train_batch_size": micro_batch,
        "gradient_accumulation_steps": profiles.accumulation(recipe, together),
        "num_generations": recipe.num_generations,
        "max_completion_length": recipe.max_completion_length,
        "temperature": recipe.temperature,
        "top_p": recipe.top_p,
        "repetition_penalty": recipe.repetition_penalty,
        "beta": recipe.beta,
        "loss_type": recipe.loss_type,
        "scale_rewards": "group" if recipe.scale_rewards else "none",
        "epsilon": recipe.epsilon,
        "num_iterations": recipe.num_iterations,
        "mask_truncated_completions": False,
        "weight_decay": recipe.weight_decay,
        "max_grad_norm": recipe.max_grad_norm,
        "adam_beta1": 0.9,
        "adam_beta2": 0.999,
        "logging_steps": 1,
        "save_strategy": "steps",
        "save_steps": profile.eval_every,
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
        "versions": {name: version(name) for name in _VERSIONED if find_spec(name)},
        "git_commit": _git_commit(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": "a notebook" if _of_notebook() else " ".join(["python", "-m", "helpers", *sys.argv[1:]]),
    }


def effective_arguments(trainer: Any, requested: dict[str, Any]) -> dict[str, Any]:
    """What the trainer really works with, for each argument that it was given; and on how many processes."""
    got = trainer.args.to_dict() | {"world_size": trainer.args.world_size}
    return {key: got.get(key, "no such argument") for key in [*requested, "world_size"]}


def effective_line(effective: dict[str, Any]) -> str:
    """One line for a run that needs no more: how a step is put together.

    >>> effective_line({"per_device_train_batch_size": 8, "gradient_accumulation_steps": 4, "num_generations": 16,
    ...                 "world_size": 1})
    'a step: 2 prompts x 16 completions, as 4 x 8 a process, 1 process; config.json has every argument (effective_args)'
    """
    micro, times = effective["per_device_train_batch_size"], effective["gradient_accumulation_steps"]
    group, world = effective["num_generations"], effective["world_size"]
    together = f"{micro * times * world / group:g} prompts x {group} completions, as {times} x {micro} a process"
    several = "1 process" if world == 1 else f"{world} processes"
    return f"a step: {together}, {several}; config.json has every argument (effective_args)"


def effective_table(effective: dict[str, Any], columns: int = 3) -> str:
    """The trainer's arguments side by side.

    >>> print(effective_table({"beta": 0.0, "optim": "adamw_torch", "bf16": True}, columns=2))
    beta = 0.0           optim = adamw_torch
    bf16 = True
    """
    cells = [f"{key} = {value}" for key, value in effective.items()]
    width = max(map(len, cells)) + 2
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    return "\n".join("".join(cell.ljust(width) for cell in row).rstrip() for row in rows)


def check_effective(trainer: Any, requested: dict[str, Any], recipe: Recipe) -> None:
    """Read the trainer's arguments back: raise `RuntimeError` where one is not what was asked, or where a step would
    not see the recipe's number of prompts (the rule that made V4's `BATCH_SIZE = 2` one prompt a step)."""
    got = effective_arguments(trainer, requested)
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


def build_trainer(
    recipe: Recipe, policy: Policy, train: list[dict[str, Any]], requested: dict[str, Any], track: Any
) -> tuple[Any, Policy, Any]:
    """The trainer with its run record, the policy as the trainer holds it (with LoRA on top), and the step's clock."""
    from accelerate.utils import set_seed
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl import GRPOConfig, GRPOTrainer

    from helpers.policy.cpu import rollouts
    from helpers.training import callbacks, step_clock

    meter = callbacks.RewardMeter(recipe.num_generations, track.history)
    with backends.engine_in_32_bits(policy.backend):
        trainer = GRPOTrainer(
            model=policy.model,
            reward_funcs=[meter.wrap(function) for function in rewards.reward_functions(recipe.version)],
            args=GRPOConfig(**requested),
            train_dataset=Dataset.from_list(training_rows(train)),
            processing_class=policy.tokenizer,
            peft_config=None if loading.has_lora(policy.model) else loading.lora_config(recipe),
        )
    check_effective(trainer, requested, recipe)
    if requested["use_vllm"]:
        set_seed(requested["seed"], device_specific=True)  # vLLM seeds the whole process with its own as it starts
    trainer.remove_callback(PrinterCallback)
    if policy.backend == "transformers":
        rollouts.answer_in_rounds(trainer)
    clock = step_clock.PhaseClock.attach(trainer)
    trainer.add_callback(callbacks.RunRecordCallback(recipe.name, track, meter, clock))
    return trainer, replace(policy, model=trainer.model, sampler=backends.sampler(trainer, policy)), clock


def _start_policy(
    recipe: Recipe,
    profile: Profile,
    folder: Path,
    splits: dict[str, list[dict[str, Any]]],
    known: dict[str, Any],
    backend: str,
    pairs: Path,
) -> Policy:
    """The policy that GRPO starts from, warmed up where the recipe says so; the run's seed is set."""
    policy = backends.load_policy(recipe, profile, backend, pairs, known["seed"])

    from transformers import set_seed  # not earlier: the backend says what is imported first

    from helpers.training import warmup

    if recipe.sft_task:
        policy = warmup.warm_up(policy, splits, recipe, profile, folder / warmup.FOLDER, known)
    set_seed(known["seed"])
    return policy


def _open_record(folder: Path, config: dict[str, Any], checkpoint: Path | None) -> Any:
    """The run record, cut back to the checkpoint that is gone on with, and W&B beside it."""
    from helpers.training import callbacks

    recorder = RunRecorder(folder)
    recorder.truncate_after(_step_of(checkpoint) if checkpoint else -1)
    processes.wait()
    recorder.write_config(config)
    wandb_run = tracking.start(folder.name, folder / "wandb", config)
    told = f"{config['name']} on {config['profile']['name']}, {config['backend']}"
    recorder.log_event("resume" if checkpoint else "start", _step_of(checkpoint), told)
    return callbacks.Track(recorder, wandb_run, recorder.read_metrics())


def _add_judges(
    trainer: Any,
    policy: Policy,
    clock: Any,
    records: list[dict[str, Any]],
    recipe: Recipe,
    profile: Profile,
    track: Any,
    on_eval: Callable[[Path], None] | None,
    stop: Sequence[str],
) -> Any:
    """What judges a run while it trains: evaluations of the subset (returned), and the stop table."""
    from helpers.training import callbacks

    settings = evaluation.settings_for(recipe, profile)
    subset = eval_subset(records)
    judge = callbacks.EvalRewardCallback(policy, subset, settings, profile.eval_every, track, clock, on_eval)
    trainer.add_callback(judge)
    actions: dict[str, stop_rules.Action] = dict.fromkeys(stop, "stop")
    trainer.add_callback(callbacks.StopRuleCallback(track, recipe.max_completion_length, recipe.beta, actions))
    return judge


def _train_and_evaluate(
    trainer: Any, judge: Any, splits: dict[str, list[dict[str, Any]]], folder: Path, checkpoint: Path | None
) -> None:
    """Whole splits before and after, their sampled answers to the subset are the curve's ends; what the reward
    functions raise meanwhile goes to the record.

    A policy that was warmed up in `folder` answered the eval split there; what a base policy made here answers is kept.
    """
    from helpers.training import base_answers, callbacks, warmup

    def answer(split: str, step: int) -> list[dict[str, Any]]:
        """The policy's answers to a whole split as it is now."""
        return callbacks.evaluate_split(judge.policy, splits[split], split, step, judge.settings, judge.track)

    def answer_first() -> list[dict[str, Any]]:
        """The answers that the run starts from, asked for only where nobody has them."""
        warm, seconds = warmup.last_answers(folder / warmup.FOLDER)
        if warm:
            return callbacks.take_answers(warm, 0, judge.track, seconds)
        return base_answers.evaluate_base(judge.policy, splits["eval"], judge.settings, judge.track)

    with record_errors(judge.track.reward_error):
        if not checkpoint:
            judge.note(0, answer_first())
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        judge.note(trainer.state.global_step, answer("eval", trainer.state.global_step))
        answer("test", trainer.state.global_step)


def _extra_records(recipe: Recipe, extra: Path | None) -> list[dict[str, Any]]:
    """The records of `extra`; `UserError` where the recipe asks for some and they are missing, or asks for none."""
    if not recipe.extra_pairs and extra is None:
        return []
    if not recipe.extra_pairs:
        raise UserError(f"recipe {recipe.name} takes no extra pairs")
    if extra is None:
        raise UserError(
            f"recipe {recipe.name} needs more {recipe.extra_pairs} pairs: make them with `python -m helpers pairs "
            f"--task {recipe.extra_pairs} --add 200`, then give the file as --extra"
        )
    records = load_records(extra)
    others = {record["task"] for record in records} - {recipe.extra_pairs}
    if others:
        raise UserError(f"{extra}: {', '.join(sorted(others))} records; recipe {recipe.name} adds {recipe.extra_pairs}")
    return records


def _load_splits(
    pairs: Path, profile: Profile, extra: Sequence[dict[str, Any]] = (), only_task: str = ""
) -> dict[str, list[dict[str, Any]]]:
    """The train split with the extra records, whole or of one task; of eval and test, the profile's number of records a
    task."""
    train = [*load_records(pairs / "train.jsonl"), *extra]
    train = [record for record in train if only_task in ("", record["task"])]
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
        require_same_run(folder, wanted)
    found = [path for path in (folder / "checkpoints").glob("checkpoint-*") if _is_whole(path)]
    return max(found, key=_step_of) if resume and found else None


def _is_whole(checkpoint: Path) -> bool:
    return all((checkpoint / name).is_file() for name in _CHECKPOINT_FILES)


def _step_of(checkpoint: Path | None) -> int:
    return int(checkpoint.name.rsplit("-", 1)[1]) if checkpoint else 0


def _of_notebook() -> bool:
    """Whether a notebook trains: in its kernel, or in a process begun by it, which inherits the kernel's arguments."""
    return in_notebook() or multiprocessing.parent_process() is not None


def _git_commit() -> str:
    answer = subprocess.run(["git", "rev-parse", "HEAD"], cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
    return answer.stdout.strip() or "not a git checkout"
