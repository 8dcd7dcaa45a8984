import argparse
import importlib
import json
import math
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.core.files import PROJECT_ROOT
from helpers.core.stats import Interval
from helpers.runs import analysis, decision, load
from helpers.runs.decision import questions, tree
from helpers.runs.decision.facts import gather_facts
from helpers.runs.decision.tree import walk
from helpers.runs.load import Run, load_run
from helpers.tasks import TASKS
from tests.synthetic_runs import Spec, early_then_flat, end_rewards, means, write_run

BASE = means(0.36, extraction=0.17)
EXACT = math.inf


@pytest.fixture
def no_other_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No run but those that the test writes: neither shipped ones nor the reader's own."""
    monkeypatch.setattr(load, "SHIPPED_RUNS", tmp_path / "none")
    monkeypatch.setattr(load, "OWN_RUNS", tmp_path / "none")
    monkeypatch.setenv("HELPERS_RUN_DIR", str(tmp_path / "none"))


def made(tmp_path: Path, end: dict[str, float], start: dict[str, float] = BASE, **settings) -> Run:
    spec = Spec(start, end, **{"max_steps": 60, "eval_every": 10, "spread": EXACT} | settings)
    return load_run(write_run(tmp_path / "v4.1", spec))


def scenario(tmp_path: Path, end: dict[str, float], **settings) -> str:
    return decision.decide(made(tmp_path, end, **settings), decision.HANDOFF).scenario


# Each branch, without noise: every mean is known exactly.


def test_a_mean_reward_of_055_scales_up(tmp_path: Path) -> None:
    found = decision.decide(made(tmp_path, means(0.60)), decision.HANDOFF)
    assert found.scenario == "A" and "3.7B" in found.next_step


@pytest.mark.parametrize(("overall", "expected"), [(0.549, "none"), (0.55, "A"), (0.551, "A")])
def test_the_target_itself_counts_as_reached(tmp_path: Path, overall: float, expected: str) -> None:
    assert scenario(tmp_path, means(overall)) == expected


def test_no_gain_over_v4_and_stuck_extraction_switches_the_base_model(tmp_path: Path) -> None:
    found = decision.decide(made(tmp_path, means(0.476, extraction=0.17)), decision.HANDOFF)
    assert found.scenario == "B" and "base model" in found.next_step


@pytest.mark.parametrize(
    ("overall", "extraction", "expected"),
    [
        (0.505, 0.199, "B"),
        (0.507, 0.199, "C"),
        (0.505, 0.201, "none"),
        (0.507, 0.249, "C"),
        (0.507, 0.251, "none"),
        (0.447, 0.199, "B"),
        (0.440, 0.199, "none"),
    ],
)
def test_the_lines_between_b_c_and_no_branch(tmp_path: Path, overall: float, extraction: float, expected: str) -> None:
    assert scenario(tmp_path, means(overall, extraction=extraction)) == expected


@pytest.mark.parametrize(
    ("task", "floor", "said"),
    [("extraction", 0.25, "v4.2"), ("sql_qa", 0.20, "3.7B"), ("insights", 0.20, "350"), ("push", 0.20, "no fix")],
)
def test_a_lagging_task_gets_its_own_fix(tmp_path: Path, task: str, floor: float, said: str) -> None:
    low = {task: floor - 0.001}
    found = decision.decide(made(tmp_path, means(0.53, **low), start=means(0.36, **low)), decision.HANDOFF)
    assert (found.scenario, found.task) == ("C", task)
    assert said in found.next_step


@pytest.mark.parametrize(
    ("task", "floor"), [("extraction", 0.25), ("sql_qa", 0.20), ("insights", 0.20), ("push", 0.20)]
)
def test_a_task_on_its_floor_does_not_lag(tmp_path: Path, task: str, floor: float) -> None:
    assert scenario(tmp_path, means(0.53, **{task: floor})) == "none"


