"""The handoff's four questions, answered with numbers and intervals."""

from dataclasses import dataclass, replace

from helpers.core import stats
from helpers.core.stats import Interval
from helpers.runs import analysis
from helpers.runs.analysis import ALL
from helpers.runs.decision.effects import effects
from helpers.runs.decision.facts import MIN_PROMPTS, TARGET, Fact, Reference, fact, fewest_prompts, reference_for
from helpers.runs.load import Run, evaluated_steps
from helpers.runs.stop_rules import HANDOFF_STEPS, NEAR

JUMP = 0.18
"""What the parser fix should bring extraction: the handoff's 0.35 against its baseline of 0.17."""


@dataclass(frozen=True)
class Answer:
    """The answer to one of the handoff's questions."""

    question: str
    verdict: str
    interval: Interval
    number: str
    reason: str
    would_change: str
    reference: str

    def __str__(self) -> str:
        return (
            f"{self.question}\n  {self.verdict}: {self.number}\n  {self.reason}\n"
            f"  What would change it: {self.would_change}. Reference: {self.reference}."
        )


def answer_questions(run: Run, reference: Reference | None = None) -> list[Answer]:
    """The handoff's four questions, each with its number, interval, verdict, reason, and what would change it.

    `reference` defaults to `reference_for(run)`. A question whose evaluations the record lacks is answered "no data".
    """
    reference = reference or reference_for(run)
    answers = [_parser_fix(run, reference), _past_step_130(run, reference), _lowest_task(run), _target(run, reference)]
    end = analysis.end_rewards(run)
    if not end or fewest_prompts(end) >= MIN_PROMPTS:
        return answers
    needed = f"at least {MIN_PROMPTS} prompts per task"
    return [
        answer if answer.verdict == "no data" else replace(answer, verdict="undecided", would_change=needed)
        for answer in answers
    ]


def _parser_fix(run: Run, reference: Reference | None) -> Answer:
    """From the same completions under both parsers where the record holds them, else as the handoff would compare."""
    early = _early_extraction(run)
    effect = effects(run)
    if effect is None and early and reference:
        return _handoff_comparison(*early, reference)
    if effect is None:
        return _no_answer(_PARSER_QUESTION, reference, "completions, or an early evaluation and a V4 baseline")
    handoff = ""
    if early and reference:
        step, values = early
        handoff = f" Extraction at step {step}: {stats.bootstrap_mean(values)}; V4's baseline {reference.baseline:.3f}."
    return Answer(
        _PARSER_QUESTION,
        _jump_verdict(effect.parser, 0.0),
        effect.parser,
        f"{effect.parser.signed()} on the base policy's {effect.parser.n} extraction answers, old parser against ours",
        f"Yes from +{JUMP}, no under +{NEAR}. Learning, same parser, start to end: {effect.learning.signed()}; both: "
        f"{effect.total.signed()}.{handoff}",
        _would_change(effect.parser_changes, _nearest_line(effect.parser, 0.0), effect.parser),
        "V4's parser on the same completions",
    )


def _handoff_comparison(step: int, values: list[float], reference: Reference) -> Answer:
    """Extraction after the first steps against V4's baseline: parser and first learning together."""
    interval, baseline = stats.bootstrap_mean(values), reference.baseline
    return Answer(
        _PARSER_QUESTION,
        _jump_verdict(interval, baseline),
        interval,
        f"extraction at step {step}: {interval}; V4's baseline {baseline:.3f}",
        f"Yes from {baseline + JUMP:.2f}, no under {baseline + NEAR:.2f}; the record holds no completions to tell the "
        "parser from the first steps' learning.",
        _would_change(values, _nearest_line(interval, baseline), interval),
        reference.name,
    )


_PARSER_QUESTION = "Did the parser fix change the extraction reward?"


def _early_extraction(run: Run) -> tuple[int, list[float]] | None:
    """The first evaluation from step 10 of 600 on: its step and the extraction rewards."""
    early = run.max_steps * 10 / HANDOFF_STEPS
    step = next((step for step in evaluated_steps(run, "eval_subset") if step >= early), None)
    if step is None:
        return None
    values = list(analysis.prompt_rewards(run, step, "eval_subset").get("extraction", {}).values())
    return (step, values) if values else None


def _jump_verdict(interval: Interval, baseline: float) -> str:
    """yes: a jump of at least 0.18; no: less than 0.03; in part: between the two; else undecided."""
    jumped = Fact("jumped", "", interval, baseline + JUMP).holds
    moved = Fact("moved", "", interval, baseline + NEAR).holds
    if jumped:
        return "yes"
    if moved is False:
        return "no"
    return "in part" if moved and jumped is False else "undecided"


