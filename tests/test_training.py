"""A recipe becomes a run: recorded, repeatable, resumable, and exactly what the recipe says."""

import json
import shutil
from dataclasses import replace

import pytest

from helpers import recipes, training
from helpers.core.errors import UserError
from helpers.core.files import read_jsonl, write_jsonl
from helpers.policy import loading, lora
from helpers.policy.evaluation import SAMPLES
from helpers.recipes import profiles
from helpers.rewards import WEIGHTS
from helpers.rewards.base import total_of
from helpers.runs.load import load_run
from helpers.tasks import TASKS
from helpers.training import checkpoints, track

PROFILE = replace(profiles.get("smallest"), eval_every=1)
"""The tests' profile, saving and evaluating at every one of its four steps."""


def train(folder, stop=(), **options):
    return training.train_grpo(training.plan_run(recipes.V41, PROFILE, folder, **options), stop=stop)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    return train(tmp_path_factory.mktemp("runs") / "first", seed=3)


def metrics(folder):
    rows = [row for _, row in read_jsonl(folder / "metrics.jsonl")]
    return [{key: value for key, value in row.items() if not key.startswith("time/")} for row in rows]


def test_a_plan_settles_what_the_run_will_be_and_writes_nothing(tmp_path):
    plan = training.plan_run(recipes.V41, PROFILE, tmp_path / "run", seed=3)
    assert (plan.recipe.max_steps, plan.backend, plan.checkpoint, plan.first_step) == (4, "transformers", None, 0)
    assert {change.field for change in plan.changes} >= {"max_steps", "learning_rate"}
    assert [len(plan.splits[split]) for split in ("eval", "test")] == [3 * len(TASKS)] * 2
    assert plan.identity["seed"] == 3 and not (tmp_path / "run").exists()


def test_a_run_leaves_a_record_that_loads_without_a_warning(run_folder):
    run = load_run(run_folder)
    assert run.warnings == []
    assert run.config["recipe"]["name"] == "v4.1"
    assert [event["kind"] for event in run.events][-1] == "end"
    assert {"train/reward", "train/completion_length", "train/frac_reward_zero_std", "train/grad_norm"} <= set(
        run.metrics
    )


def test_every_evaluation_scores_each_record_once_and_a_whole_splits_as_often_as_its_task_says(run_folder):
    evals = load_run(run_folder).evals
    for (_, split, mode, task, _), times in (
        evals.groupby(["step", "split", "mode", "task", "record_id"]).size().items()
    ):
        assert times == (SAMPLES[task] if (split, mode) == ("eval", "sample") else 1)
    counted = evals.groupby(["step", "split", "mode"]).size()
    assert {(0, "eval", "greedy"), (0, "eval_subset", "sample"), (4, "eval", "sample"), (4, "test", "sample")} <= set(
        counted.index
    )
    assert (0, "test", "sample") not in counted.index


def test_evaluations_carry_the_handoffs_keys_with_intervals(run_folder):
    row = next(row for row in metrics(run_folder) if "eval/mean_reward" in row)
    for name in ("mean_reward", *TASKS):
        assert row[f"eval/{name}_low"] <= row[f"eval/{name}"] <= row[f"eval/{name}_high"]


def test_a_curves_ends_are_the_whole_splits_first_answers_to_the_subset(run_folder):
    run = load_run(run_folder)
    answers = [row for _, row in read_jsonl(run_folder / "eval.jsonl") if row["mode"] == "sample" and not row["sample"]]
    for step in (0, 4):
        whole, subset = (
            {
                row["record_id"]: (row["completion"], row["total"])
                for row in answers
                if (row["step"], row["split"]) == at
            }
            for at in ((step, "eval"), (step, "eval_subset"))
        )
        assert {name.split("-")[0] for name in subset} == set(TASKS)
        assert subset.items() <= whole.items()
    timed = [row["step"] for row in run.history if {"eval/mean_reward", "time/eval_s"} <= row.keys()]
    assert timed == [1, 2, 3]


def test_two_runs_with_one_seed_give_the_same_metrics(run_folder, tmp_path):
    again = train(tmp_path / "again", seed=3)
    assert metrics(again) == metrics(run_folder)


def test_a_trainer_put_together_by_hand_trains_the_same_run(run_folder, tmp_path):
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    from helpers import rewards
    from helpers.training.callbacks import EvalRewardCallback, StopRuleCallback

    plan = training.plan_run(recipes.V41, PROFILE, tmp_path / "by hand", seed=3)
    policy = training.start_policy(plan)
    trainer = GRPOTrainer(
        model=policy.model,
        processing_class=policy.tokenizer,
        reward_funcs=rewards.reward_functions("v4.1"),
        args=GRPOConfig(**training.grpo_arguments(plan)),
        train_dataset=Dataset.from_list(training.training_rows(plan.splits["train"])),
    )
    with training.at_work(plan), training.recording(plan, policy, trainer) as track:
        evaluation = EvalRewardCallback(plan, policy, track)
        trainer.add_callback(evaluation)
        trainer.add_callback(StopRuleCallback(plan, track))
        evaluation.at_start()
        trainer.train()
        evaluation.at_end()
    assert metrics(plan.folder) == metrics(run_folder)
    assert (plan.folder / "eval.jsonl").read_bytes() == (run_folder / "eval.jsonl").read_bytes()
    assert not any(isinstance(callback, StopRuleCallback) for callback in trainer.callback_handler.callbacks)

    with pytest.raises(UserError, match="trained already"), training.recording(plan, policy, trainer):
        pass


