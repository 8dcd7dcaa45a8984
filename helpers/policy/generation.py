"""Generation: answer many prompts in batches, sampled or greedily.

Two modes, always named: `sample` (temperature 1, what GRPO trains) and `greedy` (what a user mostly gets). Neither
inherits anything from the model's own generation config.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from helpers.core.errors import require_known
from helpers.policy.lora import merged
from helpers.policy.model import Policy
from helpers.recipes import Recipe
from helpers.recipes.profiles import Profile

MODES = ("sample", "greedy")
SEED = 1_000
"""Every evaluation of every run samples with this seed, and each prompt draws its own random numbers from it
(`decoding.chance_of_prompts`). A prompt's answer is then the same in a subset as in the whole split."""


@dataclass(frozen=True)
class Generation:
    """One completion. `clipped`: it reached the length limit before an end token."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    clipped: bool


@dataclass(frozen=True)
class Settings:
    """How an evaluation decodes and scores. `limit` is the completion's length in tokens.

    Each prompt is answered `samples` times, or as often as `samples_by_task` says of its task. `greedy_too` adds one
    greedy answer per prompt. `parser` names one of `parsing.baselines.PARSERS` to score with; None is the reward
    version's own.
    """

    limit: int
    batch: int
    mode: str = "sample"
    samples: int = 1
    samples_by_task: Mapping[str, int] = field(default_factory=dict)
    greedy_too: bool = False
    temperature: float = 1.0
    seed: int = SEED
    version: str = "v4.1"
    parser: str | None = None


def settings_for(
    recipe: Recipe, profile: Profile, mode: str = "sample", samples: int = 1, seed: int = SEED
) -> Settings:
    """The evaluation of a fitted recipe: its length, temperature and reward version, in the profile's batches."""
    return Settings(
        limit=recipe.max_completion_length,
        batch=profile.eval_batch,
        mode=mode,
        samples=samples,
        temperature=recipe.temperature,
        seed=seed,
        version=recipe.version,
    )


def generate(
    policy: Policy,
    prompts: list[list[dict[str, str]]],
    settings: Settings,
    on_batch: Callable[[int], None] | None = None,
    modes: Sequence[str] = (),
) -> list[Generation]:
    """One completion per prompt, in the prompts' order.

    `modes` gives each prompt its own mode in place of the settings'; `on_batch` is called with the number of prompts
    done. The same seed gives a prompt the same completion, up to the rounding that another batch brings; a policy with
    its own sampler draws by that one's seed. The caller's random state is left as it was.
    """
    from helpers.policy.cpu import decoding

    modes = modes or [settings.mode] * len(prompts)
    for mode in set(modes):
        require_known("mode", mode, MODES)
    texts = [policy.tokenizer.apply_chat_template(p, tokenize=False, add_generation_prompt=True) for p in prompts]
    token_ids = policy.tokenizer(texts, add_special_tokens=False)["input_ids"]
    chance = decoding.chance_of_prompts(token_ids, settings.limit, settings.seed)
    chance[[mode == "greedy" for mode in modes]] = torch.nan
    generations: dict[int, Generation] = {}
    with torch.random.fork_rng(devices=list(range(torch.cuda.device_count()))), answering(policy):
        torch.manual_seed(settings.seed)
        for batch in _batches(policy, token_ids, modes, settings.batch):
            batch_ids = [token_ids[place] for place in batch]
            answers = answer(policy, batch_ids, replace(settings, mode=modes[batch[0]]), chance[batch])
            for place, new_ids in zip(batch, answers, strict=True):
                generations[place] = _decode(policy, new_ids, len(token_ids[place]))
            if on_batch:
                on_batch(len(generations))
    return [generations[place] for place in range(len(prompts))]


@contextmanager
def answering(policy: Policy) -> Iterator[None]:
    """Inference mode for a block, with LoRA merged; a policy with its own sampler sees to the merging itself."""
    was_training = policy.model.training
    policy.model.eval()
    try:
        with nullcontext() if policy.sampler else merged(policy.model):
            yield
    finally:
        policy.model.train(was_training)


def answer(policy: Policy, token_ids: list[list[int]], settings: Settings, chance: Any) -> list[list[int]]:
    """Answer one batch of tokenised prompts: the new tokens of each, up to and including its end token.

    `chance` (prompts x tokens) holds the numbers to draw by, NaN for a greedy answer; a policy's own sampler follows
    the settings' mode instead.
    """
    from helpers.policy.cpu import decoding

    if policy.sampler:
        answers = policy.sampler(token_ids, settings)
    else:
        inputs = _padded(policy, token_ids)
        answers = decoding.answer_in_rounds(policy.model, inputs, settings.limit, chance, settings.temperature)
    ends = set(policy.model.generation_config.eos_token_id)
    stops = (next((place for place, token in enumerate(ids) if token in ends), len(ids)) for ids in answers)
    return [ids[: stop + 1] for ids, stop in zip(answers, stops, strict=True)]


def generate_at_once(policy: Policy, token_ids: list[list[int]], settings: Settings) -> list[list[int]]:
    """Answer a batch in one call of the model's `generate`: each answer's new tokens, with padding after the end."""
    how: dict[str, Any] = {"do_sample": False}
    if settings.mode == "sample":
        how = {"do_sample": True, "temperature": settings.temperature, "top_p": 1.0, "top_k": 0}
    inputs = _padded(policy, token_ids)
    with torch.inference_mode():
        ids = policy.model.generate(
            **inputs,
            max_new_tokens=settings.limit,
            pad_token_id=policy.tokenizer.pad_token_id,
            repetition_penalty=1.0,
            **how,
        )
    return ids[:, inputs["input_ids"].shape[1] :].tolist()


def _batches(policy: Policy, token_ids: list[list[int]], modes: Sequence[str], size: int) -> Iterator[list[int]]:
    """Places of the prompts of each batch: prompts of like length side by side waste little padding.

    A sampler of the policy's own takes one mode per batch; decoding in rounds mixes them.
    """
    order = sorted(range(len(token_ids)), key=lambda place: len(token_ids[place]))
    groups = [[place for place in order if modes[place] == mode] for mode in MODES] if policy.sampler else [order]
    for places in groups:
        for start in range(0, len(places), size):
            yield places[start : start + size]


def _padded(policy: Policy, token_ids: list[list[int]]) -> Any:
    inputs = policy.tokenizer.pad({"input_ids": token_ids}, padding_side="left", return_tensors="pt")
    return inputs.to(policy.model.device)


def _decode(policy: Policy, new_ids: list[int], prompt_tokens: int) -> Generation:
    clipped = new_ids[-1] not in policy.model.generation_config.eos_token_id
    text = str(policy.tokenizer.decode(new_ids if clipped else new_ids[:-1], skip_special_tokens=True))
    return Generation(text, prompt_tokens, len(new_ids), clipped)
