"""A run as one HTML page that needs no network: the decision first, then the answers and everything behind them."""

import base64
from collections.abc import Callable, Iterator
from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from matplotlib.figure import Figure

from helpers.core import files
from helpers.plots.curves import eval_curves, reward_curve, reward_distributions, reward_parts
from helpers.plots.gains import before_after_table, gain_bars, gain_rows, on_test, parser_effects
from helpers.plots.health import (
    coverage_bars,
    repairs_over_time,
    stop_panel,
    stop_table_history,
    training_health,
)
from helpers.plots.steps import phase_bars
from helpers.plots.style import png
from helpers.runs import analysis, decision, speed
from helpers.runs.load import Run
from helpers.tasks import TASKS

_TEMPLATES = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
_FIGURES: tuple[tuple[str, str, Callable[[Run], Figure]], ...] = (
    ("Gain over the base policy", "Paired on the same prompts; an interval that leaves 0 out is a gain.", gain_bars),
    (
        "What the rewards are made of",
        "A part that stands still while others grow is where reward is left.",
        reward_parts,
    ),
    ("Rewards at the start and the end", "A mean can rise by fewer zeros or by better answers.", reward_distributions),
    (
        "Reward in training",
        "Single steps see two prompts and scatter widely; the moving mean is the trend.",
        reward_curve,
    ),
    ("Health of the training", "The rate is the one applied, as logged.", training_health),
    ("Coverage", "A task that was shown rarely had little chance to improve.", coverage_bars),
    ("Parser repairs", "A rising share means that the policy writes sloppier JSON.", repairs_over_time),
)
"""Title, what to look at, and the figure, in the page's order."""


def write_report(run: Run, path: Path, examples: int = 10) -> decision.Decision:
    """Write the page for `run` to `path` in one step; returns the decision that it opens with."""
    v4 = decision.reference_run(run)
    reference = decision.reference_for(run)
    decided = decision.decide(run, reference)
    page = _TEMPLATES.get_template("report.html.j2").render(
        run=run,
        decision=decided,
        answers=decision.answer_questions(run, reference),
        gains=gain_rows(run),
        best=analysis.best_step(run),
        test=on_test(run),
        sections=list(_sections(run, v4, reference)),
        phases=_section(
            "Where a step's seconds go", "The longest phase is the one worth making faster.", phase_bars([run])
        ),
        speed=speed.phase_table(run).to_dict("records"),
        panel=stop_panel(run, reference),
        tables=[before_after_table(run, task, examples) for task in TASKS],
    )
    files.write_text(path, page)
    return decided


def _sections(run: Run, v4: Run | None, reference: decision.Reference | None) -> Iterator[dict[str, str]]:
    """Every figure of the page, in its order; `v4` is drawn beside `run` where there is one."""
    look = "A trend counts when it leaves its own band, which is 15 to 20 prompts per task wide."
    yield _section("Evaluation reward", look, eval_curves([run, v4] if v4 else [run]))
    for title, look, draw in _FIGURES:
        yield _section(title, look, draw(run))
    look = "A mark is a state that asks for a look."
    yield _section("The stop table over time", look, stop_table_history(run, reference))
    effects = decision.effects(run)
    if effects:
        parser, learning = effects.parser.signed(), effects.learning.signed()
        look = (
            f"Parser alone {parser}, learning alone {learning}, on the same prompts; read by V4's parser, learning is "
            f"{effects.learning_as_v4.signed()}."
        )
        yield _section("Parser effect and learning effect on extraction", look, parser_effects(effects))


def _section(title: str, look: str, figure: Figure) -> dict[str, str]:
    return {"title": title, "look": look, "png": base64.b64encode(png(figure)).decode("ascii")}
