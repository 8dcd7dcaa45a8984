"""A whole run: plan, policy, trainer, train, evaluate. Launchers start it through the same verb:

torchrun --nproc_per_node 2 -m helpers train --recipe v4.1 --profile l4 --out runs/v4.1
"""

import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from helpers.core import processes
from helpers.core.errors import require_known
from helpers.core.files import shown
from helpers.core.progress import in_notebook, say
from helpers.policy import Policy, backends, loading
from helpers.recipes import Recipe, profiles
from helpers.recipes.profiles import Profile
from helpers.rewards import record_errors
from helpers.runs import stop_rules
from helpers.tasks.records import Rows
from helpers.training import apart, base_answers, failures, resume, splits, warmup
from helpers.training.arguments import effective_arguments, effective_line, effective_table, grpo_arguments
from helpers.training.plan import Plan, alone, plan_run
from helpers.training.track import Track, describe_run, open_record
from helpers.training.trainer import build_trainer, train_remaining

OnEval = Callable[[Path], None]
"""Called with the run's folder after each evaluation; a notebook passes its live plot."""


def train_grpo(plan: Plan, on_eval: OnEval | None = None, stop: Sequence[str] = ()) -> Path:
    """Carry out what is left of `plan`; returns the run's folder.

    The policy answers the whole eval split before and after, sampled and greedy, and the test split once, at the end.
    Stop rules warn; those named in `stop` end the run. Raises `UserError` where another process trains in the folder,
    `RunError` of one line where the run cannot go on.
    """
    for name in stop:
        require_known("stop rule", name, tuple(rule.name for rule in stop_rules.RULES))
    if plan.left == "nothing":
        say(f"{shown(plan.folder)}: finished, nothing to do")
        return plan.folder
    processes.wait()  # every process has seen whether the folder holds a run before the first one writes to it
    with alone(plan), failures.recorded(plan.folder):
        _train(plan, on_eval, stop)
    return plan.folder


def _train(plan: Plan, on_eval: OnEval | None, stop: Sequence[str]) -> None:
    policy = start_policy(plan)
    from helpers.training.callbacks import EvalRewardCallback, InterruptCallback, StopRuleCallback

    arguments = grpo_arguments(plan)
    config = describe_run(plan, policy, arguments)
    track = open_record(plan, config)
    trainer, policy, clock = build_trainer(plan, policy, arguments, track)
    evaluation = EvalRewardCallback(plan, policy, track, clock, on_eval)
    trainer.add_callback(evaluation)
    trainer.add_callback(StopRuleCallback(plan, track, stop))
    trainer.add_callback(InterruptCallback())
    effective = effective_arguments(trainer, arguments) | {"output_dir": "checkpoints"}
    track.recorder.write_config(config | {"effective_args": effective})
    if processes.is_first():
        on_gpu = plan.profile.device == "cuda"
        print(f"{plan.backend_reason}\n{effective_table(effective)}" if on_gpu else effective_line(effective))
    with record_errors(track.reward_error):
        if plan.checkpoint is None:
            evaluation.take(0, first_answers(plan, policy, track))
        step = train_remaining(trainer, plan)
        if plan.left != "adapter":
            evaluation.take(step, splits.evaluate_split(plan, policy, "eval", step, track))
            splits.evaluate_split(plan, policy, "test", step, track)
    trainer.save_model(str(plan.folder / resume.ADAPTER))
    track.recorder.log_event("end", step, f"{step} steps")
    track.wandb_run.finish()


def start_policy(plan: Plan) -> Policy:
    """The policy that GRPO starts from, warmed up where the recipe says so; random states begin with the run's seed."""
    policy = backends.load_policy(plan.recipe, plan.profile, plan.backend, plan.seed)
    from transformers import set_seed

    if plan.recipe.sft_task:
        policy = warmup.warm_up(plan, policy)
    set_seed(plan.seed)
    return policy


def first_answers(plan: Plan, policy: Policy, track: Track) -> Rows:
    """The starting policy's answers to the eval split: those of its warm-up or of another run from the same embedded
    policy where they exist, else new ones."""
    rows, seconds = warmup.last_answers(plan)
    if rows:
        return splits.take_answers(rows, 0, track, seconds)
    return base_answers.evaluate_base(plan, policy, track)


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
    spare = profile.device == "cpu" and (os.cpu_count() or 1) > profile.threads
    train = functools.partial(train_or_reuse, recipe, profile, folder, seed)
    return apart.Pending(train, folder, fitted.max_steps, now=spare)
