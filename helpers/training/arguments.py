"""What TRL's `GRPOConfig` is given, and what the trainer then works with.

Every setting that decides generation or loss is passed by name and read back from the trainer: defaults differ between
TRL versions, and Unsloth changes some of them.
"""

from typing import Any

from helpers import recipes
from helpers.core import processes
from helpers.core.progress import say
from helpers.policy import backends
from helpers.recipes import Recipe, profiles
from helpers.training.plan import Plan


def grpo_arguments(plan: Plan) -> dict[str, Any]:
    """The keyword arguments of `GRPOConfig`: the recipe's values, the profile's, the backend's, and explicit defaults.

    Processes that train together share the completions of a step.
    """
    recipe, profile = plan.recipe, plan.profile
    return backends.trainer_arguments(recipe, profile, plan.backend) | {
        "output_dir": str(plan.folder / "checkpoints"),
        "max_steps": recipe.max_steps,
        "learning_rate": recipe.learning_rate,
        "lr_scheduler_type": recipe.lr_schedule,
        "warmup_steps": recipes.warmup_steps(recipe),
        "per_device_train_batch_size": profiles.micro_batch(recipe, profile, processes.count()),
        "gradient_accumulation_steps": profiles.accumulation(recipe, profile, processes.count()),
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
        "save_steps": profiles.eval_every(recipe, profile),
        "save_total_limit": None,  # `checkpoints.keep_newest` removes old ones, once the new one is on the disk
        "report_to": [],
        "disable_tqdm": True,
        "seed": plan.seed,
        "data_seed": plan.seed,
    }


def effective_arguments(trainer: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """The trainer's own value of each of `arguments`, and the number of processes (`world_size`)."""
    values = trainer.args.to_dict() | {"world_size": trainer.args.world_size}
    return {key: values.get(key, "no such argument") for key in [*arguments, "world_size"]}


HARMLESS = (
    "dataloader_pin_memory",
    "disable_tqdm",
    "gradient_accumulation_steps",  # times the micro-batch: the product is checked
    "gradient_checkpointing",
    "per_device_train_batch_size",
    "report_to",
    "torch_empty_cache_steps",
    "use_cpu",
    "vllm_enable_sleep_mode",
    "vllm_gpu_memory_utilization",
)
"""Arguments that change how fast or in how much memory a run computes, not what is learned or recorded."""
_SAME_OPTIMISER = {"adamw_torch", "adamw_torch_fused"}


class RecipeMismatchError(RuntimeError):
    """A trainer that would not train what the recipe says."""


def check_effective(trainer: Any, arguments: dict[str, Any], recipe: Recipe) -> None:
    """Raise `RecipeMismatchError` where the trainer has another value than it was given, or a step another number of
    prompts than the recipe says (V4's `BATCH_SIZE = 2` counted completions, and so made a step of one prompt).

    A difference that changes neither what is learned nor what is recorded is said in one line.
    """
    effective = effective_arguments(trainer, arguments)
    changed = {key: effective[key] for key, value in arguments.items() if effective[key] != value}
    refused = {key: value for key, value in changed.items() if not _harmless(key, arguments[key], value)}
    if refused:
        raise RecipeMismatchError(f"the trainer changed what was asked for: {refused}")
    for key, value in changed.items():
        say(f"note: the trainer works with {key} = {value}, not {arguments[key]}: the run learns the same")
    args = trainer.args
    completions = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    if completions != recipe.completions_per_step:
        raise RecipeMismatchError(
            f"a step would see {completions / recipe.num_generations:g} prompts; "
            f"recipe {recipe.name} says {recipe.prompts_per_step}"
        )


def _harmless(key: str, asked: Any, effective: Any) -> bool:
    return key in HARMLESS or (key == "optim" and {asked, effective} <= _SAME_OPTIMISER)


def effective_line(effective: dict[str, Any]) -> str:
    """One line on how a step is put together.

    >>> effective_line({"per_device_train_batch_size": 8, "gradient_accumulation_steps": 4, "num_generations": 16,
    ...                 "world_size": 1})
    'a step: 2 prompts x 16 completions, as 4 x 8 per process, 1 process; config.json has every argument'
    """
    micro_batch, times = effective["per_device_train_batch_size"], effective["gradient_accumulation_steps"]
    group, processes_together = effective["num_generations"], effective["world_size"]
    prompts = micro_batch * times * processes_together / group
    several = "1 process" if processes_together == 1 else f"{processes_together} processes"
    return (
        f"a step: {prompts:g} prompts x {group} completions, as {times} x {micro_batch} per process, {several}; "
        "config.json has every argument"
    )


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
