"""Decoding in rounds answers as one plain `generate` does, draws by probability, and reads nothing twice."""

import pytest
import torch
from transformers import DynamicCache, LogitsProcessorList

from helpers import recipes
from helpers.policy import loading
from helpers.policy.cpu import decoding
from helpers.recipes import profiles
from helpers.tasks.records import load_split

PROFILE = profiles.get("smallest")
LIMIT = 40


@pytest.fixture(scope="module")
def policy():
    return loading.load_base(profiles.fit(recipes.V41, PROFILE)[0], PROFILE)


@pytest.fixture(scope="module")
def inputs(policy):
    """Five prompts of different lengths, the second of them three times."""
    prompts = [record["prompt"] for record in load_split("eval")[::60]]
    texts = [policy.tokenizer.apply_chat_template(p, tokenize=False, add_generation_prompt=True) for p in prompts]
    rows = [texts[0], texts[1], texts[1], *texts[2:], texts[1]]
    return policy.tokenizer(rows, add_special_tokens=False, padding=True, padding_side="left", return_tensors="pt")


def plain(policy, inputs, chance, temperature):
    """What one call of `generate` answers, up to and with each row's end token, drawing with the same numbers."""
    width = inputs["input_ids"].shape[1]
    draw = [] if chance is None else [decoding.Draw(temperature, chance, width)]
    ids = policy.model.generate(
        **inputs, max_new_tokens=LIMIT, do_sample=False, logits_processor=LogitsProcessorList(draw)
    )
    return [up_to_end(policy, row) for row in ids[:, width:].tolist()]


def greedy(inputs):
    return torch.full((len(inputs["input_ids"]), LIMIT), torch.nan)


def up_to_end(policy, ids):
    ends = policy.model.generation_config.eos_token_id
    return ids[: next((place for place, token in enumerate(ids) if token in ends), len(ids)) + 1]


@pytest.mark.parametrize("temperature", [None, 1.0, 1.3])
@pytest.mark.parametrize("size", [1, 7, 16, 1_000])
def test_answers_in_rounds_of_any_size_are_those_of_one_plain_generate(policy, inputs, monkeypatch, temperature, size):
    torch.manual_seed(3)
    chance = decoding.new_chance(len(inputs["input_ids"]), LIMIT) if temperature else None
    expected = plain(policy, inputs, chance, temperature)
    monkeypatch.setattr(decoding, "ROUND", size)
    chance = greedy(inputs) if chance is None else chance
    found = decoding.answer_in_rounds(policy.model, inputs, LIMIT, chance, temperature or 1.0)
    assert [up_to_end(policy, row) for row in found] == expected
    assert len({len(row) for row in expected}) > 1 or temperature is None


def test_a_round_ends_with_the_limit(policy, inputs):
    found = decoding.answer_in_rounds(policy.model, inputs, decoding.ROUND + 1, greedy(inputs))
    assert max(map(len, found)) == decoding.ROUND + 1


@pytest.mark.parametrize("size", [1, 2, 1_000])
def test_answers_do_not_depend_on_how_many_prompts_are_read_together(policy, inputs, monkeypatch, size):
    expected = plain(policy, inputs, None, 1.0)
    monkeypatch.setattr(decoding, "CHUNK", size)
    found = decoding.answer_in_rounds(policy.model, inputs, LIMIT, greedy(inputs))
    assert [up_to_end(policy, row) for row in found] == expected


def test_a_prompt_is_read_once_however_often_it_stands_in_a_batch(policy):
    alone = [5, 6, 7, 8, 9]
    assert tokens_read(policy, [alone] * 3) == tokens_read(policy, [alone]) == len(alone) - 1


def test_what_prompts_begin_with_is_read_once(policy):
    begin, ends = [5, 6, 7, 8, 9, 10], ([11, 12], [13, 14], [15, 16])
    assert tokens_read(policy, [begin + end for end in ends]) == len(begin) + 3