def test_a_killed_run_resumes_to_the_same_metrics_as_one_that_was_not(run_folder, tmp_path):
    folder = tmp_path / "killed"
    shutil.copytree(run_folder, folder)
    shutil.rmtree(folder / "checkpoints" / "checkpoint-4")
    shutil.rmtree(folder / "adapter")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "train/rew')
    train(folder, seed=3, resume=True)
    assert metrics(folder) == metrics(run_folder)


def test_a_half_written_checkpoint_is_passed_over_for_an_older_whole_one(run_folder, tmp_path):
    folder = tmp_path / "half"
    shutil.copytree(run_folder, folder)
    (folder / "checkpoints" / "checkpoint-4" / "optimizer.pt").unlink()
    events = [event for _, event in read_jsonl(folder / "events.jsonl")]
    write_jsonl(folder / "events.jsonl", [event for event in events if event["kind"] != "end"])
    train(folder, seed=3, resume=True)
    resumed = [event["step"] for event in load_run(folder).events if event["kind"] == "resume"]
    assert resumed == [3]
    assert metrics(folder) == metrics(run_folder)


def test_prompts_seen_count_the_prompts_that_each_task_showed(run_folder):
    last = [row for row in metrics(run_folder) if "train/reward" in row][-1]
    seen = {task: last[f"train/prompts_seen/{task}"] for task in TASKS}
    assert sum(seen.values()) == 4 * 2


def test_every_part_and_the_spread_of_a_tasks_reward_are_recorded_where_the_task_was_shown(run_folder):
    for row in metrics(run_folder):
        rewarded = {task for task in TASKS if f"train/reward/{task}" in row}
        logged = {key for key in row if key.startswith("parts/")}
        assert logged == {f"parts/{task}/{part}" for task in rewarded for part in WEIGHTS["v4.1"][task]}
        assert {key for key in row if key.startswith("train/reward_std/")} == {
            f"train/reward_std/{task}" for task in rewarded
        }
        for task in rewarded:
            parts = {part: row[f"parts/{task}/{part}"] for part in WEIGHTS["v4.1"][task]}
            assert total_of(parts, WEIGHTS["v4.1"][task]) == pytest.approx(row[f"train/reward/{task}"], abs=1e-5)


def test_training_moves_every_lora_matrix_off_its_start_at_zero(run_folder):
    from safetensors.torch import load_file

    adapter = load_file(run_folder / "adapter" / "adapter_model.safetensors")
    moved = {name: bool(tensor.abs().max() > 0) for name, tensor in adapter.items() if "lora_B" in name}
    assert len(moved) == 7 * PROFILE.embedded.layers
    assert any(moved.values())


def test_a_folder_that_holds_a_run_is_never_trained_over(run_folder):
    with pytest.raises(UserError, match="already holds a run"):
        train(run_folder, seed=3)


def test_resuming_with_another_seed_is_refused_by_name(run_folder):
    with pytest.raises(UserError, match="another seed"):
        train(run_folder, seed=4, resume=True)


def test_a_finished_run_is_reused_as_it_is(run_folder, capsys):
    before = (run_folder / "metrics.jsonl").read_bytes()
    training.train_or_reuse(recipes.V41, PROFILE, run_folder, seed=3)
    assert "finished before" in capsys.readouterr().out
    assert (run_folder / "metrics.jsonl").read_bytes() == before


def test_a_step_that_would_see_other_than_the_recipes_prompts_is_a_hard_error(run_folder, tmp_path):
    fitted, _ = profiles.fit(recipes.V41, PROFILE)
    requested = training.grpo_arguments(training.Plan(fitted, PROFILE, tmp_path))

    class Trainer:
        from trl import GRPOConfig

        args = GRPOConfig(**requested | {"gradient_accumulation_steps": 2})

    for known in (requested, requested | {"gradient_accumulation_steps": 2}):
        with pytest.raises(RuntimeError, match=r"a step would see 4 prompts; recipe v4\.1 says 2"):
            training.check_effective(Trainer, known, fitted)


def test_missing_pairs_are_named_before_anything_is_written(tmp_path):
    with pytest.raises(UserError, match=r"train\.jsonl: no such file"):
        train(tmp_path / "run", pairs=tmp_path)
    assert not (tmp_path / "run").exists()


