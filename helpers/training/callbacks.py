"""What happens around a training step: the run record, the progress line, evaluation, and the stop rules."""

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState

from helpers.core import interrupts, processes
from helpers.core.progress import Progress, in_notebook, say
from helpers.policy import Policy, evaluation
from helpers.recipes import profiles
from helpers.rewards import score_row
from helpers.runs import stop_rules
from helpers.runs.record import PARTS, evaluation_due
from helpers.tasks import JSON_TASK, TASKS
from helpers.tasks.records import Rows, eval_subset
from helpers.training import base_answers, checkpoints, splits, warmup
from helpers.training.plan import Plan
from helpers.training.track import OnEval, Track

# TRL's metric names, and the handoff's, which W&B gets.
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
    "clip_ratio/region_mean": "train/clip_ratio",
    # With vLLM alone: its log-probabilities and the trainer's of the same tokens, and the ratios that correct for them.
    "sampling/sampling_logp_difference/mean": "train/logp_difference",
    "sampling/sampling_logp_difference/max": "train/logp_difference_max",
    "sampling/importance_sampling_ratio/min": "train/importance_ratio_min",
    "sampling/importance_sampling_ratio/mean": "train/importance_ratio",
    "sampling/importance_sampling_ratio/max": "train/importance_ratio_max",
    "kl": "train/kl",
    "num_tokens": "train/num_tokens",
}
for _task in TASKS:
    _RENAMED |= {f"rewards/{_task}/mean": f"train/reward/{_task}", f"rewards/{_task}/std": f"train/reward_std/{_task}"}

_SEEN = "train/prompts_seen/"
_SUBSET = "eval_subset"


