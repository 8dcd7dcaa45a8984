"""A run as one HTML page that needs no network: the decision first, then the answers and everything behind them."""

import base64
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from matplotlib.figure import Figure

from helpers.core import files
from helpers.plots import curves, gains, health, steps
from helpers.plots.style import png
from helpers.runs import analysis, decision, speed
from helpers.runs.load import Run
from helpers.tasks import TASKS

_TEMPLATES = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
_CURVES = ("Evaluation reward", "A trend counts when it leaves its own band, which is 15 to 20 prompts a task wide.")
_SPEED = ("Where a step's seconds go", "The longest phase is the one worth making faster.")
_FIGURES: tuple[tuple[str, str, Callable[[Run], Figure]], ...] = (
    (
        "Gain over the base policy",
        "Paired on the same prompts; an interval that leaves 0 out is a gain.",
        gains.gain_bars,
    ),
    (
        "What the rewards are made of",
        "A part that stands still while others grow is where reward is left.",
        curves.reward_parts,
    ),
    (
        "Rewards at the start and the end",
        "A mean can rise by fewer zeros or by better answers.",
        curves.reward_distributions,
    ),
    (
        "Reward in training",
        "Single steps see two prompts and scatter widely; the moving mean is the trend.",
        health.reward_curve,
    ),
    ("Health of the training", "The rate is the one applied, as logged.", health.training_health),
    ("Coverage", "A task that was shown rarely had little chance to improve.", health.coverage_bars),
    ("Parser repairs", "A rising share means that the policy writes sloppier JSON.", health.repairs_over_time),
    ("The stop table over time", "A mark is a state that asks for a look.", health.stop_table_history),
)


@dataclass(frozen=True)
class Section:
    """A figure with its heading and what to look at, as the report shows it."""

    title: str
    look: str
    png: str


def write_report(run: Run, path: Path, examples: int = 10) -> decision.Decision:
    """Write the page for `run` to `path` in one step; returns the decision that it opens with."""
    v4 = decision.reference_run(run)
    reference = decision.reference_for(run)
    decided = decision.decide(run, reference)
    page = _TEMPLATES.get_template("report.html.j2").render(
        run=run,
        decision=decided,
        answers=decision.answer_questions(run, reference),
        gains=gains.gain_rows(run),
        best=analysis.best_step(run),
        test=gains.on_test(run),
        sections=list(_sections(run, v4)),
        phases=_section(*_SPEED, steps.phase_bars([run])),
        speed=speed.phase_table(run).to_dict("records"),
        panel=health.stop_panel(run, reference),
        tables=[gains.before_after_table(run, task, examples) for task in TASKS],
    )
    files.write_text(path, page)
    return decided


def _sections(run: Run, v4: Run | None) -> Iterator[Section]:
    """Every figure of the page, in its order; `v4` is drawn beside `run` where there is one."""
    yield _section(*_CURVES, curves.eval_curves([run, v4] if v4 else [run]))
    for title, look, draw in _FIGURES:
        yield _section(title, look, draw(run))
    effects = decision.effects(run)
    if effects:
        parser, learning = effects.parser.signed(), effects.learning.signed()
        look = f"Parser alone {parser}, learning alone {learning}, on the same prompts."
        yield _section("Parser effect and learning effect on extraction", look, gains.parser_effects(effects))


def _section(title: str, look: str, figure: Figure) -> Section:
    return Section(title, look, base64.b64encode(png(figure)).decode("ascii"))
