"""Evaluation answers every prompt once, in order, repeatably, and disturbs nothing."""

import copy
import time
from dataclasses import replace

import pytest
import torch

from helpers import recipes
from helpers.core.errors import UserError
from helpers.policy import evaluation, generation, loading, lora, model
from helpers.recipes import profiles
from helpers.rewards import score_row
from helpers.tasks import TASKS
from helpers.tasks.records import eval_subset, load_split

PROFILE = profiles.get("smallest")
RECIPE, _ = profiles.fit(recipes.V41, PROFILE)
SETTINGS = generation.settings_for(RECIPE, PROFILE)


@pytest.fixture(scope="module")
def policy():
    return loading.load_base(RECIPE, PROFILE)


@pytest.fixture(scope="module")
def records():
    return eval_subset(load_split("eval"))[::6]


def texts(policy, records, **changes):
    return [g.text for g in generation.generate(policy, [r["prompt"] for r in records], replace(SETTINGS, **changes))]


def test_completions_come_back_in_the_prompts_order_whatever_the_batch(policy, records):
    together = texts(policy, records, mode="greedy")
    alone = [text for record in records for text in texts(policy, [record], mode="greedy", batch=1)]
    assert together == alone


def test_what_is_sampled_for_a_prompt_does_not_depend_on_the_prompts_beside_it_or_their_order(policy, records):
    together = texts(policy, records)
    assert texts(policy, records[::-1], batch=3)[::-1] == together
    assert [texts(policy, [record])[0] for record in records[:4]] == together[:4]


def test_a_prompt_that_is_asked_twice_gets_two_samples(policy, records):
    first, second = texts(policy, [records[0]] * 2)
    assert first != second
    assert texts(policy, records[:1]) == [first]


def test_one_seed_gives_the_same_samples_and_another_gives_others(policy, records):
    assert texts(policy, records) == texts(policy, records)
    assert texts(policy, records) != texts(policy, records, seed=SETTINGS.seed + 1)


def test_the_prompts_of_one_task_alone_can_be_answered_several_times(policy, records):
    settings = replace(SETTINGS, samples_by_task={"push": 3})
    rows = evaluation.evaluate(policy, records, settings)
    for record in records:
        own = [row for row in rows if row["record_id"] == record["id"]]
        assert [row["sample"] for row in own] == ([0, 1, 2] if record["task"] == "push" else [0])
    first = evaluation.evaluate(policy, records, SETTINGS)
    assert [row for row in rows if row["sample"] == 0] == first
    alone = evaluation.evaluate(policy, [r for r in records if r["task"] == "push"], replace(SETTINGS, samples=3))
    assert [row for row in rows if row["task"] == "push"] == alone


def test_greedy_answers_asked_for_beside_samples_are_those_asked_for_alone(policy, records):
    rows = evaluation.evaluate(policy, records, replace(SETTINGS, samples=2, greedy_too=True))
    sampled, greedy = ([row for row in rows if row["mode"] == mode] for mode in generation.MODES)
    assert sampled == evaluation.evaluate(policy, records, replace(SETTINGS, samples=2))
    assert greedy == evaluation.evaluate(policy, records, replace(SETTINGS, mode="greedy"))
    assert texts(policy, records) != texts(policy, records, mode="greedy")


def test_a_sampler_of_its_own_is_asked_in_one_mode_at_a_time(policy, records):
    asked = []

    def sampler(token_ids, settings):
        asked.append((settings.mode, len(token_ids)))
        return generation.generate_at_once(policy, token_ids, settings)

    own = replace(policy, sampler=sampler)
    rows = evaluation.evaluate(own, records, replace(SETTINGS, batch=len(records) - 1, greedy_too=True))
    assert asked == [(mode, count) for mode in generation.MODES for count in (len(records) - 1, 1)]
    greedy = [row for row in rows if row["mode"] == "greedy"]
    assert greedy == evaluation.evaluate(policy, records, replace(SETTINGS, mode="greedy"))


def test_the_seconds_of_both_modes_together_are_those_of_the_evaluation(policy, records):
    started = time.monotonic()
    found = evaluation.timed_by_mode(policy, records, replace(SETTINGS, greedy_too=True))
    took = time.monotonic() - started
    assert [rows[0]["mode"] for rows, _ in found] == list(generation.MODES)
    assert 0 < sum(metrics["time/eval_s"] for _, metrics in found) <= took + 0.01
    speeds = [metrics["time/eval_tokens_per_s"] for _, metrics in found]
    assert speeds[0] == pytest.approx(speeds[1], abs=0.2)


def test_sampling_leaves_the_callers_random_state_alone(policy, records):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    texts(policy, records)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_model_in_training_goes_on_training_after_an_evaluation(policy, records):
    policy.model.train()
    texts(policy, records[:1])
    assert policy.model.training
    policy.model.eval()


