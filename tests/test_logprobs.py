"""The trainer's log-probabilities on a CPU are TRL's own, in value and gradient, with each prompt read once."""

import pytest
import torch

from helpers import recipes
from helpers.policy import loading, lora
from helpers.policy.cpu import logprobs
from helpers.recipes import profiles

PROFILE = profiles.get("smallest")
RECIPE, _ = profiles.fit(recipes.V41, PROFILE)


@pytest.fixture(scope="module")
def trainer(tmp_path_factory):
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    policy = lora.with_lora(loading.load_base(RECIPE, PROFILE), RECIPE)
    arguments = GRPOConfig(
        str(tmp_path_factory.mktemp("trainer")),
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        num_generations=4,
        per_device_train_batch_size=8,
        temperature=0.9,
        report_to=[],
    )
    rows = Dataset.from_list([{"prompt": [{"role": "user", "content": "Oi"}]}] * 8)
    return GRPOTrainer(policy.model, [lambda **_: [0.0]], arguments, rows, processing_class=policy.tokenizer)


@pytest.fixture
def batch():
    """Two groups of unlike prompts, one completed four times, one twice, with padding on both sides."""
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(3, 400, (6, 30), generator=draw)
    mask = torch.ones_like(ids)
    ids[:4, :12], ids[4:, :12] = ids[0, :12].clone(), ids[4, :12].clone()
    mask[4:, :5] = 0
    for row, length in enumerate((18, 3, 11, 1, 7, 18)):
        mask[row, 12 + length :] = 0
    return ids * mask, mask


def test_values_and_gradients_are_those_of_trl(trainer, batch):
    ids, mask = batch
    held = mask[:, -18:].bool()
    results = {}
    stock = type(trainer)._get_per_token_logps_and_entropies
    logprobs.read_prompts_once(trainer)
    for name, method in (("trl", stock.__get__(trainer)), ("ours", trainer._get_per_token_logps_and_entropies)):
        trainer.model.zero_grad()
        logps, entropies, _ = method(trainer.model, ids, mask, 18, compute_entropy=True)
        logps[held].sum().backward()
        gradients = torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None])
        results[name] = logps[held].detach(), entropies[held].detach(), gradients
    for ours, trls in zip(results["ours"], results["trl"], strict=True):
        assert torch.allclose(ours, trls, atol=2e-5, rtol=1e-4)
    assert results["ours"][2].abs().max() > 0


def test_a_prompt_is_read_once_for_its_whole_group(trainer, batch):
    read = []
    hook = trainer.model.register_forward_pre_hook(
        lambda _, args, kwargs: read.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    logprobs.read_prompts_once(trainer)
    trainer._get_per_token_logps_and_entropies(trainer.model, *batch, 18)
    hook.remove()
    assert read == [11, 4 * 18, 6, 2 * 18]