def prompts_seen(history: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Prompts per task that a run had shown by its last logged step; 0 at its start."""
    counted: Mapping[str, Any] = next((row for row in reversed(history) if f"{_SEEN}{TASKS[0]}" in row), {})
    return {task: counted.get(f"{_SEEN}{task}", 0.0) for task in TASKS}


class RunRecordCallback(TrainerCallback):
    """Writes each logged step with its step report to the run record and W&B, and shows one progress line."""

    def __init__(self, plan: Plan, track: Track) -> None:
        self.name, self.group, self.track = plan.recipe.name, plan.recipe.num_generations, track
        self.seen = prompts_seen(track.history)
        self.recent: list[float] = []

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Open the progress line."""
        self.line = Progress(f"GRPO {self.name}", state.max_steps)

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Record a step's metrics under our names; a row without a reward is TRL's summary of the run."""
        values = {ours: logs[theirs] for theirs, ours in _RENAMED.items() if logs and logs.get(theirs) is not None}
        if "train/reward" not in values:
            return
        self.track.collect_errors()
        parts = {key: value for key, value in (logs or {}).items() if key.startswith(PARTS) and value is not None}
        counts = self._count(logs or {}) | {"train/reward_errors": self.track.reward_errors}
        self.track.metrics(state.global_step, values | parts | counts | self.track.clock.take())
        self.recent = [*self.recent[-9:], values["train/reward"]]
        self.line.update(state.global_step, f"reward {sum(self.recent) / len(self.recent):.3f} (mean of 10 steps)")

    def _count(self, logs: dict[str, Any]) -> dict[str, float]:
        """Prompts per task that all processes have shown so far, under metric keys."""
        for task in TASKS:  # TRL logs the mean over processes of the rows that each has shown
            self.seen[task] += logs.get(f"rows/{task}", 0.0) * processes.count() / self.group
        return {f"{_SEEN}{task}": round(seen, 3) for task, seen in self.seen.items()}

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Mark the checkpoint as whole, once every process has written its part, and remove older ones."""
        processes.wait()
        name, folder = f"checkpoint-{state.global_step}", self.track.recorder.folder
        if processes.is_first():
            checkpoints.mark_whole(folder / checkpoints.FOLDER / name)
            checkpoints.keep_newest(folder)
        self.track.recorder.log_event("checkpoint", state.global_step, name)

    def on_train_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Close the progress line."""
        self.line.close(f"{state.global_step} steps")


class EvalRewardCallback(TrainerCallback):
    """Answers the fixed subset of the eval split every `eval_every` steps: each task's mean with its interval.

    Around the training, `at_start` and `at_end` answer whole splits; the subset's answers are picked from those.
    `on_eval` is called with the run's folder after each evaluation.
    """

    def __init__(self, plan: Plan, policy: Policy, track: Track, on_eval: OnEval | None = None) -> None:
        self.plan, self.policy, self.track, self.on_eval = plan, policy, track, on_eval
        self.records = eval_subset(plan.splits["eval"])
        self.settings, self.every = plan.settings, profiles.eval_every(plan.recipe, plan.profile)

    def at_start(self) -> None:
        """Answer the eval split before the first step: with what the warm-up or another run of the same embedded
        policy answered, where that exists; nothing in a run that resumes."""
        if self.plan.checkpoint is not None:
            return
        rows, seconds = warmup.last_answers(self.plan)
        if rows:
            self._take(0, splits.take_answers(rows, 0, self.track, seconds))
        else:
            self._take(0, base_answers.evaluate_base(self.plan, self.policy, self.track))

    def at_end(self) -> None:
        """Answer the eval split after the last step, and the test split, unless that was done before a kill."""
        if self.plan.left == "adapter":
            return
        step = self.track.step
        self._take(step, splits.evaluate_split(self.plan, self.policy, "eval", step, self.track))
        splits.evaluate_split(self.plan, self.policy, "test", step, self.track)

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Make up for the evaluation that SIGTERM left out before the checkpoint that a run resumes from."""
        if not self.track.evaluated_at(state.global_step):
            self.on_step_end(args, state, control)

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Answer the subset where an evaluation is due; the end of the run is left to `at_end`.

        After SIGTERM there may be no time for it: the checkpoint comes first, and the resumed run evaluates.
        """
        step, last = state.global_step, state.max_steps
        if 0 < step < last and evaluation_due(step, self.every, last) and not interrupts.requested_anywhere():
            with self.track.clock.phase("eval"):
                self._record(step, *evaluation.timed_evaluate(self.policy, self.records, self.settings, step, _SUBSET))

    def _take(self, step: int, rows: Rows) -> None:
        """Record the first sampled answers to the subset among `rows`, the answers to the whole split."""
        ids = {record["id"] for record in self.records}
        first = [row for row in rows if row["mode"] == "sample" and row["sample"] == 0]
        own = [row | {"split": _SUBSET} for row in first if row["record_id"] in ids]
        self._record(step, own, evaluation.summarize(own))

    def _record(self, step: int, rows: Rows, metrics: dict[str, float]) -> None:
        if step == 0:
            metrics[stop_rules.BASELINE_METRIC] = self._extraction_under_v4(rows)
        self.track.recorder.log_eval(rows)
        self.track.metrics(step, metrics)
        mean = metrics["eval/mean_reward"]
        self.track.recorder.log_event("eval", step, f"mean reward {mean:.3f} on {len(rows)} prompts")
        self._keep_best(step, mean)
        if self.on_eval:
            self.on_eval(self.track.recorder.folder)

    def _keep_best(self, step: int, mean: float) -> None:
        """Keep the adapter of the best evaluation so far in best/."""
        means = [row["eval/mean_reward"] for row in self.track.history if "eval/mean_reward" in row]
        if mean >= max(means):
            if processes.is_first():
                checkpoints.replace_adapter(self.policy.model, self.track.recorder.folder / "best")
            # The maximum of many noisy means is higher than what the adapter would score on new prompts.
            message = f"best of {len(means)} evaluations, mean reward {mean:.3f} (selected, so optimistic)"
            self.track.recorder.log_event("checkpoint", step, message)

    def _extraction_under_v4(self, rows: Rows) -> float:
        """The mean reward of the base policy's extractions under V4's parser, which a stop rule compares with."""
        records = {record["id"]: record for record in self.records}
        extractions = [row for row in rows if row["task"] == JSON_TASK]
        scored = [score_row(records[row["record_id"]], row["completion"], "v4") for row in extractions]
        return sum(row["total"] for row in scored) / len(scored)


class StopRuleCallback(TrainerCallback):
    """Checks the stop rules after each logged step. A triggered rule is an event and a line on screen, once until it is
    well again; one named in `stop` ends the run after a checkpoint."""

    def __init__(self, plan: Plan, track: Track, stop: Sequence[str] = ()) -> None:
        self.recipe, self.track = plan.recipe, track
        self.actions: dict[str, stop_rules.Action] = dict.fromkeys(stop, "stop")
        self.triggered: set[str] = set()

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Of a resumed run, the warnings that its record triggers have been given before."""
        triggered = [status for status in self._check(state) if status.state == "triggered" and not status.stops]
        self.triggered = {status.rule.name for status in triggered}

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Report newly triggered rules, and stop where one says so."""
        statuses = self._check(state)
        if not in_notebook() and self.track.evaluated_at(state.global_step):
            say(stop_rules.status_line(statuses))
        stop = False
        for status in statuses:
            name = status.rule.name
            if status.state == "ok":
                self.triggered.discard(name)
            if status.state == "triggered" and name not in self.triggered:
                self.triggered.add(name)
                self._report(status, state.global_step)
                stop = stop or status.stops
        # Evaluations on a GPU differ a little between processes: one that trained on alone would wait forever.
        if processes.anywhere(stop):
            control.should_save = control.should_training_stop = True

    def _check(self, state: TrainerState) -> list[stop_rules.RuleStatus]:
        history, baseline = self.track.history, stop_rules.BASELINE_METRIC
        measured = next((row[baseline] for row in history if baseline in row), stop_rules.EXTRACTION_BASELINE)
        limit, beta = self.recipe.max_completion_length, self.recipe.beta
        settings = {"limit": limit, "beta": beta, "extraction_baseline": measured, "only_task": self.recipe.only_task}
        return stop_rules.evaluate_rules(history, state.max_steps, self.actions, **settings)

    def _report(self, status: stop_rules.RuleStatus, step: int) -> None:
        kind = "stop" if status.stops else "warning"
        message = f"{status.rule.label}: {status.message} ({status.stop_if})"
        self.track.recorder.log_event(kind, step, message, rule=status.rule.name, value=status.value)
        say(f"step {step}, {kind}: {message}")


class InterruptCallback(TrainerCallback):
    """Ends a run that got SIGTERM after its current step, with a checkpoint. It comes last: what a step's end records
    has to be in the record before the checkpoint is written."""

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """A signal now waits for the end of a step."""
        interrupts.training_begins()

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Save and stop where a signal has come."""
        if interrupts.requested_anywhere():
            control.should_save = control.should_training_stop = True

    def on_train_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """A signal now ends the run at once, and so does one that came during the steps."""
        interrupts.training_ends()
