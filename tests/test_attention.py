"""Decoding with grouped heads says what transformers' own attention says."""

import copy
from dataclasses import replace

import pytest
import torch

from helpers import recipes
from helpers.policy import generation, loading
from helpers.policy.cpu import attention
from helpers.recipes import profiles
from helpers.tasks.records import load_split

PROFILE = profiles.get("smallest")
RECIPE, _ = profiles.fit(recipes.V41, PROFILE)


@pytest.fixture(scope="module")
def policy():
    return loading.load_base(RECIPE, PROFILE)


@pytest.fixture(scope="module")
def stock(policy):
    model = copy.deepcopy(policy.model)
    model.set_attn_implementation("sdpa")
    return model


def padded(policy, prompts):
    texts = [policy.tokenizer.apply_chat_template(prompt, tokenize=False) for prompt in prompts]
    return policy.tokenizer(texts, add_special_tokens=False, padding=True, padding_side="left", return_tensors="pt")


def test_a_policy_on_the_cpu_decodes_with_grouped_heads(policy):
    assert policy.model.config._attn_implementation == attention.NAME
    assert policy.model.config.num_key_value_heads < policy.model.config.num_attention_heads


@torch.inference_mode()
def test_the_next_tokens_logits_are_those_of_stock_attention_behind_padding_and_a_cache(policy, stock):
    inputs = padded(policy, [record["prompt"] for record in load_split("eval")[:3]])
    assert (inputs["attention_mask"] == 0).any()
    logits = []
    for model in (policy.model, stock):
        asked = model(**inputs, use_cache=True)
        mask = torch.nn.functional.pad(inputs["attention_mask"], (0, 1), value=1)
        told = model(input_ids=inputs["input_ids"][:, -1:], attention_mask=mask, past_key_values=asked.past_key_values)
        logits.append(told.logits)
    assert torch.equal(*(found.argmax(-1) for found in logits))
    torch.testing.assert_close(*logits, rtol=1e-4, atol=1e-5)


def test_a_training_pass_is_stock_attention_to_the_bit(policy, stock):
    inputs = padded(policy, [record["prompt"] for record in load_split("eval")[:3]])
    with torch.no_grad():
        assert torch.equal(policy.model(**inputs).logits, stock(**inputs).logits)


def test_greedy_answers_are_those_of_stock_attention(policy, stock):
    settings = generation.settings_for(RECIPE, PROFILE, mode="greedy")
    prompts = [record["prompt"] for record in load_split("eval")[::30]]
    grouped, plain = (
        [answer.text for answer in generation.generate(one, prompts, settings)]
        for one in (policy, replace(policy, model=stock))
    )
    assert grouped == plain
