"""What happens around a training step: evaluation, the run record, W&B, the progress line."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState

from helpers import evaluation
from helpers.models import Policy
from helpers.progress import Progress
from helpers.run_record import RunRecorder
from helpers.tasks import TASKS

# TRL's metric names and ours (the handoff's, and W&B's).
_RENAMED = {
    "loss": "train/loss",
    "reward": "train/reward",
    "reward_std": "train/reward_std",
    "frac_reward_zero_std": "train/frac_reward_zero_std",
    "completions/mean_length": "train/completion_length",
    "completions/clipped_ratio": "train/clipped_ratio",
    "grad_norm": "train/grad_norm",
    "learning_rate": "train/learning_rate",
    "entropy": "train/entropy",
    "kl": "train/kl",
    "num_tokens": "train/num_tokens",
    "step_time": "time/step_s",
} | {f"rewards/{task}/mean": f"train/reward/{task}" for task in TASKS}


_SEEN = "train/prompts_seen/"


@dataclass
class Track:
    """Where a run's numbers go: the run record, and W&B under the same keys."""

    recorder: RunRecorder
    wandb_run: Any

    def metrics(self, step: int, values: dict[str, Any]) -> None:
        """Record one row of metrics."""
        self.recorder.log_metrics(step, values)
        self.wandb_run.log(values, step=step)


class RewardMeter:
    """Wraps the reward functions of a run to count the prompts each task has shown and the seconds rewards took."""

    def __init__(self, num_generations: int, resumed: dict[str, float] | None = None) -> None:
        self.num_generations = num_generations
        counts = {task: (resumed or {}).get(f"{_SEEN}{task}", 0.0) for task in TASKS}
        self.completions = Counter({task: round(count * num_generations) for task, count in counts.items()})
        self.seconds = 0.0

    def wrap(self, function: Callable[..., list[float | None]]) -> Callable[..., list[float | None]]:
        """`function` with the same name and rewards, its rows and time counted."""

        def metered(prompts: list[Any], completions: list[Any], **columns: Any) -> list[float | None]:
            started = time.monotonic()
            values = function(prompts=prompts, completions=completions, **columns)
            self.seconds += time.monotonic() - started
            applied = zip(columns["task"], values, strict=True)
            self.completions.update(task for task, value in applied if value is not None)
            return values

        metered.__name__ = function.__name__
        return metered

    def prompts_seen(self) -> dict[str, float]:
        """Prompts shown so far, a task, under metric keys."""
        return {f"{_SEEN}{task}": self.completions[task] / self.num_generations for task in TASKS}

    def take_seconds(self) -> float:
        """Seconds since the last call."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds


class RunRecordCallback(TrainerCallback):
    """Writes each logged step to the run record and W&B, and shows one progress line."""

    def __init__(self, name: str, track: Track, meter: RewardMeter) -> None:
        self.name, self.track, self.meter = name, track, meter
        self.recent: list[float] = []

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.line = Progress(f"GRPO {self.name}", state.max_steps)

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        values = {ours: logs[theirs] for theirs, ours in _RENAMED.items() if logs and logs.get(theirs) is not None}
        if "train/reward" not in values:
            return
        timing = {"time/rewards_s": round(self.meter.take_seconds(), 4)}
        self.track.metrics(state.global_step, values | self.meter.prompts_seen() | timing)
        self.recent = [*self.recent[-9:], values["train/reward"]]
        self.line.update(state.global_step, f"reward {sum(self.recent) / len(self.recent):.3f} (mean of 10 steps)")

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.track.recorder.log_event("checkpoint", state.global_step, f"checkpoint-{state.global_step}")

    def on_train_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.line.close(f"{state.global_step} steps")


class EvalRewardCallback(TrainerCallback):
    """Answers the fixed subset at step 0 and every `every` steps: a mean a task with its interval.

    `on_eval` is called with the run folder after each evaluation; a notebook passes its live plot.
    """

    def __init__(
        self,
        policy: Policy,
        records: list[dict[str, Any]],
        settings: evaluation.Settings,
        every: int,
        track: Track,
        on_eval: Callable[[Path], None] | None = None,
    ) -> None:
        self.policy, self.records, self.settings = policy, records, settings
        self.every, self.track, self.on_eval = every, track, on_eval

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.global_step == 0:
            self._evaluate(0)

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.global_step % self.every == 0 or state.global_step == state.max_steps:
            self._evaluate(state.global_step)

    def _evaluate(self, step: int) -> None:
        rows, metrics = evaluation.timed_evaluate(self.policy, self.records, self.settings, step, "eval_subset")
        self.track.recorder.log_eval(rows)
        self.track.metrics(step, metrics)
        told = f"mean reward {metrics['eval/mean_reward']:.3f} on {len(rows)} prompts"
        self.track.recorder.log_event("eval", step, told)
        if self.on_eval:
            self.on_eval(self.track.recorder.folder)
