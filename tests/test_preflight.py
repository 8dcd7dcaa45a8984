"""A check before a long run says "off" where the thing that it names is broken, and nothing else is."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from transformers import GenerationConfig

from helpers import cli, recipes
from helpers.cli.doctor import Check
from helpers.policy import loading
from helpers.recipes import memory, profiles
from helpers.tasks import TASKS
from helpers.tasks.records import SPLITS, count_by_task, load_split
from helpers.training import dry_run, preflight
from helpers.training.arguments import RecipeMismatchError
from helpers.training.plan import load_splits

PROFILE = profiles.get("smallest")
RECIPE, _ = profiles.fit(recipes.V41, PROFILE)
SHORT = replace(RECIPE, max_steps=preflight.STEPS, warmup_share=0.0)


@pytest.fixture
def policy():
    return loading.load_base(RECIPE, PROFILE)


@pytest.fixture(scope="module")
def splits():
    return {split: load_split(split) for split in SPLITS}


def dry(recipe, folder):
    return dry_run.dry_run(recipe, PROFILE, loading.load_base(RECIPE, PROFILE), folder)


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    return dry(SHORT, tmp_path_factory.mktemp("dry"))


@pytest.fixture(scope="module")
def checks():
    return {check.name: check for check in preflight.run(recipes.V41, PROFILE)}


def test_nothing_is_off_on_the_smallest_profile(checks):
    assert [check.name for check in checks.values() if check.state == "off"] == []


def test_every_subject_has_its_line(checks):
    policy = {"Device", "Backend", "Template", "Stop tokens", "Generation defaults", "Coverage"}
    lengths = {f"Prompts, {split}" for split in SPLITS} | {f"References, {task}" for task in TASKS}
    steps = {"Trainer arguments", "Dry run", "LoRA", "Log-probs", "Memory"}
    assert set(checks) == policy | lengths | steps


def test_a_gpu_profile_without_a_gpu_is_off_before_anything_is_loaded():
    found = preflight.run(recipes.V41, replace(PROFILE, name="gpu", device="cuda"))
    assert [(check.name, check.state) for check in found] == [("Backend", "ok"), ("Device", "off")]


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        ("assistant\\n", "assistant:", "does not end in"),
        ("message['content'] +", "message['content'][:9] +", "a message is left out"),
        ("assistant\\n", "assistant\\n<think>\\n\\n</think>\\n\\n", "does not start with the prompt"),
        ("'<|im_start|>' + message", "'<think>' + message", "a think block"),
    ],
)
def test_a_template_that_does_not_render_as_training_needs_is_off(policy, splits, before, after, fault):
    assert preflight.check_template(policy.tokenizer, splits["eval"][0]).state == "ok"
    assert before in policy.tokenizer.chat_template
    policy.tokenizer.chat_template = policy.tokenizer.chat_template.replace(before, after)
    check = preflight.check_template(policy.tokenizer, splits["eval"][0])
    assert check.state == "off" and fault in check.value


def test_a_template_that_ends_answers_with_another_token_is_off(policy, splits):
    policy.tokenizer.chat_template = policy.tokenizer.chat_template.replace("<|im_end|>", "<|pad|>")
    check = preflight.check_stop_tokens(policy, splits["eval"][0])
    assert check.state == "off" and "an answer ends in '<|pad|>" in check.value


def test_generation_that_does_not_stop_at_the_end_token_is_off(policy, splits):
    policy.model.generation_config.eos_token_id = [policy.tokenizer.pad_token_id]
    assert preflight.check_stop_tokens(policy, splits["eval"][0]).state == "off"


def test_two_end_tokens_are_both_named(policy, splits):
    policy.model.generation_config.eos_token_id = [policy.tokenizer.eos_token_id, 7]
    check = preflight.check_stop_tokens(policy, splits["eval"][0])
    assert check.state == "ok" and f"({policy.tokenizer.eos_token_id})" in check.value and "(7)" in check.value


def test_a_tokenizer_without_padding_is_off(policy, splits):
    policy.tokenizer.pad_token = None
    assert preflight.check_stop_tokens(policy, splits["eval"][0]).state == "off"


def test_the_model_cards_sampling_advice_is_off_by_name():
    hub = GenerationConfig(temperature=0.1, repetition_penalty=1.2, top_k=50, do_sample=True)
    check = preflight.check_generation_defaults(hub)
    assert check.state == "off"
    assert all(name in check.value for name in ("temperature 0.1", "repetition_penalty 1.2", "top_k 50"))


def test_one_prompt_too_long_for_the_context_is_off_in_its_split_alone(policy, splits):
    turn = {"role": "user", "content": "pedido " * 3000}
    long = splits["eval"][0] | {"prompt": [turn]}
    found = list(preflight.check_lengths(policy, splits | {"eval": [long, *splits["eval"]]}, RECIPE, recipes.V41))
    assert [check.name for check in found if check.state == "off"] == ["Prompts, eval"]


def test_a_recipe_whose_limit_cuts_most_references_is_off_and_a_profiles_cap_is_a_note():
    assert preflight.check_references("push", [30, 60, 70], limit=50, capped=False).state == "off"
    assert preflight.check_references("push", [30, 40, 70], limit=50, capped=False).state == "note"
    assert preflight.check_references("push", [30, 60, 70], limit=50, capped=True).state == "note"
    assert preflight.check_references("push", [30, 40, 50], limit=50, capped=False).state == "ok"


def test_only_the_tasks_that_are_shown_are_judged(policy, tmp_path):
    alone = replace(RECIPE, only_task="push")
    splits = load_splits(alone, PROFILE)
    judged = [check.name for check in preflight.check_lengths(policy, splits, alone, recipes.V41)]
    assert [name for name in judged if name.startswith("References")] == ["References, push"]
    coverage = preflight.check_coverage(alone, count_by_task(splits["train"]))
    assert coverage.state != "off" and "sql_qa" not in coverage.value
    seen = dry(replace(alone, max_steps=1, warmup_share=0.0), tmp_path)
    prompts = {key: value for key, value in seen.metrics[-1].items() if key.startswith("train/prompts_seen/") and value}
    assert prompts == {"train/prompts_seen/push": alone.prompts_per_step}


def test_a_task_without_records_is_off():
    counts = dict.fromkeys(TASKS, 100)
    assert preflight.check_coverage(recipes.V41, counts).state == "ok"
    check = preflight.check_coverage(recipes.V41, counts | {"push": 0})
    assert check.state == "off" and "push" in check.remedy


@pytest.mark.parametrize("name", ["temperature", "repetition_penalty"])
def test_a_trainer_that_samples_otherwise_than_the_recipe_is_off(seen, name):
    assert preflight.check_trainer(seen, SHORT).state == "ok"
    check = preflight.check_trainer(replace(seen, sampling=seen.sampling | {name: 1.2}), SHORT)
    assert check.state == "off" and f"{name} is 1.2" in check.value


def test_a_trainer_that_shows_other_than_the_recipes_prompts_is_off(seen):
    check = preflight.check_trainer(seen, replace(SHORT, prompts_per_step=4))
    assert check.state == "off" and "4 prompts in 2 steps, not 8" in check.value


def test_a_trainer_that_refuses_the_recipe_is_off_in_one_line(policy, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise RecipeMismatchError("a step would see 1 prompts; recipe v4.1 says 2\nand more")

    monkeypatch.setattr(dry_run, "dry_run", refuse)
    found = list(preflight.check_dry_run(policy, RECIPE, PROFILE, tmp_path, 0))
    assert [(c.name, c.value, c.state) for c in found] == [
        ("Trainer arguments", "a step would see 1 prompts; recipe v4.1 says 2", "off")
    ]


@pytest.mark.parametrize(
    ("message", "value"), [("CUDA error: an illegal address\nand more", None), ("", "RuntimeError")]
)
def test_another_failure_of_the_steps_is_not_taken_for_the_trainers_arguments(
    policy, tmp_path, monkeypatch, message, value
):
    def fail(*args, **kwargs):
        raise RuntimeError(message)

    monkeypatch.setattr(dry_run, "dry_run", fail)
    (check,) = preflight.check_dry_run(policy, RECIPE, PROFILE, tmp_path, 0)
    assert (check.name, check.state) == ("Dry run", "off")
    assert check.value == (value or "CUDA error: an illegal address")


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("train/reward_errors", 1, "a reward function raised"),
        ("train/loss", float("nan"), "not finite"),
        ("train/completion_length", 1.0, "empty completions"),
    ],
)
def test_steps_that_went_wrong_are_off(seen, key, value, told):
    assert preflight.check_steps(seen.metrics, SHORT).state != "off"
    check = preflight.check_steps([row | {key: value} for row in seen.metrics], SHORT)
    assert check.state == "off" and told in check.value


def test_lora_that_stays_zero_is_off(seen, tmp_path):
    assert preflight.check_lora(seen).state == "ok"
    still = dry(replace(SHORT, learning_rate=0.0), tmp_path)
    check = preflight.check_lora(still)
    assert check.state == "off" and "still zero: " in check.value


def test_one_matrix_that_does_not_move_is_named(seen):
    name = next(iter(seen.lora_b))
    check = preflight.check_lora(replace(seen, lora_b=seen.lora_b | {name: False}))
    assert check.state == "off" and name in check.value


def test_zero_lora_is_a_note_where_no_groups_rewards_differed(seen):
    rows = [row | {"train/frac_reward_zero_std": 1.0} for row in seen.metrics]
    unmoved = replace(seen, metrics=rows, lora_b=dict.fromkeys(seen.lora_b, False))
    assert preflight.check_lora(unmoved).state == "note"


def test_rollouts_from_another_network_than_the_trained_one_are_off(tmp_path):
    dropped = dry(replace(SHORT, lora_dropout=0.9, learning_rate=0.1), tmp_path)
    (check,) = preflight.check_log_probs(dropped.log_probs, PROFILE.dtype)
    assert check.name == "Log-probs" and check.state == "off"


def test_a_wrong_temperature_shows_in_the_log_probs(seen):
    (sound,) = preflight.check_log_probs(seen.log_probs, "bfloat16")
    (wrong,) = preflight.check_log_probs(replace(seen.log_probs, rollout=seen.log_probs.rollout * 1.1), "bfloat16")
    assert (sound.state, wrong.state) == ("ok", "off")


def test_an_engine_that_samples_from_other_weights_is_off(seen):
    engine = replace(seen.log_probs, sampled=seen.log_probs.trainer + 0.2)
    found = {check.name: check.state for check in preflight.check_log_probs(engine, "bfloat16")}
    assert found == {"Log-probs": "ok", "Sampling log-probs": "off"}


def test_log_probs_cover_completions_of_different_lengths_without_their_padding(policy):
    batch = {
        "prompt_ids": torch.tensor([[0, 5, 6], [7, 8, 9]]),
        "prompt_mask": torch.tensor([[0, 1, 1], [1, 1, 1]]),
        "completion_ids": torch.tensor([[5, 6, 7], [8, 0, 0]]),
        "completion_mask": torch.tensor([[1, 1, 1], [1, 0, 0]]),
    }
    rows = dry_run._unpadded(batch)
    assert [(p.tolist(), c.tolist()) for p, c in rows] == [([5, 6], [5, 6, 7]), ([7, 8, 9], [8])]
    with torch.no_grad():
        logits = policy.model(torch.tensor([[5, 6, 5, 6, 7]])).logits[0]
        wanted = torch.log_softmax(logits[1:4], -1)[range(3), [5, 6, 7]]
        assert torch.allclose(dry_run.plain_log_probs(policy.model, *rows[0], 1.0), wanted, atol=1e-6)


def test_memory_over_the_plan_is_a_note_and_over_the_card_is_off():
    plan = memory.plan(recipes.V41, memory.SHAPES[recipes.HUB_05B], profiles.get("l4"))
    peaks = (plan.peak - 1, plan.peak + 0.01, plan.available + 1)
    assert [preflight.compare_memory(peak, plan).state for peak in peaks] == ["ok", "note", "off"]


def test_a_plan_that_does_not_fit_is_off_whatever_was_measured():
    plan = memory.plan(recipes.V41, memory.SHAPES[recipes.HUB_05B], replace(profiles.get("l4"), memory_gib=3.0))
    assert preflight.compare_memory(1.0, plan).state == "off"


def test_a_loaded_models_shape_is_the_one_that_was_planned_for():
    sizes = {"num_hidden_layers": 28, "hidden_size": 1024, "num_attention_heads": 16, "num_key_value_heads": 8}
    sizes |= {"head_dim": 128, "intermediate_size": 3072, "vocab_size": 49152}
    config = SimpleNamespace(tie_word_embeddings=True, **sizes)
    assert memory.shape_of_config(config) == memory.SHAPES[recipes.HUB_05B]


def test_the_table_has_a_row_a_check_with_its_remedy():
    table = preflight.table([Check("LoRA", "moved"), Check("Dry run", "2 steps", "off", "look")])
    assert table.loc["Dry run"].to_dict() == {"verdict": "off", "told": "2 steps -> look"}


@pytest.mark.parametrize(("state", "code"), [("off", 1), ("note", 0), ("ok", 0)])
def test_the_verb_prints_each_check_writes_json_and_fails_where_one_is_off(state, code, tmp_path, monkeypatch, capsys):
    found = [Check("LoRA", "none moved", state, "look")]
    monkeypatch.setattr(preflight, "examine", lambda *args, **kwargs: iter(found))
    assert cli.main(["preflight", "--profile", "smallest", "--json", str(tmp_path / "checks.json")]) == code
    assert f"{state:<5} LoRA" in capsys.readouterr().out
    assert json.loads((tmp_path / "checks.json").read_text())[0]["state"] == state