def test_a_prompt_that_another_one_goes_on_from_is_read_with_it(policy):
    rows = [[5, 6, 7], [5, 6, 7, 8, 9], [5, 6, 10]]
    alone = [answers(policy, [row])[0] for row in rows]
    assert answers(policy, rows) == alone


def answers(policy, rows, limit=LIMIT):
    """The greedy answers to rows of token ids, up to and with their end tokens."""
    batch = policy.tokenizer.pad({"input_ids": rows}, padding_side="left", return_tensors="pt")
    found = decoding.answer_in_rounds(policy.model, batch, limit, greedy(batch))
    return [up_to_end(policy, row) for row in found]


def tokens_read(policy, rows):
    """Tokens of the prompts that go through the model, padding included, before the first one is generated."""
    read = []
    hook = policy.model.model.register_forward_pre_hook(
        lambda _, args, kwargs: read.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    try:
        answers(policy, rows, limit=1)
    finally:
        hook.remove()
    return sum(read[:-1])


def test_tokens_are_drawn_as_often_as_they_are_likely():
    scores = torch.randn(1, 50, generator=torch.Generator().manual_seed(0)) * 2
    draws = 10_000
    chance = ((torch.arange(draws) + 0.5) / draws).unsqueeze(1)
    for temperature in (0.5, 1.0, 2.0):
        drawn = decoding.Draw(temperature, chance, 0)(torch.zeros(draws, 0), scores.expand(draws, -1)).argmax(dim=-1)
        shares = torch.bincount(drawn, minlength=50) / draws
        assert torch.allclose(shares, (scores[0] / temperature).softmax(dim=-1), atol=1.5 / draws)


def test_chance_is_above_zero_and_evenly_spread_over_prompts_and_tokens():
    chance = decoding.chance_of_prompts([[place] for place in range(500)], 200, seed=0)
    assert chance.min() > 0 and chance.max() <= 1
    assert torch.histc(chance, 10, 0, 1).sub(10_000).abs().max() < 500
    assert chance.mean(dim=1).std() < 2 * (1 / 12 / 200) ** 0.5


def test_a_number_that_is_none_draws_the_likeliest_token():
    scores = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    chance = torch.tensor([[torch.nan], [1.0], [torch.nan]])
    drawn = decoding.Draw(1.0, chance, 0)(torch.zeros(3, 0), scores).argmax(dim=-1)
    assert drawn[[0, 2]].tolist() == scores[[0, 2]].argmax(dim=-1).tolist()
    assert drawn[1] == 49


@pytest.mark.parametrize("chance", [2**-24, 1.0])
def test_an_impossible_token_is_never_drawn_whatever_the_number(chance):
    scores = torch.tensor([[-torch.inf, 0.3, 0.1, -torch.inf]])
    drawn = decoding.Draw(1.0, torch.tensor([[chance]]), 0)(torch.zeros(1, 0), scores)
    assert int(drawn.argmax()) in (1, 2)


def test_keys_and_values_in_a_layer_with_room_are_those_of_transformers_own_layer(policy):
    ours, theirs = DynamicCache(config=policy.model.config), DynamicCache(config=policy.model.config)
    ours.layers = [decoding._RoomyLayer() for _ in ours.layers]
    torch.manual_seed(0)
    for tokens in (5, 1, 1, 20, 1):
        new = torch.randn(3, 2, tokens, 4), torch.randn(3, 2, tokens, 4)
        assert all(torch.equal(*pair) for pair in zip(ours.update(*new, 0), theirs.update(*new, 0), strict=True))
    for change in (
        lambda cache: cache.layers[0].batch_select_indices(torch.tensor([2, 0, 0])),
        lambda cache: cache.layers[0].crop(-3),
    ):
        change(ours), change(theirs)
        new = torch.randn(3, 2, 1, 4), torch.randn(3, 2, 1, 4)
        assert all(torch.equal(*pair) for pair in zip(ours.update(*new, 0), theirs.update(*new, 0), strict=True))
