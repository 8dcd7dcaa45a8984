"""TRL's `GRPOTrainer`, made from a plan and the policy to train."""

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from helpers import rewards
from helpers.policy import Policy, backends, lora
from helpers.tasks.records import Rows
from helpers.training.arguments import check_effective
from helpers.training.plan import Plan
from helpers.training.track import Track

if TYPE_CHECKING:
    from helpers.training.callbacks import RewardMeter
    from helpers.training.step_clock import PhaseClock


def build_trainer(
    plan: Plan, policy: Policy, arguments: dict[str, Any], track: Track
) -> tuple[Any, Policy, "PhaseClock"]:
    """The trainer, recording to `track`; the policy as the trainer holds it, LoRA included; and the clock of its steps.

    `arguments` go to `GRPOConfig`. Raises `RuntimeError` where the trainer changes them (`check_effective`).
    """
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    from helpers.training.callbacks import RewardMeter

    meter = RewardMeter(plan.recipe.num_generations, track.history)
    with backends.engine_in_32_bits(policy.backend, plan.seed):
        trainer = GRPOTrainer(
            model=policy.model,
            reward_funcs=[meter.wrap(function) for function in rewards.reward_functions(plan.recipe.version)],
            args=GRPOConfig(**arguments),
            train_dataset=Dataset.from_list(training_rows(plan.splits["train"])),
            processing_class=policy.tokenizer,
            peft_config=None if lora.has_lora(policy.model) else lora.lora_config(plan.recipe),
        )
    check_effective(trainer, arguments, plan.recipe)
    clock = attach_record(trainer, plan, policy, track, meter)
    sampler, by_first = backends.sampler(trainer, policy), backends.asks_server(trainer)
    return trainer, replace(policy, model=trainer.model, sampler=sampler, by_first=by_first), clock


def attach_record(trainer: Any, plan: Plan, policy: Policy, track: Track, meter: "RewardMeter") -> "PhaseClock":
    """Let `trainer` generate as the policy's backend does best, time its steps, and record them to `track`."""
    from accelerate.utils import set_seed
    from transformers import PrinterCallback

    from helpers.policy.cpu import logprobs, rollouts
    from helpers.training import guards
    from helpers.training.callbacks import RunRecordCallback
    from helpers.training.step_clock import PhaseClock

    if trainer.args.use_vllm:
        set_seed(plan.seed, device_specific=True)  # vLLM seeds the whole process with its own seed as it starts
    trainer.remove_callback(PrinterCallback)
    if policy.backend == "transformers":
        rollouts.answer_in_rounds(trainer)
    if trainer.args.device.type == "cpu" and not trainer.args.use_vllm:
        logprobs.read_prompts_once(trainer)
    clock = PhaseClock.attach(trainer)
    guards.require_rewards(trainer, track)
    trainer.add_callback(guards.FiniteGuard(trainer))
    trainer.add_callback(RunRecordCallback(plan, track, meter, clock))
    return clock


def train_remaining(trainer: Any, plan: Plan) -> int:
    """Train the steps that are left, or load the trained checkpoint where none is; returns the last step."""
    checkpoint = str(plan.checkpoint) if plan.checkpoint else None
    if trainer.args.device.type == "cpu":
        # Of several processes on a CPU each has the device "cpu:0", where torch cannot load a checkpoint to.
        vars(trainer.args)["_setup_devices"] = torch.device("cpu")
    if plan.left == "training":
        trainer.train(resume_from_checkpoint=checkpoint)
    else:
        from transformers import TrainerState

        trainer._load_from_checkpoint(checkpoint)
        trainer._load_rng_state(checkpoint)
        trainer.state = TrainerState.load_from_json(f"{checkpoint}/trainer_state.json")
    return trainer.state.global_step


def training_rows(records: Rows) -> list[dict[str, str]]:
    """The trainer's dataset: each record's prompt, and what the reward functions need of the record."""
    return [
        {"prompt": r["prompt"], "task": r["task"], "record_id": r["id"], "record": json.dumps(r, ensure_ascii=False)}
        for r in records
    ]
