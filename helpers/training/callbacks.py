"""What happens around a training step: evaluation, the run record, W&B, the progress line."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState

from helpers.core import processes
from helpers.core.progress import Progress, in_notebook, say
from helpers.policy import evaluation
from helpers.policy.loading import Policy
from helpers.rewards import score_row
from helpers.runs import stop_rules
from helpers.runs.record import KNOWN_EVAL_SECONDS, RunRecorder, evaluation_due, split_prefix
from helpers.tasks import JSON_TASK, TASKS
from helpers.training.step_clock import PhaseClock

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
} | {f"rewards/{task}/mean": f"train/reward/{task}" for task in TASKS}


_SEEN = "train/prompts_seen/"
_SUBSET = "eval_subset"


@dataclass
class Track:
    """Where a run's numbers go: the run record, W&B under the same keys, and `history` for the stop rules."""

    recorder: RunRecorder
    wandb_run: Any
    history: list[dict[str, Any]] = field(default_factory=list)
    reward_errors: int = 0

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
        self.reward_errors += 1
        step = self.history[-1]["step"] if self.history else 0
        self.recorder.log_event("reward_error", step, event.pop("error"), **event)


class RewardMeter:
    """Wraps a run's reward functions to count the prompts each task has shown, in this process.

    `history` holds the metric rows of a run that is gone on with; the first process carries their counts on.
    """

    def __init__(self, num_generations: int, history: list[dict[str, Any]]) -> None:
        self.num_generations = num_generations
        counted = [row for row in history if f"{_SEEN}{TASKS[0]}" in row and processes.is_first()]
        counts = {task: counted[-1][f"{_SEEN}{task}"] if counted else 0 for task in TASKS}
        self.completions = Counter({task: round(count * num_generations) for task, count in counts.items()})

    def wrap(self, function: Callable[..., list[float | None]]) -> Callable[..., list[float | None]]:
        """`function` with the same name and rewards, its rows counted."""

        def metered(prompts: list[Any], completions: list[Any], **columns: Any) -> list[float | None]:
            """The rewards, with the rows that got one counted for their task."""
            values = function(prompts=prompts, completions=completions, **columns)
            applied = zip(columns["task"], values, strict=True)
            self.completions.update(task for task, value in applied if value is not None)
            return values

        metered.__name__ = function.__name__
        return metered

    def prompts_seen(self) -> dict[str, float]:
        """Prompts shown so far by all processes, a task, under metric keys."""
        completions = processes.total(self.completions)
        return {f"{_SEEN}{task}": completions[task] / self.num_generations for task in TASKS}


class RunRecordCallback(TrainerCallback):
    """Writes each logged step with its step report to the run record and W&B, and shows one progress line."""

    def __init__(self, name: str, track: Track, meter: RewardMeter, clock: PhaseClock) -> None:
        self.name, self.track, self.meter, self.clock = name, track, meter, clock
        self.recent: list[float] = []

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Open the progress line."""
        self.line = Progress(f"GRPO {self.name}", state.max_steps)

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Record a step's metrics under our names with its step report; rows without a reward are TRL's summary."""
        values = {ours: logs[theirs] for theirs, ours in _RENAMED.items() if logs and logs.get(theirs) is not None}
        if "train/reward" not in values:
            return
        counts = self.meter.prompts_seen() | {"train/reward_errors": self.track.reward_errors}
        self.track.metrics(state.global_step, values | counts | self.clock.take())
        self.recent = [*self.recent[-9:], values["train/reward"]]
        self.line.update(state.global_step, f"reward {sum(self.recent) / len(self.recent):.3f} (mean of 10 steps)")

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Record that a checkpoint was written."""
        self.track.recorder.log_event("checkpoint", state.global_step, f"checkpoint-{state.global_step}")

    def on_train_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Close the progress line."""
        self.line.close(f"{state.global_step} steps")