def test_every_training_row_gets_a_reward_from_its_own_task_alone():
    from helpers import rewards
    from helpers.tasks.records import load_split

    records = load_split("train")
    rows = training.training_rows(records)
    columns = {key: [row[key] for row in rows] for key in ("task", "record_id", "record")}
    answers = [[{"role": "assistant", "content": record["reference"]["text"]}] for record in records]
    per_task = [f(prompts=[None] * len(rows), completions=answers, **columns) for f in rewards.reward_functions("v4.1")]
    given = [sum(value is not None for value in values) for values in zip(*per_task, strict=True)]
    assert given == [1] * len(rows)


def test_a_trained_adapter_loads_over_its_base_policy_and_changes_its_answers(run_folder):
    import torch

    fitted, _ = profiles.fit(recipes.V41, PROFILE)
    ids = torch.arange(3, 40).unsqueeze(0)
    with torch.no_grad():
        before = loading.load_base(fitted, PROFILE).model(ids).logits
        adapted = lora.load_adapter(loading.load_base(fitted, PROFILE), run_folder / "adapter")
        after = adapted.model(ids).logits
    assert not torch.equal(before, after)


def test_a_run_folder_without_an_adapter_is_refused_in_one_line(tmp_path):
    fitted, _ = profiles.fit(recipes.V41, PROFILE)
    with pytest.raises(UserError, match=r"no adapter_config\.json"):
        lora.load_adapter(loading.load_base(fitted, PROFILE), tmp_path)


def test_the_config_names_what_the_profile_changed(run_folder):
    config = json.loads((run_folder / "config.json").read_text())
    assert {change["field"] for change in config["changed_by_profile"]} == {
        "max_steps",
        "learning_rate",
        "num_generations",
        "max_completion_length",
    }
    assert config["trainer_args"]["loss_type"] == "dr_grpo"
    assert config["trainer_args"]["beta"] == 0.0


def test_a_resumed_run_keeps_how_it_was_started_and_its_event_says_how_it_went_on(run_folder, tmp_path):
    folder = tmp_path / "resumed"
    shutil.copytree(run_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    of_before = {
        "started": "2025",
        "git_commit": "abc",
        "versions": {"torch": "1"},
        "command": "python -m helpers train",
    }
    (folder / "config.json").write_text(json.dumps(config | of_before))
    events = [event for _, event in read_jsonl(folder / "events.jsonl")]
    write_jsonl(folder / "events.jsonl", [event for event in events if event["kind"] != "end"])
    train(folder, seed=3, resume=True)
    run = load_run(folder)
    (resumed,) = [event for event in run.events if event["kind"] == "resume"]
    assert {key: run.config[key] for key in of_before} == of_before
    assert resumed["git_commit"] == config["git_commit"] and resumed["versions"] == config["versions"]
    assert run.config["effective_args"] == config["effective_args"]


def test_a_run_is_described_where_git_is_not_installed(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert track._git_commit() == "unknown"


class SavedInHalf:
    """A model whose adapter reaches the disk in half."""

    def save_pretrained(self, folder):
        folder.mkdir()
        (folder / "adapter_model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt


def test_a_kill_while_the_best_adapter_is_saved_leaves_the_one_before(run_folder, tmp_path):
    best = tmp_path / "best"
    shutil.copytree(run_folder / "best", best)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.replace_adapter(SavedInHalf(), best)
    assert not checkpoints.adapter_fault(best)
    fitted, _ = profiles.fit(recipes.V41, PROFILE)
    newer = lora.load_adapter(loading.load_base(fitted, PROFILE), run_folder / "adapter")
    checkpoints.replace_adapter(newer.model, best)
    saved, meant = ((path / "adapter_model.safetensors").read_bytes() for path in (best, run_folder / "adapter"))
    assert saved == meant and [path.name for path in tmp_path.iterdir()] == ["best"]


def test_an_unknown_stop_rule_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(UserError, match="grad_norm"):
        train(tmp_path / "run", stop=["patience"])
    assert not (tmp_path / "run").exists()


def test_the_adapter_of_the_best_evaluation_is_kept_and_said_to_be_selected(run_folder):
    assert (run_folder / "best" / "adapter_model.safetensors").is_file()
    told = [event for event in load_run(run_folder).events if "best of" in event["message"]]
    means = {row["step"]: row["eval/mean_reward"] for row in metrics(run_folder) if "eval/mean_reward" in row}
    assert told and "optimistic" in told[-1]["message"]
    assert means[told[-1]["step"]] == max(means.values())


def test_a_rule_that_may_stop_ends_a_real_run_with_a_checkpoint_and_its_name(tmp_path):
    folder = train(tmp_path / "stopped", seed=3, stop=["clipped"])
    run = load_run(folder)
    (stop,) = [event for event in run.events if event["kind"] == "stop"]
    assert (stop["rule"], run.last_step) == ("clipped", stop["step"])
    assert run.last_step < run.max_steps
    assert (folder / "checkpoints" / f"checkpoint-{run.last_step}" / "trainer_state.json").is_file()