def test_of_two_lagging_tasks_the_weakest_is_fixed(tmp_path: Path) -> None:
    low = {"insights": 0.18, "push": 0.15}
    found = decision.decide(made(tmp_path, means(0.53, **low), start=means(0.36, **low)), decision.HANDOFF)
    assert (found.scenario, found.task) == ("C", "push")
    assert sum("against its floor" in reason for reason in found.reasons) == 2


def test_the_target_comes_before_a_lagging_task(tmp_path: Path) -> None:
    assert scenario(tmp_path, means(0.56, push=0.1)) == "A"


def test_a_task_that_fell_only_at_the_very_end_does_not_lag(tmp_path: Path) -> None:
    def falls_at_the_end(share: float) -> float:
        return 0.0 if share < 1 else 1.0

    start = means(0.50, push=0.5)
    assert scenario(tmp_path, means(0.52, push=0.19), start=start, shape=falls_at_the_end) == "none"


# Noise: what the interval leaves open stays open.


def test_an_interval_across_the_target_is_undecided_and_says_how_many_prompts_would_decide(tmp_path: Path) -> None:
    found = decision.decide(made(tmp_path, means(0.545), spread=5.0), decision.HANDOFF)
    assert found.scenario == "undecided"
    assert any("prompts would settle it" in reason for reason in found.reasons)
    assert "evaluate" in found.command


def test_only_open_points_that_matter_are_named(tmp_path: Path) -> None:
    found = decision.decide(made(tmp_path, means(0.46, extraction=0.19), spread=5.0), decision.HANDOFF)
    told = " ".join(found.reasons)
    assert found.scenario == "undecided"
    assert "V4's baseline" in told and "push, against its floor" not in told


def test_a_handful_of_prompts_decides_nothing_even_when_all_agree(tmp_path: Path) -> None:
    run = made(tmp_path, means(0.9), full=dict.fromkeys(TASKS, 3))
    found = decision.decide(run, decision.HANDOFF)
    assert found.scenario == "undecided" and "3 prompts only" in found.reasons[0]
    assert {answer.verdict for answer in decision.answer_questions(run, decision.HANDOFF)} == {"undecided"}


def test_every_command_that_a_decision_names_is_one_the_command_line_knows(tmp_path: Path) -> None:
    commands = [command.format(run=tmp_path) for _, _, command in tree._OUTCOMES.values()]
    for command in [*commands, tree._command("04c")]:
        verb, *options = shlex.split(command)[3:]
        module = importlib.import_module(f"helpers.cli.{verb}")
        parser = argparse.ArgumentParser()
        module.add_arguments(parser)
        assert parser.parse_args(options)


@pytest.mark.parametrize("scenario", ["A", "B", "C", "undecided", "none"])
def test_a_scenario_names_the_notebook_that_runs_it_and_what_is_no_scenario_names_none(scenario: str) -> None:
    named = decision.Decision(scenario, "", [], "", "").notebook
    assert (named is not None) == (scenario in ("A", "B", "C"))
    assert named is None or list((PROJECT_ROOT / "notebooks").glob(f"{named}_*.ipynb"))