class EvalRewardCallback(TrainerCallback):
    """Answers the fixed subset every `every` steps (`evaluation_due`): a mean a task with its interval.

    At a run's start and end the whole split is answered; `note` takes the subset's part of those answers.
    `on_eval` is called with the run folder after each evaluation; a notebook passes its live plot.
    """

    def __init__(
        self,
        policy: Policy,
        records: list[dict[str, Any]],
        settings: evaluation.Settings,
        every: int,
        track: Track,
        clock: PhaseClock,
        on_eval: Callable[[Path], None] | None = None,
    ) -> None:
        self.policy, self.records, self.settings = policy, records, settings
        self.every, self.track, self.clock, self.on_eval = every, track, clock, on_eval

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Answer the subset where an evaluation is due; the run's end is left to `note`."""
        step, last = state.global_step, state.max_steps
        if step < last and evaluation_due(step, self.every, last):
            with self.clock.phase("eval"):
                self._tell(step, *evaluation.timed_evaluate(self.policy, self.records, self.settings, step, _SUBSET))

    def note(self, step: int, rows: list[dict[str, Any]]) -> None:
        """Take the subset's first sampled answers of `rows`, those to the whole split, as its evaluation: it costs no
        time."""
        chosen = {record["id"] for record in self.records}
        first = [row for row in rows if row["mode"] == "sample" and row["sample"] == 0]
        own = [row | {"split": _SUBSET} for row in first if row["record_id"] in chosen]
        self._tell(step, own, evaluation.summarize(own))

    def _tell(self, step: int, rows: list[dict[str, Any]], metrics: dict[str, float]) -> None:
        if step == 0:
            metrics[stop_rules.BASELINE_METRIC] = self._extraction_under_v4(rows)
        self.track.recorder.log_eval(rows)
        self.track.metrics(step, metrics)
        told = f"mean reward {metrics['eval/mean_reward']:.3f} on {len(rows)} prompts"
        self.track.recorder.log_event("eval", step, told)
        self._keep_best(step, metrics["eval/mean_reward"])
        if self.on_eval:
            self.on_eval(self.track.recorder.folder)

    def _keep_best(self, step: int, mean: float) -> None:
        """Keep the adapter of the best evaluation so far in best/; its value is a maximum of many, hence optimistic."""
        means = [row["eval/mean_reward"] for row in self.track.history if "eval/mean_reward" in row]
        if mean >= max(means):
            if processes.is_first():
                self.policy.model.save_pretrained(self.track.recorder.folder / "best")
            told = f"best of {len(means)} evaluations, mean reward {mean:.3f} (selected, so optimistic)"
            self.track.recorder.log_event("checkpoint", step, told)

    def _extraction_under_v4(self, rows: list[dict[str, Any]]) -> float:
        """What V4's parser would have paid for the base policy's extractions: what the stop rule compares with."""
        records = {record["id"]: record for record in self.records}
        read = [row for row in rows if row["task"] == JSON_TASK]
        scored = [score_row(records[row["record_id"]], row["completion"], "v4") for row in read]
        return sum(row["total"] for row in scored) / len(scored)


class StopRuleCallback(TrainerCallback):
    """Judges the run by the stop table after each logged step; a triggered rule is an event and a line on screen.

    It is told again only after it was well in between.

    A rule whose action is `stop` ends the run after a checkpoint; the event says which rule, with its values.
    """

    def __init__(self, track: Track, limit: int, beta: float, actions: dict[str, stop_rules.Action]) -> None:
        self.track, self.limit, self.beta, self.actions = track, limit, beta, actions
        self.told: set[str] = set()

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Judge the run as it stands; tell what was triggered and do what its rule says."""
        statuses = self._judge(state)
        if not in_notebook() and self.track.evaluated_at(state.global_step):
            say(stop_rules.status_line(statuses))
        for status in statuses:
            if status.state == "ok":
                self.told.discard(status.rule.name)
            if status.state == "triggered" and status.rule.name not in self.told:
                self.told.add(status.rule.name)
                self._tell(status, state.global_step)
                if status.stops:
                    control.should_save = control.should_training_stop = True

    def _judge(self, state: TrainerState) -> list[stop_rules.RuleStatus]:
        found = [row[stop_rules.BASELINE_METRIC] for row in self.track.history if stop_rules.BASELINE_METRIC in row]
        baseline = found[0] if found else stop_rules.EXTRACTION_BASELINE
        return stop_rules.evaluate_rules(
            self.track.history, state.max_steps, self.limit, self.beta, baseline, self.actions
        )

    def _tell(self, status: stop_rules.RuleStatus, step: int) -> None:
        kind = "stop" if status.stops else "warning"
        told = f"{status.rule.label}: {status.message} ({status.stop_if})"
        self.track.recorder.log_event(kind, step, told, rule=status.rule.name, value=status.value)
        say(f"step {step}, {kind}: {told}")


def evaluate_split(
    policy: Policy, records: list[dict[str, Any]], split: str, step: int, settings: evaluation.Settings, track: Track
) -> list[dict[str, Any]]:
    """Answer a whole split: sampled, and for `eval` greedy beside it; GRPO sharpens, so the two gains differ.

    A task with a noisy reward is sampled several times there. Returns the rows of all answers.
    """
    if split == "eval":
        settings = replace(settings, samples_by_task=evaluation.SAMPLES, greedy_too=True)
    if not in_notebook():
        say(f"step {step}: answering the {len(records)} prompts of the {split} split")
    answers = []
    for rows, metrics in evaluation.timed_by_mode(policy, records, settings, step, split):
        _record_split(rows, metrics, step, track)
        answers += rows
    return answers


def take_answers(
    rows: list[dict[str, Any]], step: int, track: Track, seconds: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Record answers to a whole split that the very same policy gave before; returns them as those of `step`.

    `seconds` tells for each mode what they took then.
    """
    answers = [row | {"step": step} for row in rows]
    for mode in evaluation.MODES:
        of_mode = [row for row in answers if row["mode"] == mode]
        _record_split(of_mode, evaluation.summarize(of_mode) | {KNOWN_EVAL_SECONDS: seconds[mode]}, step, track)
    return answers


def split_seconds(history: Sequence[Mapping[str, Any]], step: int) -> dict[str, float]:
    """What the answers to the eval split took at `step`, a mode, of a run's metric rows."""
    return {
        mode: row["time/eval_s"]
        for mode in evaluation.MODES
        for row in history
        if row["step"] == step and f"{split_prefix('eval', mode)}mean_reward" in row
    }


def _record_split(rows: list[dict[str, Any]], metrics: dict[str, float], step: int, track: Track) -> None:
    track.recorder.log_eval(rows)
    where = split_prefix(rows[0]["split"], rows[0]["mode"])
    track.metrics(step, {key.replace("eval/", where): value for key, value in metrics.items()})
