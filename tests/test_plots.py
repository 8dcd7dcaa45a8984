import io
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from helpers import plots
from helpers.plots.style import TASK_COLORS, TASK_LABELS, WIDTH, panels
from helpers.rewards import WEIGHTS
from helpers.runs import analysis, decision
from helpers.runs.load import Run, load_run
from helpers.tasks import TASKS
from tests import synthetic_runs
from tests.synthetic_runs import Spec, means, write_run

FIGURES = [
    lambda run: plots.eval_curves([run]),
    plots.gain_bars,
    plots.reward_curve,
    plots.reward_parts,
    plots.training_parts,
    plots.training_health,
    plots.coverage_bars,
    plots.repairs_over_time,
    plots.reward_distributions,
    plots.stop_table_history,
    lambda run: plots.phase_bars([run]),
    lambda run: plots.planned_coverage(run.config["coverage"]),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("runs") / "v4.1"
    return load_run(write_run(folder, Spec(means(0.4), means(0.6), max_steps=40, eval_every=10)))


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = write_run(tmp_path_factory.mktemp("runs") / "empty", Spec(means(0.4), means(0.6), max_steps=20))
    for name in ("metrics.jsonl", "eval.jsonl", "events.jsonl"):
        (folder / name).write_text("")
    return load_run(folder)


def test_a_run_on_one_task_alone_draws_the_parts_of_that_task_only(run: Run) -> None:
    alone = replace(run, config=run.config | {"recipe": run.config["recipe"] | {"only_task": "push"}})
    drawn = [axis.get_title(loc="left") or axis.get_title() for axis in plots.training_parts(alone).axes if axis.axison]
    assert drawn == [plots.style.task_label("push")]


@pytest.fixture
def five(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run of five tasks; the fifth, `returns`, exists for this test only."""
    four, tasks = TASKS, (*TASKS, "returns")
    for name, module in list(sys.modules.items()):
        if name.startswith(("helpers.", "tests.")) and getattr(module, "TASKS", None) == four:
            monkeypatch.setattr(module, "TASKS", tasks)
    for table, value in (
        (TASK_COLORS, "#56B4E9"),
        (TASK_LABELS, "Return requests"),
        (WEIGHTS["v4.1"], {"parsed": 0.4, "reason": 0.6}),
        (synthetic_runs.PARTS, ("parsed", "reason")),
        (synthetic_runs.SUBSET, 15),
        (synthetic_runs.FULL, 65),
        (synthetic_runs.RECORDS, 148),
    ):
        monkeypatch.setitem(table, "returns", value)
    spec = Spec(dict.fromkeys(tasks, 0.4), dict.fromkeys(tasks, 0.6), max_steps=40, eval_every=10)
    return load_run(write_run(tmp_path / "five", spec))


def png_width(figure: Figure) -> int:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return int.from_bytes(buffer.getvalue()[16:20], "big")


@pytest.mark.parametrize("draw", FIGURES)
def test_every_figure_is_drawn_at_notebook_width(run: Run, draw) -> None:
    assert png_width(draw(run)) == WIDTH * 90


@pytest.mark.parametrize("draw", FIGURES)
def test_a_record_without_rows_still_draws(empty: Run, draw) -> None:
    assert png_width(draw(empty)) == WIDTH * 90


@pytest.mark.parametrize("draw", FIGURES)
def test_every_figure_is_drawn_for_five_tasks(five: Run, draw) -> None:
    assert png_width(draw(five)) == WIDTH * 90


@pytest.mark.parametrize("draw", [FIGURES[0], plots.reward_parts, plots.reward_distributions])
def test_a_fifth_task_has_a_panel_of_its_own(five: Run, draw) -> None:
    axes = {axis.get_title(loc="left"): axis for axis in draw(five).axes}
    assert set(TASK_LABELS.values()) <= set(axes)
    assert axes["Return requests"].has_data() and axes["Return requests"].get_xlabel()


@pytest.mark.parametrize("draw", [plots.gain_bars, plots.coverage_bars, FIGURES[-1]])
def test_a_fifth_task_has_a_row_of_its_own(five: Run, draw) -> None:
    (axis,) = draw(five).axes
    rows = {label.get_text(): label.get_position()[1] for label in axis.get_yticklabels()}
    assert set(TASK_LABELS.values()) <= set(rows)
    assert min(axis.get_ylim()) < rows["Return requests"] < max(axis.get_ylim())


def test_tables_and_audits_hold_five_tasks(five: Run) -> None:
    assert [row["Task"] for row in plots.gain_rows(five)] == ["All tasks", *TASK_LABELS.values()]
    assert "Return requests</caption>" in plots.before_after_table(five, "returns", n=1)
    scores = pd.DataFrame(
        {"task": task, "record_id": "r", "kind": "reference", "probe": "p", "version": "v4.2", "total": 1.0, "ok": True}
        for task in TASK_LABELS
    )
    assert len(plots.kind_heat_map(scores).axes[0].get_xticks()) == 5
    assert len(plots.probe_heat_map(scores, "returns").axes[0].get_xticks()) == 1


def test_task_colours_are_distinct_and_from_the_okabe_ito_palette() -> None:
    okabe_ito = {"#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#000000"}
    assert set(TASK_COLORS) == set(TASK_LABELS) == set(TASKS)
    assert len(set(TASK_COLORS.values())) == len(TASKS) and set(TASK_COLORS.values()) <= okabe_ito


def test_a_task_has_its_colour_in_every_panel_of_the_curves(run: Run) -> None:
    axes = {axis.get_title(loc="left"): axis for axis in plots.eval_curves([run, run]).axes}
    for task in TASKS:
        colours = {to_rgb(line.get_color()) for line in axes[TASK_LABELS[task]].get_lines()}
        assert colours == {to_rgb(TASK_COLORS[task])}


def test_runs_side_by_side_differ_in_more_than_colour(run: Run) -> None:
    first, second = plots.eval_curves([run, run]).axes[0].get_lines()
    assert (first.get_linestyle(), first.get_marker()) != (second.get_linestyle(), second.get_marker())


def test_stacked_parts_add_up_to_the_mean_reward(run: Run) -> None:
    axis = next(a for a in plots.reward_parts(run).axes if a.get_title(loc="left") == TASK_LABELS["push"])
    top = max(path.vertices[:, 1].max() for part in axis.collections for path in part.get_paths())
    assert top == pytest.approx(analysis.curve(run, "push")["mean"].max(), abs=1e-6)


def test_the_table_shows_answers_as_text_not_as_markup(run: Run) -> None:
    table = plots.before_after_table(run, "push", n=10)
    assert table.count("<tr>") == 11
    assert "&lt;b&gt;10%&lt;/b&gt;" in table and "<b>" not in table


def test_the_parser_figure_has_a_row_a_parser(run: Run) -> None:
    found = decision.effects(run)
    assert found is not None
    labels = [tick.get_text() for tick in plots.parser_effects(found).axes[0].get_yticklabels()]
    assert labels == ["V4's regular expression", "the handoff's fix", "ours"]


def test_a_picture_of_few_colours_keeps_every_tasks_own_colour() -> None:
    figure, axes = panels(2, 2, height=4.0)
    for axis, color in zip(axes.flat, TASK_COLORS.values(), strict=True):
        axis.stackplot(range(9), [range(9)] * 9, colors=[(*to_rgb(color), alpha / 9) for alpha in range(1, 10)])
        axis.plot([0.5], [60], "s", color=color, ms=4)
    shown = {pixel for _, pixel in Image.open(io.BytesIO(figure._repr_png_())).convert("RGB").getcolors(1 << 20)}
    assert {tuple(round(255 * part) for part in to_rgb(color)) for color in TASK_COLORS.values()} <= shown


def test_no_band_of_a_shown_picture_takes_another_tasks_tint(run: Run) -> None:
    figure = plots.eval_curves([run, run])
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    before, after = (
        np.asarray(Image.open(file).convert("RGB"), dtype=int) for file in (drawn, io.BytesIO(figure._repr_png_()))
    )
    assert np.abs(before - after).max() < 10
