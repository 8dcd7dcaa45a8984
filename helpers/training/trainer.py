"""TRL's `GRPOTrainer`, made from a plan and the policy to train, and what we attach to it."""

import json
from typing import TYPE_CHECKING, Any

import torch

from helpers import rewards
from helpers.policy import Policy, backends
from helpers.tasks.records import Rows
from helpers.training.plan import Plan
from helpers.training.track import Track

if TYPE_CHECKING:
    from helpers.training.step_clock import PhaseClock


def build_trainer(plan: Plan, policy: Policy, arguments: dict[str, Any]) -> Any:
    """The trainer of `policy`, which carries LoRA; `arguments` go to `GRPOConfig`. Notebooks write this in a cell."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    with backends.engine_in_32_bits(policy.backend, plan.seed):
        return GRPOTrainer(
            model=policy.model,
            processing_class=policy.tokenizer,
            reward_funcs=[*rewards.reward_functions(plan.recipe.version)],
            args=GRPOConfig(**arguments),
            train_dataset=Dataset.from_list(training_rows(plan.splits["train"])),
        )


def attach_record(trainer: Any, plan: Plan, policy: Policy, track: Track) -> "PhaseClock":
    """Let `trainer` and `policy` generate as their backend does best, and record each timed step to `track`."""
    from accelerate.utils import set_seed
    from transformers import PrinterCallback

    from helpers.policy.cpu import logprobs, rollouts
    from helpers.training import guards
    from helpers.training.callbacks import RunRecordCallback
    from helpers.training.step_clock import PhaseClock

    # As `GRPOTrainer` does when it is made: vLLM, or a step tried by hand, has drawn random numbers since.
    set_seed(plan.seed, device_specific=True)
    if trainer.args.device.type == "cpu":
        # Of several processes on a CPU each has the device "cpu:0", where torch cannot load a checkpoint to.
        vars(trainer.args)["_setup_devices"] = torch.device("cpu")
    trainer.remove_callback(PrinterCallback)
    if policy.backend == "transformers":
        rollouts.attach(trainer)
    if trainer.args.device.type == "cpu" and not trainer.args.use_vllm:
        logprobs.read_prompts_once(trainer)
    policy.sampler, policy.by_first = backends.sampler(trainer, policy), backends.asks_server(trainer)
    track.clock = PhaseClock.attach(trainer)
    guards.require_rewards(trainer, track)
    trainer.add_callback(guards.FiniteGuard(trainer))
    trainer.add_callback(RunRecordCallback(plan, track))
    return track.clock


def load_trained(trainer: Any, plan: Plan) -> None:
    """Load the last checkpoint of a run whose steps are all trained, as `trainer.train` does where some are left."""
    from transformers import TrainerState

    checkpoint = str(plan.checkpoint)
    trainer._load_from_checkpoint(checkpoint)
    trainer._load_rng_state(checkpoint)
    trainer.state = TrainerState.load_from_json(f"{checkpoint}/trainer_state.json")


def training_rows(records: Rows) -> list[dict[str, str]]:
    """The trainer's dataset: each record's prompt, and what the reward functions need of the record."""
    return [
        {"prompt": r["prompt"], "task": r["task"], "record_id": r["id"], "record": json.dumps(r, ensure_ascii=False)}
        for r in records
    ]
