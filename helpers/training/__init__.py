"""How a recipe becomes a run: plan, policy, trainer, train, evaluate.

`run.train_grpo` is that sentence as code; the other modules are its words, in the order of the imports below.
"""

# Unsloth has to be imported before transformers, trl and peft, and which backend a run needs is known only once it is
# planned. `callbacks`, `step_clock` and `dry_run` import transformers; this room imports them, and those packages,
# inside functions that run after the policy is loaded. Nothing else is imported inside a function here, except torch in
# `preflight`, which looks at the GPU after Unsloth has set up torch's allocator.

from helpers.training.arguments import (
    check_effective,
    effective_arguments,
    effective_line,
    effective_table,
    grpo_arguments,
)
from helpers.training.fix import apply_fix
from helpers.training.plan import Plan, plan_run
from helpers.training.run import train_beside, train_grpo, train_or_reuse
from helpers.training.track import Track
from helpers.training.trainer import build_trainer, training_rows

__all__ = [
    "Plan",
    "Track",
    "apply_fix",
    "build_trainer",
    "check_effective",
    "effective_arguments",
    "effective_line",
    "effective_table",
    "grpo_arguments",
    "plan_run",
    "train_beside",
    "train_grpo",
    "train_or_reuse",
    "training_rows",
]
