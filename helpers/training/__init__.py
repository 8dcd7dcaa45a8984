"""How a recipe becomes a run: plan, policy, trainer, train, evaluate.

`run.train_grpo` is that sentence as code; the other modules are its words, in the order of the imports below.
"""

# Unsloth has to be imported before transformers, trl and peft, and which backend a run needs is known only once it is
# planned. `callbacks`, `step_clock`, `dry_run` and `policy.cpu` import transformers: the other modules of this room
# import them, and everything from Hugging Face, inside functions that run after the policy is loaded. `preflight` does
# so with torch too, whose allocator Unsloth sets up.

from helpers.training.arguments import (
    check_effective,
    effective_arguments,
    effective_line,
    effective_table,
    grpo_arguments,
)
from helpers.training.fix import extra_pairs
from helpers.training.plan import Plan, at_work, plan_run
from helpers.training.run import adopt, recording, start_policy, train_beside, train_grpo, train_or_reuse
from helpers.training.track import Track, describe_run, open_record
from helpers.training.trainer import attach_record, build_trainer, training_rows

__all__ = [
    "Plan",
    "Track",
    "adopt",
    "at_work",
    "attach_record",
    "build_trainer",
    "check_effective",
    "describe_run",
    "effective_arguments",
    "effective_line",
    "effective_table",
    "extra_pairs",
    "grpo_arguments",
    "open_record",
    "plan_run",
    "recording",
    "start_policy",
    "train_beside",
    "train_grpo",
    "train_or_reuse",
    "training_rows",
]
