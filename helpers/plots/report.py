"""A run as one HTML page that needs no network: the decision first, then the answers and everything behind them."""

import base64
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from matplotlib.figure import Figure

from helpers.core import files
from helpers.plots import run as plots
from helpers.plots import steps
from helpers.plots.style import TASK_LABELS
from helpers.runs import analysis, compare, decision, speed, stop_rules
from helpers.runs.analysis import ALL
from helpers.runs.decision import Reference
from helpers.runs.load import Run
from helpers.tasks import TASKS

_TEMPLATES = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)


@dataclass(frozen=True)
class Picture:
    """A figure with its heading and what to look at, as the report shows it."""

    title: str
    look: str
    png: str


def write_report(run: Run, path: Path, examples: int = 10) -> decision.Decision:
    """Write the page for `run` to `path` in one step; returns the decision that it opens with."""
    v4 = decision.reference_run(run)
    reference = decision.reference_for(run)
    found = decision.decide(run, reference)
    files.write_text(path, render(run, v4, reference, found, examples))
    return found


def render(run: Run, v4: Run | None, reference: Reference | None, found: decision.Decision, examples: int = 10) -> str:
    """The page's HTML: figures embedded as PNG, all text of the run escaped."""
    return _TEMPLATES.get_template("report.html.j2").render(
        run=run,
        decision=found,
        answers=decision.answer_questions(run, reference),
        gains=gain_rows(run),
        pictures=list(pictures(run, v4)),
        panel=stop_panel(run, reference),
        tables=[plots.before_after_table(run, task, examples) for task in TASKS],
        best=analysis.best_step(run),
        test=on_test(run),
        speed=speed.phase_table(run).to_dict("records"),
        bars=_picture(*_SPEED, steps.phase_bars([run])),
    )


def gain_rows(run: Run) -> list[dict[str, str]]:
    """A row a task: start, end and paired gain, sampled and greedy, as text."""
    sampled, greedy = (analysis.gains(run, mode=mode) for mode in ("sample", "greedy"))
    return [
        {
            "Task": TASK_LABELS.get(task, "All tasks"),
            "Start": str(sampled[task].before),
            "End": str(sampled[task].after),
            "Paired gain": sampled[task].difference.signed(),
            "Paired gain, greedy": greedy[task].difference.signed() if task in greedy else "-",
            "Prompts": str(sampled[task].difference.n),
        }
        for task in (ALL, *TASKS)
        if task in sampled
    ]


def on_test(run: Run) -> str:
    """The end's mean reward on the test split, which a run answers once and nothing is chosen by."""
    rewards = analysis.prompt_rewards(run, run.max_steps, "test")
    interval = analysis.task_interval(rewards)
    return f"{interval} on {interval.n} prompts" if interval.n else "not evaluated"


def headline(run: Run, found: decision.Decision) -> dict[str, str]:
    """The few numbers of a run that its reader should see first, titled for `helpers.runs.summary`."""
    name = f"Scenario {found.scenario}: " if found.scenario in ("A", "B", "C") else ""
    numbers = {"03 run": run.where, "03 decision": f"{name}{found.title}", "03 next": found.command}
    sampled, greedy = (analysis.gains(run, mode=mode) for mode in ("sample", "greedy"))
    for task, gain in sampled.items():
        numbers[f"03 gain {task}, sampled"] = f"{gain.difference.signed()} to {gain.after}"
    numbers["03 test split, once"] = on_test(run)
    if ALL in greedy:
        numbers["03 gain all, greedy"] = f"{greedy[ALL].difference.signed()} to {greedy[ALL].after}"
    return numbers


def stop_panel(run: Run, reference: Reference | None) -> list[dict[str, str]]:
    """The stop table as it stood at the end of the run."""
    settings = {"extraction_baseline": reference.baseline} if reference else {}
    return stop_rules.status_panel(analysis.stop_statuses(run, **settings))


