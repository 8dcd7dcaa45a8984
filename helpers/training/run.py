"""A whole run: plan, policy, trainer, train, evaluate. Launchers start it through the same verb:

torchrun --nproc_per_node 2 -m helpers train --recipe v4.1 --profile l4 --out runs/v4.1
"""

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from helpers.core import processes
from helpers.core.errors import UserError, require_known
from helpers.core.files import shown
from helpers.core.progress import in_notebook, say
from helpers.policy import Policy, backends, loading, lora
from helpers.recipes import Recipe, profiles
from helpers.recipes.profiles import Profile
from helpers.rewards import record_errors
from helpers.runs import stop_rules
from helpers.training import apart, resume, warmup
from helpers.training.arguments import (
    check_effective,
    effective_arguments,
    effective_line,
    effective_table,
    grpo_arguments,
)
from helpers.training.plan import Plan, at_work, plan_run
from helpers.training.track import OnEval, Track, describe_run, open_record
from helpers.training.trainer import attach_record, build_trainer, load_trained


def train_grpo(plan: Plan, on_eval: OnEval | None = None, stop: Sequence[str] = ()) -> Path:
    """Carry out what is left of `plan`; returns the run's folder. Notebook 02 does the same in its cells.

    The policy answers the whole eval split before and after, sampled and greedy, and the test split once, at the end.
    Stop rules warn; those named in `stop` end the run. Raises `UserError` where another process trains in the folder,
    `RunError` of one line where the run cannot go on.
    """
    for name in stop:
        require_known("stop rule", name, tuple(rule.name for rule in stop_rules.RULES))
    if plan.left == "nothing":
        say(f"{shown(plan.folder)}: finished, nothing to do")
        return plan.folder
    with at_work(plan):
        policy = start_policy(plan)
        from helpers.training.callbacks import EvalRewardCallback, InterruptCallback, StopRuleCallback

        trainer = build_trainer(plan, policy, grpo_arguments(plan))
        with recording(plan, policy, trainer) as track:
            evaluation = EvalRewardCallback(plan, policy, track, on_eval)
            for callback in (evaluation, StopRuleCallback(plan, track, stop), InterruptCallback()):
                trainer.add_callback(callback)
            evaluation.at_start()
            if plan.left == "training":
                trainer.train(resume_from_checkpoint=plan.resume_from)
            evaluation.at_end()
    return plan.folder


def start_policy(plan: Plan) -> Policy:
    """The policy that GRPO starts from, with the LoRA that it trains: drawn with the run's seed, or warmed up."""
    policy = backends.load_policy(plan.recipe, plan.profile, plan.backend, plan.seed)
    if plan.recipe.sft_task:
        return warmup.warm_up(plan, policy)
    from transformers import set_seed

    set_seed(plan.seed)
    return lora.with_lora(policy, plan.recipe)


def adopt(plan: Plan, model: Any, tokenizer: Any) -> Policy:
    """`start_policy` for a cell that has loaded model and tokenizer from `plan.source` and put LoRA on the model."""
    name, source = plan.base
    return backends.adopt(model, tokenizer, source, plan.profile, plan.backend, name)


@contextmanager
def recording(plan: Plan, policy: Policy, trainer: Any) -> Iterator[Track]:
    """Record to the plan's folder and W&B what `trainer` does within the block; at its end save the adapter.

    A record that is resumed is first cut back to its checkpoint. Raises `RecipeMismatchError` where the trainer's
    arguments are not the plan's (`check_effective`), `UserError` where the policy has been trained already.
    """
    arguments = grpo_arguments(plan)
    check_effective(trainer, arguments, plan.recipe)
    _require_untrained(plan, trainer)
    track = open_record(plan, describe_run(plan, policy, arguments))
    callbacks = list(trainer.callback_handler.callbacks)
    attach_record(trainer, plan, policy, track)
    effective = effective_arguments(trainer, arguments) | {"output_dir": "checkpoints"}
    track.recorder.update_config({"effective_args": effective})
    if processes.is_first():
        on_gpu = plan.profile.device == "cuda"
        print(f"{plan.backend_reason}\n{effective_table(effective)}" if on_gpu else effective_line(effective))
    if plan.left != "training":
        load_trained(trainer, plan)
    try:
        with record_errors(track.reward_error):
            yield track
    finally:
        trainer.callback_handler.callbacks = callbacks  # a cell that is run again adds its own anew
    trainer.save_model(str(plan.folder / resume.ADAPTER))
    track.recorder.log_event("end", track.step, f"{track.step} steps")
    track.wandb_run.finish()


def _require_untrained(plan: Plan, trainer: Any) -> None:
    """`UserError` where a run would start from a trained policy, as when a cell is run again after a Ctrl-C."""
    trained = trainer.state.global_step or (not plan.recipe.sft_task and lora.moved(trainer.model))
    if trained and plan.checkpoint is None:
        raise UserError(lora.TRAINED)


def train_or_reuse(
    recipe: Recipe,
    profile: Profile,
    folder: Path,
    seed: int = 0,
    on_eval: OnEval | None = None,
    extra: Path | None = None,
) -> Path:
    """Train, resume, or reuse the finished run in `folder`; running a notebook again then takes seconds.

    In a notebook, a GPU backend trains in a process of its own (`apart`). Raises `UserError` as `plan_run` does.
    """
    plan = plan_run(recipe, profile, folder, seed, resume=True, extra=extra)
    if plan.left == "nothing":
        if on_eval:
            on_eval(folder)
        print(f"{shown(folder)}: finished before, used as it is")
        return folder
    if in_notebook() and plan.backend != "transformers":
        pending = apart.Pending(functools.partial(train_grpo, plan), folder, plan.recipe.max_steps)
        return pending.result(on_eval)
    return train_grpo(plan, on_eval)


def train_beside(recipe: Recipe, profile: Profile, folder: Path, seed: int = 0) -> apart.Pending:
    """`train_or_reuse` for a caller with other work to do meanwhile; `result` of what is returned waits for the run.

    On a CPU with a core to spare training begins at once; a GPU trains one policy at a time, so there it begins when
    the result is asked for.
    """
    fitted, _ = profiles.fit(recipe, profile)
    loading.describe_base(fitted, profile)  # makes the embedded policy here, where its progress can be seen
    train = functools.partial(train_or_reuse, recipe, profile, folder, seed)
    return apart.Pending(train, folder, fitted.max_steps, now=profile.leaves_a_core)