def test_a_completion_without_an_end_token_counts_as_clipped_at_the_limit(policy, records):
    for answer in generation.generate(policy, [r["prompt"] for r in records], SETTINGS):
        assert answer.completion_tokens <= SETTINGS.limit
        assert not answer.clipped or answer.completion_tokens == SETTINGS.limit
        assert "<|im_end|>" not in answer.text


def test_every_end_token_the_model_names_ends_a_completion(policy, records):
    ids = policy.tokenizer(texts(policy, records[:1], mode="greedy")[0])["input_ids"]
    kept = policy.model.generation_config.eos_token_id
    policy.model.generation_config.eos_token_id = [*kept, ids[2]]
    try:
        (answer,) = generation.generate(policy, [records[0]["prompt"]], replace(SETTINGS, mode="greedy"))
    finally:
        policy.model.generation_config.eos_token_id = kept
    assert not answer.clipped
    assert answer.completion_tokens <= 3


def test_a_model_cards_sampling_advice_does_not_survive_loading(policy, tmp_path):
    config = policy.model.generation_config
    policy.model.generation_config = type(config)(
        temperature=0.1, repetition_penalty=1.2, do_sample=True, eos_token_id=2
    )
    policy.model.save_pretrained(tmp_path)
    policy.tokenizer.save_pretrained(tmp_path)
    policy.model.generation_config = config
    loaded = model.load(str(tmp_path), PROFILE).model.generation_config
    assert loaded.repetition_penalty in (None, 1.0)
    assert loaded.temperature in (None, 1.0)


def test_rows_hold_what_a_run_record_keeps(policy, records):
    rows = evaluation.evaluate(policy, records, replace(SETTINGS, samples=2), step=7, split="eval_subset")
    assert len(rows) == 2 * len(records)
    assert {row["sample"] for row in rows} == {0, 1}
    assert {row["step"] for row in rows} == {7}
    assert all(0 <= row["total"] <= 1 and row["version"] == "v4.1" and row["parser"] == "tolerant" for row in rows)


def test_the_summary_of_a_stratified_set_is_the_mean_over_all_its_prompts(policy, records):
    rows = evaluation.evaluate(policy, records, SETTINGS)
    summary = evaluation.summarize(rows)
    assert summary["eval/mean_reward"] == pytest.approx(sum(row["total"] for row in rows) / len(rows))
    for task in TASKS:
        totals = [row["total"] for row in rows if row["task"] == task]
        assert summary[f"eval/{task}"] == pytest.approx(sum(totals) / len(totals))


def test_an_unknown_mode_is_answered_with_the_valid_ones(policy, records):
    with pytest.raises(UserError, match="sample, greedy"):
        texts(policy, records[:1], mode="beam")


def test_a_policy_that_is_nowhere_is_refused_in_one_line(tmp_path):
    with pytest.raises(UserError, match="cannot load the policy") as caught:
        model.load(str(tmp_path / "nowhere"), PROFILE)
    assert "\n" not in str(caught.value)


def test_the_same_completions_can_be_scored_with_another_version_and_parser(policy, records):
    record = next(record for record in records if record["task"] == "extraction")
    comma = record["reference"]["text"].replace('"sentiment_score": ', '"sentiment_score": 4,5, "x": ', 1)
    read = {name: score_row(record, comma, "v4.1", name)["total"] for name in ("regex", "tolerant")}
    assert read["regex"] == 0 < read["tolerant"]
    (row,) = evaluation.evaluate(policy, [record], replace(SETTINGS, version="v4.2", parser="handoff"))
    assert (row["version"], row["parser"]) == ("v4.2", "handoff")


def test_an_unknown_parser_is_answered_with_the_valid_ones(records):
    with pytest.raises(UserError, match="regex, handoff, tolerant"):
        score_row(records[0], "", "v4.1", "perfect")


def test_a_lora_policy_answers_the_same_with_its_adapter_merged_and_gets_its_weights_back(policy):
    from peft import get_peft_model

    model = get_peft_model(copy.deepcopy(policy.model), lora.lora_config(recipes.V41))
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.05)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    ids = torch.arange(3, 40).unsqueeze(0)
    with torch.no_grad():
        apart = model(ids).logits
        with lora.merged(model):
            together = model(ids).logits
        after = model(ids).logits
    assert torch.allclose(apart, together, atol=1e-5)
    assert not torch.equal(apart, policy.model(ids).logits)
    assert torch.equal(apart, after)
    assert all(torch.equal(before[name], parameter) for name, parameter in model.named_parameters())
    assert any(parameter.requires_grad for parameter in model.parameters())