def train_arguments(command: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    importlib.import_module("helpers.cli.train").add_arguments(parser)
    return parser.parse_args(shlex.split(command)[4:])


def test_an_unfinished_run_is_undecided_and_resumed_as_it_was_started(tmp_path: Path) -> None:
    run = made(tmp_path, means(0.6), stopped_at=40, seed=3)
    decided = decision.decide(run, decision.HANDOFF)
    given = train_arguments(decided.command)
    assert decided.scenario == "undecided" and given.resume
    assert (given.recipe, given.profile, given.seed, given.out) == ("v4.1", "cpu", 3, run.path)


@pytest.mark.parametrize(("trained_on", "backend"), [("transformers", "transformers"), ("unsloth", "auto")])
def test_a_run_is_resumed_on_the_backend_that_was_asked_for(tmp_path: Path, trained_on: str, backend: str) -> None:
    run = made(tmp_path, means(0.6), stopped_at=40)
    run.config["profile"] = {"name": "l4", "backend": trained_on}
    assert train_arguments(decision.decide(run, decision.HANDOFF).command).backend == backend


def test_a_run_that_a_rule_stopped_says_which(tmp_path: Path) -> None:
    run = made(tmp_path, means(0.6), stopped_at=40)
    event = {"time": "", "step": 40, "kind": "stop", "message": "grad_norm 3.2 at step 40", "rule": "grad_norm"}
    with (run.path / "events.jsonl").open("a") as file:
        file.write(json.dumps(event) + "\n")
    decided = decision.decide(load_run(run.path), decision.HANDOFF)
    assert "stopped at step 40: grad_norm 3.2 at step 40" in decided.reasons
    given = train_arguments(decided.command)
    assert not given.resume and not given.stop and given.out != run.path and "--stop grad_norm" in decided.next_step


@pytest.mark.usefixtures("no_other_runs")
def test_without_a_reference_the_target_alone_can_decide(tmp_path: Path) -> None:
    assert decision.decide(made(tmp_path, means(0.60))).scenario == "A"
    found = decision.decide(made(tmp_path / "other", means(0.50)))
    assert found.scenario == "undecided" and "train --recipe v4" in found.command


def test_a_run_of_another_reward_version_is_outside_the_tree(tmp_path: Path) -> None:
    found = decision.decide(made(tmp_path, means(0.9), version="v4.2"), decision.HANDOFF)
    assert found.scenario == "none" and "v4.2" in found.reasons[0]


@pytest.mark.parametrize("recipe", ["v4.2a", "v4.2b", "v4.2c-insights", "v4.1-on-push"])
def test_another_recipe_under_the_same_reward_is_outside_the_tree_and_named(tmp_path: Path, recipe: str) -> None:
    decided = decision.decide(made(tmp_path, means(0.9), recipe=recipe), decision.HANDOFF)
    assert decided.scenario == "none" and f"recipe {recipe}" in decided.reasons[0]


def test_the_base_policys_evaluation_is_none_of_the_last_three(tmp_path: Path) -> None:
    low = means(0.53, push=0.195)
    run = made(tmp_path, low, start=means(0.50, push=0.5), shape=lambda share: float(share > 0), eval_every=30)
    assert decision.decide(run, decision.HANDOFF).task == "push"


def test_a_record_with_only_the_subset_is_decided_on_the_subset(tmp_path: Path) -> None:
    run = made(tmp_path, means(0.6), full=dict.fromkeys(TASKS, 0))
    found = decision.decide(run, decision.HANDOFF)
    assert found.scenario == "A" and found.evidence[0].interval.n == 65


# References


def v4_spec(**settings) -> Spec:
    defaults = {"recipe": "v4", "version": "v4", "parser": "regex", "max_steps": 20, "eval_every": 10, "spread": EXACT}
    return Spec(BASE, means(0.476, extraction=0.17), shape=early_then_flat, **defaults | settings)


def test_the_v4_run_of_the_same_policy_is_the_reference(tmp_path: Path) -> None:
    write_run(tmp_path / "v4", v4_spec())
    reference = decision.reference_for(made(tmp_path, means(0.6)))
    assert reference is not None
    assert (reference.plateau, reference.baseline) == (pytest.approx(0.476), pytest.approx(0.17))
    assert "V4 run v4" in reference.name


@pytest.mark.usefixtures("no_other_runs")
def test_a_v4_run_of_another_policy_is_not(tmp_path: Path) -> None:
    write_run(tmp_path / "v4", v4_spec(policy="another"))
    assert decision.reference_for(made(tmp_path, means(0.6))) is None


@pytest.mark.usefixtures("no_other_runs")
def test_the_hub_model_without_a_v4_run_is_held_against_the_handoff(tmp_path: Path) -> None:
    run = made(tmp_path, means(0.6), policy="Polygl0t/Tucano2-qwen-0.5B-Instruct")
    assert decision.reference_for(run) == decision.HANDOFF


def test_a_v4_run_on_the_same_prompts_narrows_the_comparison(tmp_path: Path) -> None:
    reference = decision.reference_from(load_run(write_run(tmp_path / "v4", v4_spec(spread=5.0, seed=5))))
    run = made(tmp_path, means(0.50, extraction=0.24), spread=5.0)
    end = analysis.prompt_rewards(run, 60, "eval")
    paired, alone = (gather_facts(end, ref)["improved"].interval for ref in (reference, replace(reference, rewards={})))
    assert paired.high - paired.low < alone.high - alone.low
    assert paired.mean == pytest.approx(alone.mean)


def test_every_answer_and_decision_names_its_reference(tmp_path: Path) -> None:
    write_run(tmp_path / "v4", v4_spec())
    run = made(tmp_path, means(0.6))
    assert "V4 run v4" in decision.decide(run).reference
    assert all(answer.reference for answer in decision.answer_questions(run))


@pytest.mark.usefixtures("no_other_runs")
def test_only_runs_beside_a_run_are_taken_for_its_reference_and_no_warm_up(tmp_path: Path) -> None:
    run = made(tmp_path, means(0.6))
    write_run(tmp_path / "deeper" / "v4", v4_spec())
    write_run(tmp_path / "warmup", v4_spec())
    assert decision.reference_run(run) is None
    write_run(tmp_path / "v4", v4_spec())
    assert decision.reference_run(run).name == "v4"


def test_a_damaged_run_beside_it_keeps_no_run_from_its_reference(tmp_path: Path, capsys) -> None:
    run = made(tmp_path, means(0.6))
    for name in ("broken", "v4"):
        write_run(tmp_path / name, v4_spec())
    (tmp_path / "broken" / "config.json").write_text('{"name": "v4", ')
    assert decision.reference_run(run).path == tmp_path / "v4"
    assert "passed over" in capsys.readouterr().out


# The four questions


def answers(tmp_path: Path, end: dict[str, float], **settings) -> list[decision.Answer]:
    return decision.answer_questions(made(tmp_path, end, **settings), decision.HANDOFF)


@pytest.mark.parametrize(
    ("extraction", "verdict"), [(0.17, "no"), (0.199, "no"), (0.21, "in part"), (0.349, "in part"), (0.351, "yes")]
)
def test_the_parser_question_has_the_handoffs_lines(tmp_path: Path, extraction: float, verdict: str) -> None:
    at_once = lambda share: float(share > 0)  # noqa: E731
    answer = answers(tmp_path, means(0.5, extraction=extraction), shape=at_once, completions=False)[0]
    assert answer.verdict == verdict


def test_the_parser_question_is_undecided_with_twenty_noisy_prompts(tmp_path: Path) -> None:
    answer = answers(tmp_path, means(0.5, extraction=0.35), spread=5.0, completions=False)[0]
    assert answer.verdict == "undecided" and "prompts would settle it" in answer.would_change


def test_the_parser_question_is_answered_from_the_same_completions_where_there_are_any(tmp_path: Path) -> None:
    answer = answers(tmp_path, means(0.5))[0]
    assert answer.verdict == "yes" and answer.interval.mean == pytest.approx(22 / 65)
    assert "Learning, same parser" in answer.reason and "V4's baseline 0.170" in answer.reason


@pytest.mark.parametrize(("shape", "verdict"), [(lambda share: share, "yes"), (early_then_flat, "no")])
def test_improvement_past_step_130_is_told_from_a_plateau(tmp_path: Path, shape, verdict: str) -> None:
    assert answers(tmp_path, means(0.52), shape=shape, eval_every=15)[1].verdict == verdict


def test_a_settled_no_is_told_what_shift_would_change_it(tmp_path: Path) -> None:
    answer = answers(tmp_path, means(0.52), shape=early_then_flat, eval_every=15)[1]
    assert answer.verdict == "no" and answer.would_change == "a shift of more than 0.030 up"


def test_an_open_verdict_is_asked_about_the_line_that_its_interval_holds() -> None:
    assert questions._nearest_line(Interval(0.11, 0.01, 0.17, 20), 0.0) == questions.NEAR
    assert questions._nearest_line(Interval(0.11, 0.05, 0.17, 20), 0.0) == questions.JUMP


def test_the_lowest_task_is_named_only_when_the_prompts_tell_it_apart(tmp_path: Path) -> None:
    assert answers(tmp_path, means(0.5, insights=0.3), spread=5.0)[2].verdict == "insights"
    close = answers(tmp_path / "close", means(0.5, insights=0.38, push=0.39), spread=5.0)[2].verdict
    assert close.startswith("undecided") and "insights" in close and "push" in close


@pytest.mark.parametrize(("overall", "verdict"), [(0.45, "no"), (0.55, "yes"), (0.65, "yes")])
def test_the_target_question_shows_the_gain_over_the_base_policy_too(
    tmp_path: Path, overall: float, verdict: str
) -> None:
    answer = answers(tmp_path, means(overall))[3]
    assert answer.verdict == verdict and "over the base policy" in answer.reason


def test_questions_without_their_evaluations_have_no_data(tmp_path: Path) -> None:
    run = made(tmp_path, means(0.6))
    (run.path / "eval.jsonl").unlink()
    verdicts = [a.verdict for a in decision.answer_questions(load_run(run.path), decision.HANDOFF)]
    assert verdicts == ["no data"] * 4


# Parser effect and learning effect


def test_parser_and_learning_effects_are_separate_and_add_up(tmp_path: Path) -> None:
    found = decision.effects(made(tmp_path, means(0.6)))
    assert found is not None
    # The synthetic completions never change, and every third one needs the parser fix.
    assert found.learning.mean == 0
    assert found.parser.mean == pytest.approx(22 / 65)
    assert found.total.mean == pytest.approx(found.parser.mean + found.learning.mean)
    assert found.learning_as_v4.mean == 0
    assert set(found.means) == {"regex", "handoff", "tolerant"}


# Error rates


def simulated(overall: float, seed: int, draws: int) -> tuple[str, str]:
    """(decided, true) scenario of one simulated run: 65 prompts per task, extraction at 0.17 as in scenario B."""
    spec = Spec(BASE, means(overall, extraction=0.17), seed=seed, prompts=seed, max_steps=60, eval_every=60)
    noisy, exact = (end_rewards(replace(spec, spread=spread)) for spread in (5.0, EXACT))
    recent = {task: analysis.task_interval(noisy, task, draws=10).mean for task in TASKS}
    decided, truth = (
        walk(gather_facts(rewards, decision.HANDOFF, draws), last, "run", decision.HANDOFF).scenario
        for rewards, last in ((noisy, recent), (exact, spec.end))
    )
    return decided, truth


def error_table(runs: int, draws: int) -> dict[float, tuple[int, int, int]]:
    """True mean -> (runs, decided, wrong)."""
    table = {}
    for overall in (0.45, 0.50, 0.55, 0.60):
        outcomes = [simulated(overall, seed, draws) for seed in range(runs)]
        decided = [(found, truth) for found, truth in outcomes if found != "undecided"]
        table[overall] = (runs, len(decided), sum(found != truth for found, truth in decided))
    return table


def test_of_200_simulated_runs_at_most_5_percent_of_the_decided_are_wrong() -> None:
    table = error_table(runs=50, draws=1_000)
    decided, wrong = (sum(row[i] for row in table.values()) for i in (1, 2))
    print("\ntrue mean, runs, decided, wrong:", *((mean, *row) for mean, row in table.items()), sep="\n")
    assert decided > 0 and wrong <= 0.05 * decided
    assert table[0.60][1] > 40


@pytest.mark.slow
def test_of_800_simulated_runs_at_most_5_percent_of_the_decided_are_wrong() -> None:
    table = error_table(runs=200, draws=4_000)
    decided, wrong = (sum(row[i] for row in table.values()) for i in (1, 2))
    print("\ntrue mean, runs, decided, wrong:", *((mean, *row) for mean, row in table.items()), sep="\n")
    assert wrong <= 0.05 * decided