def pictures(run: Run, v4: Run | None = None) -> Iterator[Picture]:
    """Every figure of the page, in its order; `v4` is drawn beside `run` where it is given."""
    yield _picture(*_CURVES, plots.eval_curves([run, v4] if v4 else [run]))
    for title, look, draw in _FIGURES:
        yield _picture(title, look, draw(run))
    effects = decision.effects(run)
    if effects:
        look = (
            f"Parser alone {effects.parser.signed()}, learning alone {effects.learning.signed()}, on the same prompts."
        )
        yield _picture("Parser effect and learning effect on extraction", look, plots.parser_effects(effects))


def comparison(runs: Sequence[Run]) -> str:
    """Runs side by side as text: each one's end and gain, then how far each lies above the first."""
    lines = [f"{'':<14}" + "".join(f"{run.name:>26}" for run in runs)]
    for told, value in (
        ("recipe", lambda run: run.recipe),
        ("reward", _rewarded),
        ("steps", lambda run: run.last_step),
    ):
        lines.append(f"{told:<14}" + "".join(f"{value(run)!s:>26}" for run in runs))
    for task in (ALL, *TASKS):
        ends = [analysis.task_interval(analysis.end_rewards(run), task) for run in runs]
        lines.append(f"{task:<14}" + "".join(f"{end!s:>26}" for end in ends))
    gained = [analysis.gains(run).get(ALL) for run in runs]
    lines.append(
        f"{'gain over base':<14}" + "".join(f"{gain.difference.signed() if gain else '-':>26}" for gain in gained)
    )
    for other in runs[1:]:
        lines += ["", *_difference_lines(runs[0], other)]
    return "\n".join(lines)


def _difference_lines(first: Run, other: Run) -> list[str]:
    how = compare.difference(first, other)[1]
    n = compare.difference(first, other)[0].n
    why = f"the same {n} prompts" if how == "paired" else "their eval sets differ, so the interval is wider"
    lines = [f"{other.name} minus {first.name}, {how}: {why}"]
    if _rewarded(first) != _rewarded(other):
        lines.append("  rewarded differently: the difference holds the parser's effect beside the learning's")
    shared = [task for task in TASKS if task in analysis.end_rewards(first) and task in analysis.end_rewards(other)]
    return lines + [f"  {task:<12} {compare.difference(first, other, task)[0].signed()}" for task in (ALL, *shared)]


def _rewarded(run: Run) -> str:
    return f"{run.reward_version} {run.config.get('parser', '')}"


_SPEED = ("Where a step's seconds go", "The longest phase is the one worth making faster.")
_CURVES = ("Evaluation reward", "A trend counts when it leaves its own band, which is 15 to 20 prompts a task wide.")
_FIGURES: tuple[tuple[str, str, Callable[[Run], Figure]], ...] = (
    (
        "Gain over the base policy",
        "Paired on the same prompts; an interval that leaves 0 out is a gain.",
        plots.gain_bars,
    ),
    (
        "What the rewards are made of",
        "A part that stands still while others grow is where reward is left.",
        plots.reward_parts,
    ),
    (
        "Rewards at the start and the end",
        "A mean can rise by fewer zeros or by better answers.",
        plots.reward_distributions,
    ),
    (
        "Reward in training",
        "Single steps see two prompts and scatter widely; the moving mean is the trend.",
        plots.reward_curve,
    ),
    ("Health of the training", "The rate is the one applied, as logged.", plots.training_health),
    ("Coverage", "A task that was shown rarely had little chance to improve.", plots.coverage_bars),
    ("Parser repairs", "A rising share means that the policy writes sloppier JSON.", plots.repairs_over_time),
    ("The stop table over time", "A mark is a state that asks for a look.", plots.stop_table_history),
)


def _picture(title: str, look: str, figure: Figure) -> Picture:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return Picture(title, look, base64.b64encode(buffer.getvalue()).decode("ascii"))
