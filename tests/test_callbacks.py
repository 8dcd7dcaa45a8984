"""What happens around a step: a triggered stop rule is reported once, and stops the run only where asked to."""

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest

from helpers import recipes
from helpers.core.files import read_jsonl
from helpers.policy import loading
from helpers.recipes import profiles
from helpers.runs.record import RunRecorder
from helpers.tasks.records import eval_subset, load_split
from helpers.training import Plan, Track
from helpers.training.callbacks import EvalRewardCallback, RunRecordCallback, StopRuleCallback, prompts_seen


class NoWandb:
    """Takes what W&B would take."""

    def log(self, values, step):
        assert isinstance(values, dict) and step >= 0


@pytest.fixture
def track(tmp_path):
    return Track(RunRecorder(tmp_path), NoWandb())


PROFILE = profiles.get("smallest")
RECIPE, _ = profiles.fit(recipes.V41, PROFILE)


def judge(track, grad_norms, stop=()):
    callback = StopRuleCallback(Plan(RECIPE, PROFILE, track.recorder.folder), track, stop)
    control = SimpleNamespace(should_save=False, should_training_stop=False)
    for step, norm in enumerate(grad_norms, 1):
        track.metrics(step, {"train/grad_norm": norm})
        callback.on_log(None, SimpleNamespace(global_step=step, max_steps=600), control)
    return control, [row for _, row in read_jsonl(track.recorder.folder / "events.jsonl")]


def test_the_subset_is_answered_between_the_ends_but_not_shortly_before_the_last(track):
    recipe, profile = replace(RECIPE, max_completion_length=2), replace(PROFILE, eval_every=5)
    records = eval_subset(load_split("eval"))[::16]
    plan = Plan(recipe, profile, track.recorder.folder, splits={"eval": records})
    track.clock = SimpleNamespace(phase=lambda _: nullcontext())
    judge = EvalRewardCallback(plan, loading.load_base(recipe, profile), track)
    for step in range(1, 13):
        judge.on_step_end(None, SimpleNamespace(global_step=step, max_steps=12), None)
    assert [row["step"] for row in track.history if "eval/mean_reward" in row] == [5]


def test_a_triggered_rule_is_an_event_with_its_value_told_once(track, capsys):
    control, events = judge(track, [0.1, 2.5, 2.6])
    assert [(event["kind"], event["rule"], event["step"]) for event in events] == [("warning", "grad_norm", 2)]
    assert events[0]["value"] == 2.5
    assert not control.should_training_stop
    assert "2.5" in capsys.readouterr().out


def test_a_rule_that_may_stop_ends_the_run_after_a_checkpoint(track):
    control, events = judge(track, [0.1, 2.5], stop=["grad_norm"])
    assert control.should_training_stop and control.should_save
    assert events[0]["kind"] == "stop"


def test_a_quiet_run_has_no_events(track):
    callback = StopRuleCallback(Plan(RECIPE, PROFILE, track.recorder.folder), track)
    control = SimpleNamespace(should_save=False, should_training_stop=False)
    track.metrics(1, {"train/grad_norm": 0.1})
    callback.on_log(None, SimpleNamespace(global_step=1, max_steps=600), control)
    assert not (track.recorder.folder / "events.jsonl").exists()


def test_an_error_inside_a_reward_is_kept_with_the_completion_that_caused_it(track):
    track.metrics(3, {"train/reward": 0.5})
    track.reward_error({"error": "ValueError('x')", "record_id": "push-1", "completion": "oi"})
    ((_, event),) = read_jsonl(track.recorder.folder / "events.jsonl")
    assert (event["kind"], event["step"], event["completion"]) == ("reward_error", 3, "oi")
    assert track.reward_errors == 1


def log(callback, step, **logs):
    callback.on_log(None, SimpleNamespace(global_step=step, max_steps=600), None, {"reward": 0.5} | logs)


@pytest.fixture
def recorder(track):
    track.clock = SimpleNamespace(take=dict)
    callback = RunRecordCallback(Plan(RECIPE, PROFILE, track.recorder.folder), track)
    callback.on_train_begin(None, SimpleNamespace(max_steps=600), None)
    yield callback
    callback.line.close()


def test_the_parts_of_rewards_are_recorded_by_task_and_part(track, recorder):
    log(recorder, 1, **{"parts/push/length": 0.25, "parts/push/personal": None, "something/else": 1.0})
    assert {key: value for key, value in track.history[-1].items() if "/push/" in key} == {"parts/push/length": 0.25}
    assert "something/else" not in track.history[-1]


def test_prompts_seen_are_the_rows_of_a_task_by_the_size_of_a_group(track, recorder):
    group = RECIPE.num_generations
    log(recorder, 1, **{"rows/push": 2.0 * group, "rows/sql_qa": 0.0})
    log(recorder, 2, **{"rows/push": 1.0 * group})
    seen = {task: track.history[-1][f"train/prompts_seen/{task}"] for task in ("push", "sql_qa")}
    assert seen == {"push": 3, "sql_qa": 0}


def test_a_resumed_run_goes_on_counting_prompts_where_the_record_stands():
    assert prompts_seen([{"step": 4, "train/prompts_seen/push": 3.0} | KEYS, {"step": 4}])["push"] == 3


KEYS = dict.fromkeys([f"train/prompts_seen/{task}" for task in ("extraction", "sql_qa", "insights")], 0.0)
