"""Several processes: a step's completions and an evaluation's prompts are shared out, and the launcher's files fit."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file

from helpers import recipes, training
from helpers.core import processes
from helpers.core.errors import UserError
from helpers.policy import evaluation, generation, loading
from helpers.recipes import profiles
from helpers.tasks.records import eval_subset, load_split

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = sorted((ROOT / "configs" / "accelerate").glob("*.yaml"))
PROFILE = profiles.get("smallest")
RECIPE, _ = profiles.fit(recipes.V41, PROFILE)


def arguments(recipe, profile, count, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", str(count))
    return training.grpo_arguments(training.Plan(recipe, profile, Path("run"), backend="vllm"))


@pytest.mark.parametrize("count", [1, 2, 4, 8, 16])
def test_a_step_has_the_recipes_prompts_whoever_shares_it(count, monkeypatch):
    for name in ("v4.1", "v4.2a"):
        for profile in profiles.gpu_profiles():
            passed = arguments(recipes.get(name), profile, count, monkeypatch)
            each, times = passed["per_device_train_batch_size"], passed["gradient_accumulation_steps"]
            assert each * times * count == recipes.get(name).completions_per_step
            assert each <= profile.micro_batch


@pytest.mark.parametrize(
    ("recipe", "count", "possible"),
    [("v4.1", 3, "1, 2, 4, 8, 16 or 32"), ("v4.1", 64, "1, 2, 4, 8, 16 or 32"), ("v4.2b", 8, "1, 2 or 4")],
)
def test_processes_that_cannot_share_a_step_are_refused_with_the_numbers_that_can(
    recipe, count, possible, monkeypatch, tmp_path
):
    monkeypatch.setenv("WORLD_SIZE", str(count))
    with pytest.raises(UserError, match=rf"{count} processes cannot share the \d+ .* evenly; launch {possible}$"):
        training.plan_run(recipes.get(recipe), profiles.get("l4"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_launchers_files_load_and_name_as_many_gpus_as_processes_which_can_share_a_step(path, monkeypatch):
    config = load_config_from_file(str(path))
    gpus = int(path.stem.split("_")[0])
    serving = int(path.stem.split("_")[2]) if "serve" in path.stem else 0
    training_gpus = [str(number) for number in range(serving, gpus)]
    assert config.num_processes == len(training_gpus)
    assert config.gpu_ids == ("all" if not serving else ",".join(training_gpus))
    assert (config.distributed_type.value == "NO") == (config.num_processes == 1)  # accelerate asks for that
    passed = arguments(recipes.V41, profiles.get("l4"), config.num_processes, monkeypatch)
    assert passed["per_device_train_batch_size"] * passed["gradient_accumulation_steps"] * config.num_processes == 32
    assert f"--config_file {path.relative_to(ROOT)} -m helpers train" in path.read_text()


def test_there_is_a_file_for_every_number_of_gpus_colocated_and_served():
    assert sorted(path.stem for path in CONFIGS) == [
        "2_gpus",
        "2_gpus_1_serves",
        "4_gpus",
        "4_gpus_2_serve",
        "8_gpus",
        "8_gpus_4_serve",
    ]


@pytest.fixture(scope="module")
def policy():
    return loading.load_base(RECIPE, PROFILE)


def shares(policy, records, settings, count, monkeypatch):
    """What each of `count` processes answers, and the rows that they get together."""
    sent = []

    def gather(items):
        sent.append(items)
        return (
            [item for items in sent for item in items]
            if len(sent) == count
            else [(place, None) for place in range(1000)]
        )

    monkeypatch.setenv("WORLD_SIZE", str(count))
    monkeypatch.setattr(processes, "gather", gather)
    for rank in range(count):
        monkeypatch.setenv("RANK", str(rank))
        together = evaluation.evaluate(policy, records, settings)
    monkeypatch.undo()
    return sent, together


@pytest.mark.parametrize("count", [2, 3])
def test_processes_share_whole_prompts_evenly_and_together_give_one_processs_rows(count, policy, monkeypatch):
    records = eval_subset(load_split("eval"))[::4]
    settings = replace(generation.settings_for(RECIPE, PROFILE), samples_by_task=evaluation.SAMPLES, greedy_too=True)
    alone = evaluation.evaluate(policy, records, settings)
    sent, together = shares(policy, records, settings, count, monkeypatch)
    assert together == alone
    answered = [{row["record_id"] for _, row in rows} for rows in sent]
    assert sum(map(len, answered)) == len(records) and set.union(*answered) == {record["id"] for record in records}
    assert max(map(len, answered)) - min(map(len, answered)) <= 1
    prompts = {record["id"]: len(json.dumps(record["prompt"])) for record in records}
    lengths = [sum(prompts[record_id] for record_id in ids) for ids in answered]
    assert max(lengths) - min(lengths) <= 2 * max(prompts.values())


def test_more_processes_than_prompts_leave_some_without_and_a_server_is_asked_by_the_first_alone(policy, monkeypatch):
    records = load_split("eval")[:2]
    settings = generation.settings_for(RECIPE, PROFILE)
    sent, together = shares(policy, records, settings, 3, monkeypatch)
    assert [len(rows) for rows in sent] == [1, 1, 0]
    assert together == evaluation.evaluate(policy, records, settings)
    sent, _ = shares(replace(policy, by_first=True), records, settings, 2, monkeypatch)
    assert [len(rows) for rows in sent] == [2, 0]
