"""How a recipe becomes a run: plan, policy, trainer, train, evaluate."""

from helpers.training.trainer import (
    build_trainer,
    check_effective,
    describe_run,
    effective_arguments,
    effective_line,
    effective_table,
    grpo_arguments,
    train_beside,
    train_grpo,
    train_or_reuse,
    training_rows,
)

__all__ = [
    "build_trainer",
    "check_effective",
    "describe_run",
    "effective_arguments",
    "effective_line",
    "effective_table",
    "grpo_arguments",
    "train_beside",
    "train_grpo",
    "train_or_reuse",
    "training_rows",
]