def _nearest_line(interval: Interval, baseline: float) -> float:
    """The verdict's line that lies nearest to the mean; one that the interval leaves open comes first."""
    lines = (baseline + JUMP, baseline + NEAR)
    return min(lines, key=lambda line: (not interval.low <= line <= interval.high, abs(interval.mean - line)))


def _past_step_130(run: Run, reference: Reference | None) -> Answer:
    at = round(130 * run.max_steps / HANDOFF_STEPS)
    question = f"Did the evaluation go on improving past step {at} (130 of 600)?"
    steps = evaluated_steps(run, "eval_subset")
    if len(steps) < 2 or steps[-1] <= at:
        return _no_answer(question, reference, "evaluations before and after that step")
    early = min(steps[:-1], key=lambda step: abs(step - at))
    before, after = (analysis.prompt_rewards(run, step, "eval_subset") for step in (early, steps[-1]))
    gain = analysis.paired_gain(before, after)
    verdict = "yes" if gain.difference.low > 0 else "no" if gain.difference.high < NEAR else "undecided"
    plateau = f"; V4 ended at {reference.plateau:.3f}" if reference else ""
    return Answer(
        question,
        verdict,
        gain.difference,
        f"from step {early} to {steps[-1]}: {gain.difference.signed()} on the same prompts",
        f"{gain.before.mean:.3f} then, {gain.after.mean:.3f} at the end{plateau}. Yes: the interval lies above 0; "
        f"no: it lies under {NEAR}.",
        _would_change(gain.changes, NEAR if verdict == "no" else 0.0, gain.difference),
        reference.name if reference else "none needed: the run against itself",
    )


def _lowest_task(run: Run) -> Answer:
    question = "Which task has the lowest reward at the end?"
    end = analysis.end_rewards(run)
    if not end:
        return _no_answer(question, None, f"an evaluation at step {run.max_steps}")
    means = {task: analysis.task_interval(end, task) for task in end}
    ranked = sorted(means, key=lambda task: means[task].mean)
    lowest, close = analysis.lowest_task(end)
    return Answer(
        question,
        f"undecided: {' or '.join([lowest, *close])}" if close else lowest,
        means[lowest],
        "; ".join(f"{task} {means[task]}" for task in ranked),
        "the next task's lead over it includes 0" if close else "every other task's interval above it excludes 0",
        f"a fall of {ranked[1]} by {means[ranked[1]].mean - means[lowest].mean:.3f}" if ranked[1:] else "",
        "none needed: the run's own tasks",
    )


def _target(run: Run, reference: Reference | None) -> Answer:
    question = f"Is the mean reward at the end at least {TARGET}?"
    split = analysis.end_split(run)
    if split is None:
        return _no_answer(question, reference, f"an evaluation at step {run.max_steps}")
    end = analysis.end_rewards(run)
    reached = fact("reached", "", end, ALL, TARGET)
    gain = analysis.gains(run, split).get(ALL)
    learned = f"; over the base policy, which stood at {gain.before}, {gain.difference.signed()} paired" if gain else ""
    plateau = f"; V4 ended at {reference.plateau:.3f}" if reference else ""
    return Answer(
        question,
        {True: "yes", False: "no", None: "undecided"}[reached.holds],
        reached.interval,
        f"{reached.interval} on {reached.interval.n} prompts of {split}",
        f"target {TARGET}{plateau}{learned}",
        _would_change(analysis.values_of(end), TARGET, reached.interval),
        reference.name if reference else "the tree's own target",
    )


def _no_answer(question: str, reference: Reference | None, needed: str) -> Answer:
    name = reference.name if reference else "none"
    empty = stats.bootstrap_mean([])
    return Answer(question, "no data", empty, "-", f"the record lacks {needed}", f"having {needed}", name)


def _would_change(values: list[float], threshold: float, interval: Interval) -> str:
    """What would turn the verdict: more prompts where it is open, else a shift of the mean."""
    if interval.low <= threshold <= interval.high:
        prompts = stats.prompts_to_decide(values, threshold)
        return f"about {prompts:,} prompts would settle it ({interval.n} now)" if prompts else "no number of prompts"
    gap = interval.low - threshold if interval.low > threshold else threshold - interval.high
    return f"a shift of more than {gap:.3f} {'down' if interval.low > threshold else 'up'}"
