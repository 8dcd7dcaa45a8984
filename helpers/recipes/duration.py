"""The time plan: what a recipe's steps take on a GPU at its peak, computed before anything is loaded.

A lower bound from two numbers of a card's data sheet. While it generates, a card reads all weights and every sequence's
keys and values once per token; while it trains, it multiplies. A real step takes longer by whatever falls short of the
peak, and completions are taken to be as long as the limit allows, which they need not be.
"""

import math
from dataclasses import dataclass

from helpers.core.errors import require_known
from helpers.recipes import memory
from helpers.recipes.profiles import Profile
from helpers.recipes.recipe import Recipe

FORWARDS = 4
"""Passes per token that each cost a forward pass: log-probabilities of the rollout, the loss, its recomputation under
gradient checkpointing, and the backward pass, which with LoRA computes gradients of activations alone."""


@dataclass(frozen=True)
class Card:
    """A card at its peak: bytes read per second, and 16-bit floating-point operations per second without sparsity."""

    bandwidth: float
    flops: float


CARDS: dict[str, Card] = {"l4": Card(bandwidth=300e9, flops=121e12)}
"""By profile, from NVIDIA's data sheets (which give 242 TFLOPS for the L4, with sparsity)."""


def step_seconds(recipe: Recipe, profile: Profile, prompt_tokens: float) -> float:
    """Seconds of one optimiser step at the card's peak, for prompts of `prompt_tokens` on average.

    Raises `UserError` for a profile whose card is not in `CARDS`, or a recipe whose model has no known shape.
    """
    require_known("card for a time plan", profile.name, tuple(CARDS))
    return generation_seconds(recipe, profile, prompt_tokens) + training_seconds(recipe, profile, prompt_tokens)


def generation_seconds(recipe: Recipe, profile: Profile, prompt_tokens: float) -> float:
    """Bytes read for every token of the longest completion, over the bandwidth; what vLLM cannot hold at once waits.

    On average a sequence is its prompt and half of its completion long.
    """
    shape = memory.shape_of(recipe)
    weights = memory.weights_row(shape, profile).gib * memory.GIB
    _, at_once = memory.cache_row(recipe, shape, profile)
    turns = math.ceil(recipe.completions_per_step / at_once)
    sequences = recipe.completions_per_step * (prompt_tokens + recipe.max_completion_length / 2)
    read = turns * weights + sequences * shape.kv_bytes()
    return recipe.max_completion_length * read / CARDS[profile.name].bandwidth


def training_seconds(recipe: Recipe, profile: Profile, prompt_tokens: float) -> float:
    """`FORWARDS` x 2 operations per weight and token, over the card's operations; attention's own are left out."""
    tokens = recipe.completions_per_step * (prompt_tokens + recipe.max_completion_length)
    operations = 2 * FORWARDS * memory.shape_of(recipe).parameters() * tokens
    return operations / CARDS[profile.name].flops
