"""Routing: the cheapest policy serves a task unless a dearer one is surely better; the file survives a move and nothing
hostile gets through it."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers import recipes
from helpers.core.errors import UserError
from helpers.core.files import PROJECT_ROOT
from helpers.policy import serve
from helpers.policy.loading import load_run_policy
from helpers.policy.serve import route as routing
from helpers.policy.serve.route import Candidate
from helpers.rewards import score_row
from helpers.runs import analysis
from helpers.runs.load import load_run
from helpers.tasks import TASKS
from helpers.tasks.records import load_split

SHIPPED = PROJECT_ROOT / "data" / "runs"
V4, V41 = SHIPPED / "cpu-v4-seed0", SHIPPED / "cpu-v4.1-seed0"
PROMPTS = 64


def rewards(mean, spread=0.0, seed=0, task="push", prefix="p"):
    values = mean + spread * np.random.default_rng(seed).standard_normal(PROMPTS)
    return {task: {f"{prefix}{i}": float(value) for i, value in enumerate(values)}}


def candidate(name, found, parameters=1, **changes):
    return replace(Candidate(name, Path(name), found, parameters), **changes)


def chosen(*candidates, **options):
    return {task: entry.policy for task, entry in serve.choose_route(candidates, **options).tasks.items()}


def test_a_dearer_policy_that_is_surely_better_takes_the_task():
    small, large = candidate("small", rewards(0.2, 0.1), 1), candidate("large", rewards(0.6, 0.1, seed=1), 8)
    route = serve.choose_route([small, large])
    assert route.tasks["push"].policy == "large"
    assert "over small, wholly above 0.05" in route.tasks["push"].reason
    assert set(route.policies) == {"large"}


def test_a_gain_of_exactly_the_margin_is_not_above_it():
    small, large = candidate("small", rewards(0.25), 1), candidate("large", rewards(0.5), 8)
    assert chosen(small, large, margin=0.25) == {"push": "small"}
    assert chosen(small, large, margin=0.2499) == {"push": "large"}


def test_equal_rewards_stay_with_the_cheapest_even_without_a_margin():
    small, large = candidate("small", rewards(0.5, 0.2), 1), candidate("large", rewards(0.5, 0.2), 8)
    assert chosen(large, small, margin=0.0) == {"push": "small"}


def test_a_mean_above_the_margin_is_not_enough_where_the_interval_is_not():
    mixed = {"push": {f"p{i}": 0.9 if i % 2 else 0.2 for i in range(PROMPTS)}}
    small, large = candidate("small", rewards(0.45), 1), candidate("large", mixed, 8)
    gain, how = routing.difference(small, large, "push")
    assert gain.mean > routing.MARGIN > gain.low and how == "paired"
    assert chosen(small, large) == {"push": "small"}


def test_a_dearer_policy_that_is_worse_says_so_in_the_evidence():
    small, large = candidate("small", rewards(0.5), 1), candidate("large", rewards(0.3), 8)
    entry = serve.choose_route([small, large]).tasks["push"]
    assert entry.policy == "small"
    assert "large -0.200" in entry.reason and entry.reason.startswith("the cheapest")


def test_of_equally_cheap_policies_the_better_one_is_the_first_choice():
    assert chosen(candidate("a", rewards(0.4)), candidate("b", rewards(0.5))) == {"push": "b"}


def test_where_several_are_the_cheapest_the_reason_says_that_it_is_the_best_of_them():
    entry = serve.choose_route([candidate("a", rewards(0.4)), candidate("b", rewards(0.5))]).tasks["push"]
    assert entry.reason.startswith("the best of the cheapest; a ")


def test_parameters_are_shown_as_the_whole_numbers_that_they_are():
    (row,) = serve.route_table(serve.choose_route([candidate("a", rewards(0.4), 2_361_280)]))
    assert str(row["parameters"]) == "2361280"


def test_each_dearer_policy_must_beat_the_choice_before_it():
    small, middle = candidate("small", rewards(0.2), 1), candidate("middle", rewards(0.5), 2)
    large = candidate("large", rewards(0.53), 8)
    assert chosen(small, middle, large) == {"push": "middle"}
    assert chosen(small, large, middle) == {"push": "middle"}
    assert chosen(small, middle, replace(large, rewards=rewards(0.6))) == {"push": "large"}


def test_the_same_prompts_are_compared_pairwise_and_others_are_not():
    small = candidate("small", rewards(0.4, 0.3), 1)
    better = {"push": {record: value + 0.1 for record, value in small.rewards["push"].items()}}
    large = candidate("large", better, 8)
    others = {"push": {f"other-{record}": value for record, value in better["push"].items()}}
    assert chosen(small, large) == {"push": "large"}
    assert chosen(small, replace(large, rewards=others)) == {"push": "small"}
    assert routing.difference(small, replace(large, rewards=others), "push")[1] == "unpaired"


def test_equal_ids_of_other_data_are_not_paired():
    small, large = candidate("a", rewards(0.4), data="one"), candidate("b", rewards(0.6), data="two")
    assert routing.difference(small, large, "push")[1] == "unpaired"
    assert routing.difference(small, replace(large, data="one"), "push")[1] == "paired"


def test_one_prompt_decides_nothing_and_leaves_no_interval():
    small, large = candidate("small", {"push": {"p": 0.1}}, 1), candidate("large", {"push": {"p": 0.9}}, 8)
    entry = serve.choose_route([small, large]).tasks["push"]
    assert (entry.policy, entry.prompts, entry.low) == ("small", 1, None)


def test_a_policy_that_never_answered_a_task_does_not_get_it():
    small = candidate("small", rewards(0.1, task="push"), 1)
    large = candidate("large", rewards(0.2, task="push") | rewards(0.3, task="sql_qa"), 8)
    assert chosen(small, large, margin=0.5) == {"sql_qa": "large", "push": "small"}
    assert serve.choose_route([small, large]).tasks["sql_qa"].reason == "the only candidate"


def lagging_sql():
    """A small policy that does extraction and push well and lags on sql_qa and insights; a large one good at all."""
    means = {"extraction": 0.6, "sql_qa": 0.12, "insights": 0.18, "push": 0.7}
    small = {task: rewards(mean, 0.1, task=task)[task] for task, mean in means.items()}
    large = {task: rewards(0.62, 0.1, seed=1, task=task)[task] for task in TASKS}
    return candidate("0.5B", small, 490_799_104), candidate("3.7B", large, 3_759_341_056)


def test_the_handoffs_split_comes_out_of_the_numbers_where_sql_lags():
    assert chosen(*lagging_sql()) == {"extraction": "0.5B", "sql_qa": "3.7B", "insights": "3.7B", "push": "0.5B"}


def test_the_handoffs_split_can_be_forced_against_the_numbers_and_says_so():
    small, large = lagging_sql()
    route = serve.choose_route([replace(small, rewards=large.rewards), large], pin=serve.handoff_pin("0.5B", "3.7B"))
    assert {task: entry.policy for task, entry in route.tasks.items()} == serve.handoff_pin("0.5B", "3.7B")
    assert all(entry.pinned for entry in route.tasks.values())
    assert route.tasks["sql_qa"].reason.startswith("pinned by hand; the numbers say 0.5B: the cheapest")


def test_a_task_can_be_pinned_that_nobody_was_measured_on():
    entry = serve.choose_route([candidate("a", rewards(0.4))], pin={"insights": "a"}).tasks["insights"]
    assert (entry.mean, entry.prompts, entry.reason) == (None, 0, "pinned by hand; nothing was measured")


def test_candidates_of_one_name_are_refused():
    with pytest.raises(UserError, match="names of their own; got a, a"):
        serve.choose_route([candidate("a", rewards(0.4)), candidate("a", rewards(0.5))])


def test_a_candidate_without_answers_keeps_no_other_from_being_chosen():
    assert chosen(candidate("a", rewards(0.4)), candidate("c", {})) == {"push": "a"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pin": {"pull": "a"}}, "unknown task 'pull'"),
        ({"pin": {"push": "z"}}, "unknown candidate 'z'"),
        ({"margin": -0.1}, "margin"),
        ({"margin": math.nan}, "margin"),
    ],
)
def test_impossible_wishes_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        serve.choose_route([candidate("a", rewards(0.4))], **options)


def test_there_is_nothing_to_choose_without_candidates_or_answers():
    with pytest.raises(UserError, match="at least one candidate"):
        serve.choose_route([])
    with pytest.raises(UserError, match="no candidate answered"):
        serve.choose_route([candidate("a", {})])


def test_a_runs_candidate_has_a_reward_for_each_prompt_of_its_record_and_the_size_of_its_base_policy():
    run, found = load_run(V41), serve.candidate(V41)
    recorded = analysis.prompt_rewards(run, run.max_steps, "eval")
    assert {task: list(of) for task, of in found.rewards.items()} == {task: list(of) for task, of in recorded.items()}
    assert found.parameters == routing.parameters(V41) > 0


def test_a_policy_is_priced_by_its_parameters_as_they_are_counted_on_the_model(tiny_run, tmp_path):
    counted = load_run_policy(tiny_run, adapter=None).policy.model.num_parameters()
    assert routing.parameters(tiny_run) == counted
    shutil.copytree(tiny_run, tmp_path / "large", ignore=shutil.ignore_patterns("checkpoints", "wandb"))
    config = json.loads((tmp_path / "large" / "config.json").read_text())
    config["recipe"]["model_id"], config["profile"]["embedded"] = recipes.HUB_37B, None
    (tmp_path / "large" / "config.json").write_text(json.dumps(config))
    assert routing.parameters(tmp_path / "large") == 3_759_341_056


def test_a_run_of_another_reward_version_is_scored_again_under_the_one_asked_for():
    run, again = load_run(V4), serve.candidate(V4)
    of = {record["id"]: record for record in load_split("eval")}
    last = run.evals[(run.evals.step == run.max_steps) & (run.evals.split == "eval") & (run.evals["mode"] == "sample")]
    totals = [score_row(of[row.record_id], row.completion, "v4.2")["total"] for row in last.itertuples()]
    expected = last.assign(total=totals).groupby(["task", "record_id"]).total.mean()
    assert {task: set(found) for task, found in again.rewards.items()} == {
        task: set(expected[task].index) for task in TASKS
    }
    for task, found in again.rewards.items():
        assert found == pytest.approx(expected[task].to_dict())


def test_scoring_again_with_other_records_than_those_answered_is_refused(tmp_path):
    shutil.copytree(PROJECT_ROOT / "data" / "pairs", tmp_path / "pairs")
    with (tmp_path / "pairs" / "eval.jsonl").open("a") as file:
        file.write("\n")
    with pytest.raises(UserError, match=r"answered another eval\.jsonl"):
        serve.candidate(V4, pairs=tmp_path / "pairs")


def test_an_evaluation_that_a_run_lacks_is_named(tmp_path):
    shutil.copytree(V41, tmp_path / "run")
    (tmp_path / "run" / "eval.jsonl").write_text("")
    with pytest.raises(UserError, match="no evaluation of eval in mode sample at step"):
        serve.candidate(tmp_path / "run")


@pytest.fixture
def home(tmp_path, tiny_run):
    """A folder that holds a run and a route file beside it."""
    shutil.copytree(tiny_run, tmp_path / "home" / "run", ignore=shutil.ignore_patterns("checkpoints", "wandb"))
    return tmp_path / "home"


@pytest.fixture
def route(home):
    return serve.choose_route([serve.candidate(home / "run", "tiny")])


def test_a_route_reads_back_as_it_was_written(home, route):
    serve.write_route(route, home / "route.json")
    assert serve.read_route(home / "route.json") == route


def test_a_route_moves_with_the_folder_that_holds_its_runs(home, route, tmp_path):
    serve.write_route(route, home / "route.json")
    moved = home.rename(tmp_path / "elsewhere")
    assert serve.read_route(moved / "route.json").policies["tiny"].run == moved / "run"


def test_a_run_of_the_project_is_written_from_the_projects_root(tmp_path):
    serve.write_route(serve.choose_route([serve.candidate(V41, "shipped")]), tmp_path / "route.json")
    written = json.loads((tmp_path / "route.json").read_text())
    assert written["policies"]["shipped"]["run"] == "data/runs/cpu-v4.1-seed0"
    with pytest.raises(UserError, match=r"cpu-v4\.1-seed0/adapter: no adapter_config\.json"):
        serve.read_route(tmp_path / "route.json")


def test_a_run_that_could_not_be_found_again_is_not_written(home, route, tmp_path):
    with pytest.raises(UserError, match="under its own folder"):
        serve.write_route(route, tmp_path / "other" / "route.json")
    assert not (tmp_path / "other" / "route.json").exists()


def set_in(content, value, *keys):
    for key in keys[:-1]:
        content = content[key]
    content[keys[-1]] = value


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("tasks", "pull"), {"policy": "tiny"}, "tasks.pull"),
        (("tasks", "push", "policy"), "huge", "names the policy 'huge'"),
        (("tasks",), {}, "tasks is empty"),
        (("tasks", "push", "mean"), "good", "tasks.push.mean"),
        (("tasks", "push", "prompts"), -1, "tasks.push.prompts"),
        (("policies", "tiny", "run"), "/etc", "leads outside"),
        (("policies", "tiny", "run"), "run/../../run", "leads outside"),
        (("policies", "tiny", "run"), "nowhere", "no run folder nowhere"),
        (("policies", "tiny", "run"), 7, "policies.tiny.run"),
        (("policies", "tiny", "run"), "run\0", "no run folder"),
        (("policies", "tiny", "adapter"), "../run/adapter", "leads outside"),
        (("policies", "tiny", "adapter"), "missing", "no adapter_config"),
        (("policies", "tiny", "cost"), "free", "policies.tiny.cost"),
        (("policies", "tiny", "command"), "rm", "policies.tiny.command"),
        (("cost_unit",), "reais", "cost_unit"),
        (("margin",), -1, "margin"),
    ],
)
def test_a_route_file_with_something_wrong_is_refused_in_one_line(home, route, keys, value, message):
    path = home / "route.json"
    serve.write_route(route, path)
    content = json.loads(path.read_text())
    set_in(content, value, *keys)
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=message) as told:
        serve.read_route(path)
    assert str(path.parent) in str(told.value) and "\n" not in str(told.value)


def test_an_entry_for_an_unknown_task_is_refused_with_the_valid_ones(home, route):
    path = home / "route.json"
    serve.write_route(route, path)
    content = json.loads(path.read_text())
    content["tasks"]["pull"] = content["tasks"].pop("push")
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="unknown task 'pull'; the valid ones are: extraction"):
        serve.read_route(path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 5_000, b'{"margin": NaN}'])
def test_a_file_that_is_no_route_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "route.json").write_bytes(content)
    with pytest.raises(UserError, match=r"route\.json: .*not a route") as told:
        serve.read_route(tmp_path / "route.json")
    assert "\n" not in str(told.value)


def test_a_route_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"route\.json: no such file"):
        serve.read_route(tmp_path / "route.json")


def test_the_table_has_a_row_a_task_with_its_evidence(route):
    rows = serve.route_table(route)
    assert [row["task"] for row in rows] == list(TASKS)
    assert all(row["policy"] == "tiny" and row["parameters"] > 0 and row["reason"] for row in rows)


def test_a_task_that_a_route_does_not_serve_is_refused_by_name():
    route = serve.choose_route([candidate("a", rewards(0.4))])
    assert routing.policy_name(route, "push") == "a"
    with pytest.raises(UserError, match="serves no sql_qa, only push"):
        routing.policy_name(route, "sql_qa")
