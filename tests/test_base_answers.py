"""A base policy that was made here answers its eval prompts once; every run from it starts from those answers."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from helpers import recipes, training
from helpers.core.files import read_jsonl
from helpers.policy import embedded, evaluation, generation, loading
from helpers.recipes import profiles
from helpers.runs.record import KNOWN_EVAL_SECONDS, RunRecorder
from helpers.tasks.records import eval_subset, load_split
from helpers.training import Plan, Track, base_answers, splits
from helpers.training.base_answers import evaluate_base

PROFILE = profiles.get("smallest")
RECIPE, _ = profiles.fit(recipes.V41, PROFILE)
SETTINGS = generation.settings_for(RECIPE, PROFILE)


def plan_for(records, recipe=RECIPE):
    return Plan(recipe, PROFILE, Path("run"), splits={"eval": records})


@pytest.fixture
def policy(tmp_path, monkeypatch):
    """The tests' base policy, where nothing is kept of its answers yet."""
    made = loading.load_base(RECIPE, PROFILE)
    monkeypatch.setattr(embedded, "CACHE", tmp_path / "cache")
    return made


@pytest.fixture
def records():
    return eval_subset(load_split("eval"))[::6]


def record_in(folder):
    return Track(RunRecorder(folder))


def mute(policy):
    """The same policy for whoever looks it up, but one that cannot answer."""
    return replace(policy, model=SimpleNamespace(device=policy.model.device, dtype=policy.model.dtype))


def test_a_second_run_takes_the_answers_of_the_first_and_records_the_same(policy, records, tmp_path):
    asked = evaluate_base(plan_for(records), policy, record_in(tmp_path / "first"))
    taken = evaluate_base(plan_for(records), mute(policy), record_in(tmp_path / "second"))
    assert taken == asked
    first, second = (list(read_jsonl(tmp_path / name / "eval.jsonl")) for name in ("first", "second"))
    assert first == second


def test_only_the_run_that_asked_has_spent_time_on_it_and_the_other_says_how_much(policy, records, tmp_path):
    for name, answering in (("first", policy), ("second", mute(policy))):
        evaluate_base(plan_for(records), answering, record_in(tmp_path / name))
    first, second = (RunRecorder(tmp_path / name).read_metrics() for name in ("first", "second"))
    assert [row["time/eval_s"] for row in first] == [row[KNOWN_EVAL_SECONDS] for row in second]
    assert not any("time/eval_s" in row for row in second)


def test_taken_answers_are_scored_under_the_runs_own_reward_version(policy, records, tmp_path):
    evaluate_base(plan_for(records), policy, record_in(tmp_path / "first"))
    strict = plan_for(records, replace(RECIPE, version="v4.2"))
    taken = evaluate_base(strict, mute(policy), record_in(tmp_path / "second"))
    asked = splits.evaluate_split(strict, policy, "eval", 0, record_in(tmp_path / "third"))
    assert {row["version"] for row in taken} == {"v4.2"}
    assert taken == asked


@pytest.mark.parametrize("change", [{"temperature": 0.7}, {"limit": 8}, {"seed": 1}, {"batch": 5}])
def test_what_is_asked_otherwise_is_asked_anew(policy, records, change):
    kept = base_answers.kept_at(policy, records, SETTINGS)
    assert base_answers.kept_at(policy, records, replace(SETTINGS, **change)) != kept


def test_a_task_that_is_sampled_more_often_is_asked_anew(policy, records, monkeypatch):
    kept = base_answers.kept_at(policy, records, SETTINGS)
    monkeypatch.setitem(evaluation.SAMPLES, "push", evaluation.SAMPLES["push"] + 1)
    assert base_answers.kept_at(policy, records, SETTINGS) != kept


def test_other_prompts_and_another_dtype_are_asked_anew(policy, records):
    kept = base_answers.kept_at(policy, records, SETTINGS)
    assert base_answers.kept_at(policy, records[1:], SETTINGS) != kept
    policy.model.bfloat16()
    assert base_answers.kept_at(policy, records, SETTINGS) != kept


def test_a_policy_that_was_not_made_here_is_asked_by_every_run(policy, records, tmp_path):
    hub = replace(policy, source="Polygl0t/Tucano2-qwen-0.5B-Instruct")
    rows = evaluate_base(plan_for(records), hub, record_in(tmp_path / "first"))
    assert rows and base_answers.kept_at(hub, records, SETTINGS) is None
    with pytest.raises(AttributeError):
        evaluate_base(plan_for(records), mute(hub), record_in(tmp_path / "second"))


def test_answers_that_were_broken_off_are_not_kept(policy, records, tmp_path):
    with pytest.raises(AttributeError):
        evaluate_base(plan_for(records), mute(policy), record_in(tmp_path / "broken"))
    assert evaluate_base(plan_for(records), policy, record_in(tmp_path / "whole"))


def test_kept_answers_that_are_damaged_are_asked_anew(policy, records, tmp_path):
    evaluate_base(plan_for(records), policy, record_in(tmp_path / "first"))
    kept = base_answers.kept_at(policy, records, SETTINGS)
    kept.write_bytes(bytes(100))
    assert evaluate_base(plan_for(records), policy, record_in(tmp_path / "second"))
    assert kept.read_bytes().strip(b"\0")


def test_answers_given_ahead_are_those_that_a_run_would_ask_for(policy, tmp_path):
    base_answers.answer_ahead([recipes.V41.name], PROFILE)
    plan = training.plan_run(recipes.V41, PROFILE, tmp_path / "run")
    assert len(evaluate_base(plan, mute(policy), record_in(plan.folder))) > len(plan.splits["eval"])
