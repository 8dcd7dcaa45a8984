"""Recipes hold the handoff's numbers, and a profile says what it changed of them."""

import json
from dataclasses import replace

import pytest

from helpers import cli, recipes
from helpers.core.errors import UserError
from helpers.recipes import profiles
from helpers.tasks import TASKS

COUNTS = {"extraction": 594, "sql_qa": 594, "insights": 148, "push": 148}


def test_v41_differs_from_v4_in_the_handoffs_changes_alone():
    changed = {change.field: (change.before, change.after) for change in recipes.diff(recipes.V4, recipes.V41)}
    assert changed == {
        "version": ("v4", "v4.1"),
        "max_steps": (200, 600),
        "learning_rate": (2e-6, 5e-6),
        "lr_schedule": ("cosine", "constant_with_warmup"),
        "warmup_share": (0.1, 0.05),
    }


def test_every_value_of_a_recipe_names_its_source():
    for recipe in recipes.RECIPES.values():
        without = set(recipes.values(recipe)) - set(recipe.sources) - {"name"}
        assert not without, f"{recipe.name} has values without a source"


def test_the_batch_is_derived_from_prompts_so_that_600_steps_see_1200_prompts():
    recipe = recipes.get("v4.1")
    assert recipe.completions_per_step == 2 * 16
    assert recipe.expected_prompts() == 1_200


def test_coverage_of_v41_is_81_percent_of_each_task():
    plan = recipes.coverage(recipes.get("v4.1"), COUNTS)
    assert set(plan) == set(TASKS)
    assert all(numbers["share"] == pytest.approx(1_200 / 1_484, abs=1e-3) for numbers in plan.values())
    assert sum(numbers["expected_prompts"] for numbers in plan.values()) == pytest.approx(1_200, abs=0.5)


def test_the_cosine_schedule_still_had_a_third_of_its_peak_at_step_130_and_nothing_at_200():
    rates = recipes.learning_rates(recipes.V4)
    assert rates[130] / max(rates) == pytest.approx(0.33, abs=0.02)
    assert rates[199] == pytest.approx(1.5e-10, rel=0.05)


def test_the_constant_schedule_warms_up_for_30_steps_and_stays():
    rates = recipes.learning_rates(recipes.V41)
    assert rates[0] == 0.0
    assert rates[29] < rates[30] == rates[599] == 5e-6


def test_the_l4_profile_changes_nothing_of_v41():
    fitted, changes = profiles.fit(recipes.V41, profiles.get("l4"))
    assert changes == []
    assert recipes.values(fitted) == recipes.values(recipes.V41)


def test_the_l4_profile_evaluates_every_ten_steps_as_the_handoff_reads_its_curves():
    assert profiles.get("l4").eval_every == 10


@pytest.mark.parametrize("name", profiles.PROFILES)
def test_every_profile_splits_a_step_into_whole_micro_batches(name):
    profile = profiles.get(name)
    fitted, _ = profiles.fit(recipes.V41, profile)
    assert profile.micro_batch * profiles.accumulation(fitted, profile) == fitted.completions_per_step


def test_a_profile_keeps_the_ratio_of_steps_and_rates_between_v4_and_v41():
    profile = replace(profiles.get("cpu"), least_steps=2)
    old, new = (profiles.fit(recipe, profile)[0] for recipe in (recipes.V4, recipes.V41))
    assert new.max_steps == pytest.approx(3 * old.max_steps, abs=1)
    assert new.learning_rate / old.learning_rate == pytest.approx(2.5)


def test_no_run_is_shorter_than_the_profiles_least_steps():
    profile = profiles.get("cpu")
    assert round(recipes.V4.max_steps * profile.step_share) < profile.least_steps
    assert profiles.fit(recipes.V4, profile)[0].max_steps == profile.least_steps


def test_a_changed_value_names_the_profile_as_its_source():
    _, changes = profiles.fit(recipes.V41, profiles.get("cpu"))
    assert changes
    assert all(change.source.startswith("profile cpu") for change in changes)


@pytest.mark.parametrize(("call", "valid"), [(recipes.get, "v4.1"), (profiles.get, "l4")])
def test_an_unknown_name_is_answered_with_the_valid_ones(call, valid):
    with pytest.raises(UserError, match=valid):
        call("v9")


@pytest.mark.parametrize("name", ["v4.1-on-", "v4.1-on-pull", "v4.1-on-push-on-push", "-on-push"])
def test_a_recipe_on_no_task_or_an_unknown_one_is_refused(name):
    with pytest.raises(UserError, match="the valid ones are"):
        recipes.get(name)


def test_auto_is_the_environments_profile_where_one_is_named(monkeypatch):
    monkeypatch.setenv("HELPERS_PROFILE", "smallest")
    assert profiles.get("auto").name == "smallest"


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("v4.2a", ["model_id", "max_steps", "learning_rate", "num_generations", "max_completion_length"]),
        ("v4.2b", ["model_id", "sft_task", "sft_epochs", "sft_learning_rate", "sft_batch"]),
        ("v4.2b-cold", ["model_id"]),
        ("v4.2c", ["version"]),
    ],
)
def test_a_branchs_recipe_differs_from_v41_where_its_scenario_says_so_and_nowhere_else(name, fields):
    assert [change.field for change in recipes.diff(recipes.V41, recipes.get(name))] == fields


def test_v42a_holds_the_handoffs_numbers_and_a_gpu_profile_leaves_them_alone():
    fitted, changes = profiles.fit(recipes.get("v4.2a"), profiles.get("l4"))
    assert (fitted.num_generations, fitted.max_completion_length, fitted.max_steps) == (8, 1024, 400)
    assert (fitted.learning_rate, fitted.max_seq_length, changes) == (2e-6, 2048, [])


def test_on_a_cpu_what_the_handoff_lowers_for_a_large_model_is_raised_again_for_its_stand_in():
    cpu, large = profiles.get("cpu"), recipes.get("v4.2a")
    fitted, same_size = (profiles.fit(recipe, cpu)[0] for recipe in (large, replace(large, model_id=recipes.HUB_05B)))
    assert fitted.learning_rate == pytest.approx(same_size.learning_rate * cpu.large_rate_factor)
    assert fitted.max_steps == round(large.max_steps * cpu.step_share * cpu.large_step_factor) > same_size.max_steps
    assert profiles.fit(large, profiles.get("l4")) == (large, [])


def test_on_a_gpu_profile_grpo_after_the_warm_up_sees_all_four_tasks():
    assert profiles.fit(recipes.get("v4.2b"), profiles.get("l4"))[0].only_task == ""
    assert profiles.fit(recipes.get("v4.2b"), profiles.get("cpu"))[0].only_task == "extraction"
    assert profiles.fit(recipes.get("v4.2b-on-push"), profiles.get("cpu"))[0].only_task == "push"
    assert profiles.fit(recipes.get("v4.1"), profiles.get("cpu"))[0].only_task == ""


def test_a_step_of_fewer_completions_than_a_micro_batch_is_one_pass():
    fitted, _ = profiles.fit(recipes.get("v4.2a"), profiles.get("cpu"))
    assert (profiles.micro_batch(fitted, profiles.get("cpu")), profiles.accumulation(fitted, profiles.get("cpu"))) == (
        16,
        1,
    )


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_the_verb_prints_every_value_of_a_recipe_with_its_source_in_100_columns(name, capsys):
    assert cli.main(["recipe", name, "--profile", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert max(len(line) for line in printed.splitlines()) <= 100
    rows, words = [line.split() for line in printed.splitlines()], " ".join(printed.split())
    recipe = recipes.get(name)
    for field in set(recipes.values(recipe)) - {"name"}:
        assert recipe.sources[field] in words
        assert [field] in [row[:1] for row in rows]


def test_the_verb_says_what_a_profile_changes_and_why(capsys):
    cli.main(["recipe", "v4.1", "--profile", "cpu"])
    printed = capsys.readouterr().out
    assert "profile cpu changes 3 of these 30 values: a small policy on two cores" in printed
    assert "max_steps              600 -> 100" in printed


def test_the_verb_says_that_the_l4_profile_changes_nothing(capsys):
    cli.main(["recipe", "v4.1", "--profile", "l4"])
    printed = capsys.readouterr().out
    assert "profile l4 changes nothing: " in printed and "->" not in printed


def test_the_verb_prints_the_same_as_one_json_object(capsys):
    cli.main(["recipe", "v4", "--profile", "cpu", "--json"])
    printed = json.loads(capsys.readouterr().out)
    values = {field: row["value"] for field, row in printed["fields"].items()}
    assert values | {"name": printed["recipe"]} == recipes.values(recipes.V4)
    assert printed["changes"]["max_steps"] == {"before": 200, "after": 70}


@pytest.mark.parametrize("arguments", [["v9"], ["v4.1", "--profile", "l5"]])
def test_the_verb_answers_an_unknown_name_with_the_valid_ones(arguments, capsys):
    assert cli.main(["recipe", *arguments]) == 2
    assert "the valid ones are: " in capsys.readouterr().err
