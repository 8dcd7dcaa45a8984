"""The memory plan: what a recipe takes on a GPU, computed before anything is loaded.

Generation and training are planned apart, because what vLLM holds while it generates can sleep while the policy trains.
Every number is an upper bound from the shapes: all sequences are as long as `max_seq_length` allows. Two allowances are
not formulas (`WORK_SPACE_GIB`, `context_row`).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import pandas as pd

from helpers.core.checks import GIB
from helpers.core.errors import UserError, require_known
from helpers.recipes import profiles
from helpers.recipes.profiles import Profile
from helpers.recipes.recipe import HUB_05B, HUB_05B_BASE, HUB_37B, Change, Recipe

GENERATION, TRAINING = "generation", "training"
PHASES = (GENERATION, TRAINING)

WORK_SPACE_GIB = 1.0
"""vLLM's own activations (its logs report peaks of 0.7 to 1.4 GiB for 0.5B to 7B) and CUDA graphs (about 0.15 GiB)."""

_DTYPE_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}


@dataclass(frozen=True)
class Shape:
    """The sizes of a Qwen3 model, from which the memory of its weights and its cache follows."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    ffn: int
    vocabulary: int
    tied: bool = True

    @property
    def attention(self) -> int:
        """Width of the queries, all heads together; Qwen3 does not tie it to `hidden`."""
        return self.heads * self.head_size

    @property
    def key_value(self) -> int:
        """Width of the keys, and of the values."""
        return self.kv_heads * self.head_size

    def projections(self) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of the seven linear layers of one block: what LoRA adapts and 4-bit quantises."""
        return {
            "q_proj": (self.hidden, self.attention),
            "k_proj": (self.hidden, self.key_value),
            "v_proj": (self.hidden, self.key_value),
            "o_proj": (self.attention, self.hidden),
            "gate_proj": (self.hidden, self.ffn),
            "up_proj": (self.hidden, self.ffn),
            "down_proj": (self.ffn, self.hidden),
        }

    def linear_parameters(self) -> int:
        """Weights of the linear layers of all blocks; Qwen3 has no biases."""
        return self.layers * sum(inputs * outputs for inputs, outputs in self.projections().values())

    def parameters(self) -> int:
        """All weights: linear layers, RMS norms (per block two over `hidden` and two over a head; one at the end), the
        embedding, and an output head where it is not tied to the embedding.
        """
        norms = self.layers * (2 * self.hidden + 2 * self.head_size) + self.hidden
        return self.linear_parameters() + norms + self.vocabulary * self.hidden * (1 if self.tied else 2)

    def kv_bytes(self) -> int:
        """Bytes that one token takes in the KV cache: a key and a value of 16 bits in every layer."""
        return 2 * self.layers * self.key_value * 2


_05B = Shape(layers=28, hidden=1024, heads=16, kv_heads=8, head_size=128, ffn=3072, vocabulary=49152)
_37B = Shape(layers=36, hidden=2560, heads=32, kv_heads=8, head_size=128, ffn=9728, vocabulary=49152)

SHAPES: dict[str, Shape] = {HUB_05B: _05B, HUB_05B_BASE: _05B, HUB_37B: _37B}
"""By hub id; the sizes are those of the models' published configurations."""


@dataclass(frozen=True)
class Row:
    """One consumer of memory: GiB, the formula with its numbers, and the phases in which it is there."""

    consumer: str
    gib: float
    formula: str
    phases: tuple[str, ...] = PHASES


@dataclass(frozen=True)
class MemoryPlan:
    """What a model takes on a profile, in GiB; `at_once` completions of full length are generated side by side."""

    model: str
    profile: str
    available: float
    rows: tuple[Row, ...]
    at_once: int

    def total(self, phase: str) -> float:
        """GiB of everything held in `phase`."""
        return sum(row.gib for row in self.rows if phase in row.phases)

    @property
    def peak_phase(self) -> str:
        """The phase that needs more."""
        return max(PHASES, key=self.total)

    @property
    def peak(self) -> float:
        """GiB of the larger phase."""
        return self.total(self.peak_phase)

    @property
    def headroom(self) -> float:
        """GiB left at the peak; negative where it does not fit."""
        return self.available - self.peak

    @property
    def fits(self) -> bool:
        """Whether both phases fit and the KV cache holds one sequence of full length, without which vLLM refuses."""
        return self.headroom >= 0 and self.at_once >= 1


def shape_of(recipe: Recipe) -> Shape:
    """The shape of the recipe's hub model; `UserError` for an unknown one."""
    require_known("model for a memory plan", recipe.model_id, tuple(SHAPES))
    return SHAPES[recipe.model_id]


def shape_of_config(config: Any) -> Shape:
    """The shape that a Qwen3 model's transformers configuration describes."""
    return Shape(
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_size=config.head_dim,
        ffn=config.intermediate_size,
        vocabulary=config.vocab_size,
        tied=config.tie_word_embeddings,
    )


def plan(recipe: Recipe, shape: Shape, profile: Profile) -> MemoryPlan:
    """The memory plan of `recipe` on a GPU profile. `UserError` for a profile without a GPU."""
    if not profile.memory_gib:
        cards = ", ".join(card.name for card in profiles.gpu_profiles())
        raise UserError(f"profile {profile.name} has no GPU memory to plan; give one of {cards}")
    cache, at_once = cache_row(recipe, shape, profile)
    rows = (
        weights_row(shape, profile),
        *vllm_rows(shape, profile),
        cache,
        lora_row(recipe, shape),
        activations_row(recipe, shape, profile),
        working_row(recipe, shape, profile),
        context_row(profile),
    )
    return MemoryPlan(recipe.model_id.rpartition("/")[2], profile.name, profile.memory_gib, rows, at_once)


def weights_row(shape: Shape, profile: Profile) -> Row:
    """The policy's weights. 4-bit quantisation leaves the embedding and the norms as they are."""
    shared = ", one copy for training and vLLM" if profile.backend == "unsloth" else ""
    wide = _DTYPE_BYTES[profile.dtype]
    total = shape.parameters()
    if not profile.load_in_4bit:
        return Row("Weights", total * wide / GIB, f"{total:,} x {wide} bytes{shared}")
    small, rest = shape.linear_parameters(), total - shape.linear_parameters()
    formula = f"{small:,} x {NF4_BYTES:.3f} bytes + {rest:,} unquantised x {wide} bytes{shared}"
    return Row("Weights", (small * NF4_BYTES + rest * wide) / GIB, formula)


NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Bytes per weight in 4-bit NormalFloat with double quantisation: half a byte, an 8-bit constant per 64 weights, a
32-bit one per 256 of those: 4.127 bits (QLoRA, arXiv 2305.14314, section 3)."""


def vllm_rows(shape: Shape, profile: Profile) -> Iterator[Row]:
    """What vLLM takes beside its cache: work space, and its own 16-bit weights unless Unsloth lends it the policy's."""
    if not uses_vllm(profile):
        return
    if profile.backend != "unsloth":
        total = shape.parameters()
        yield Row("vLLM's copy of the weights", total * 2 / GIB, f"{total:,} x 2 bytes", _awake(profile))
    yield Row("vLLM's work space", WORK_SPACE_GIB, "an allowance for activations and CUDA graphs", (GENERATION,))


def cache_row(recipe: Recipe, shape: Shape, profile: Profile) -> tuple[Row, int]:
    """The KV cache, and how many of a step's completions it holds at once at full length.

    vLLM reserves what its share of the card leaves beside weights and work space, needed or not, and queues what does
    not fit. Without vLLM all completions of a step grow side by side.
    """
    sequence = recipe.max_seq_length * shape.kv_bytes()
    wanted = recipe.completions_per_step
    each = f"{recipe.max_seq_length:,} tokens x {shape.kv_bytes():,} bytes"
    if not uses_vllm(profile):
        return Row("KV cache", wanted * sequence / GIB, f"{wanted} completions x {each}", (GENERATION,)), wanted
    weights = weights_row(shape, profile).gib if profile.backend == "unsloth" else shape.parameters() * 2 / GIB
    share = profile.vllm_memory_share
    pool = max(0.0, share * profile.memory_gib - weights - WORK_SPACE_GIB)
    at_once = min(wanted, int(pool * GIB // sequence))
    formula = (
        f"{share:g} x {profile.memory_gib:g} GiB - {weights:.2f} weights - {WORK_SPACE_GIB:g} work space; "
        f"holds {at_once} of {wanted} completions x {each}"
    )
    return Row("KV cache", pool, formula, _awake(profile)), at_once


def lora_parameters(shape: Shape, r: int) -> int:
    """Weights of a rank-`r` LoRA on the seven linear layers of every block: r x (inputs + outputs) each."""
    return shape.layers * r * sum(inputs + outputs for inputs, outputs in shape.projections().values())


def lora_row(recipe: Recipe, shape: Shape) -> Row:
    """The adapter in 32 bits (peft and Unsloth both keep it so), its gradient, and AdamW's two moments."""
    count = lora_parameters(shape, recipe.lora_r)
    formula = f"{count:,} x (4 weight + 4 gradient + 8 AdamW) bytes"
    return Row("LoRA, gradients, optimiser", count * 16 / GIB, formula)


def kept_bytes(shape: Shape, length: int) -> int:
    """Bytes per token that one block's forward pass keeps for its backward pass in 16-bit compute.

    18 x hidden (32-bit inputs of two norms, 16-bit inputs of five LoRAs), 14 x attention (32-bit input of the query
    norm; query, result, keys and values repeated for every head; input of a LoRA), 4 x key_value (input of the key
    norm), 8 x ffn (gate, its activation, up, input of a LoRA), 2 x length (the mask). Derived from transformers' Qwen3
    and peft; `tests/test_memory.py` counts the live tensors of a real block beside it.
    """
    return 18 * shape.hidden + 14 * shape.attention + 4 * shape.key_value + 8 * shape.ffn + 2 * length


def activations_row(recipe: Recipe, shape: Shape, profile: Profile) -> Row:
    """What the forward pass of a micro-batch keeps for the backward pass.

    With gradient checkpointing that is the 16-bit input of every block, which Unsloth puts in the computer's own
    memory; without, everything in every block.
    """
    if not profile.gradient_checkpointing:
        each, how = kept_bytes(shape, recipe.max_seq_length), "in every block"
    elif profile.backend == "unsloth":
        each, how = 0, "inputs of the blocks, in the computer's memory"
    else:
        each, how = 2 * shape.hidden, "input of every block"
    batch, length = profile.micro_batch, recipe.max_seq_length
    formula = f"{batch} x {length:,} tokens x {shape.layers} layers x {each:,} bytes: {how}"
    return Row("Activations kept", batch * length * shape.layers * each / GIB, formula, (TRAINING,))


def working_row(recipe: Recipe, shape: Shape, profile: Profile) -> Row:
    """The backward pass at work: first the logits, then one block after the other in the room that they leave.

    Logits cover the whole vocabulary at every completion token. TRL holds them in 32 bits, with three tensors of that
    size in their backward pass. Unsloth takes them in pieces of a quarter of a sequence: its own estimate is 16 / 4
    bytes (`unsloth_zoo.rl_replacements.autotune_batch_and_chunks`). A block needs 8 x ffn bytes per token for
    gradients, and what checkpointing computes again.
    """
    batch = profile.micro_batch
    score_bytes = 4 if profile.backend == "unsloth" else 16
    logits = batch * recipe.max_completion_length * shape.vocabulary * score_bytes / GIB
    block_bytes = 8 * shape.ffn
    if profile.gradient_checkpointing:
        block_bytes += kept_bytes(shape, recipe.max_seq_length)
    block = batch * recipe.max_seq_length * block_bytes / GIB
    formula = (
        f"the larger of logits {batch} x {recipe.max_completion_length:,} tokens x {shape.vocabulary:,} x "
        f"{score_bytes} bytes ({logits:.2f}) and a block {batch} x {recipe.max_seq_length:,} tokens x "
        f"{block_bytes:,} bytes ({block:.2f})"
    )
    return Row("Logits, then a block", max(logits, block), formula, (TRAINING,))


def context_row(profile: Profile) -> Row:
    """An allowance, not a formula: 0.7 GiB for the CUDA context and libraries (discuss.pytorch.org/t/73021), and 5 % of
    the card for memory lost between tensors."""
    total = profile.memory_gib
    return Row("CUDA and fragmentation", 0.7 + 0.05 * total, f"an allowance: 0.7 GiB + 5 % of {total:g} GiB")


def uses_vllm(profile: Profile, backend: str = "") -> bool:
    """Whether vLLM generates in the training process of `backend` (default: the profile's), where it is installed."""
    return (backend or profile.backend) != "transformers" and profile.vllm_memory_share > 0


def adapt(recipe: Recipe, shape: Shape, profile: Profile) -> tuple[Profile, list[Change]]:
    """The profile, changed as little as possible to make `recipe` fit, and the changes with their reasons.

    Tried from the cheapest to the dearest: a smaller micro-batch (same gradient, slower), vLLM's cache asleep while
    training, a smaller share for vLLM (fewer completions at once), then 4-bit weights, the only change to what is
    computed. Raises `UserError` where nothing fits.
    """
    tried = []
    for candidate in _candidates(recipe, profile):
        tried.append(plan(recipe, shape, candidate))
        if tried[-1].fits:
            changes = [
                Change(field, getattr(profile, field), getattr(candidate, field), why)
                for field, why in _WHY.items()
                if getattr(profile, field) != getattr(candidate, field)
            ]
            return candidate, changes
    raise UserError(_refusal(recipe, shape, min(tried, key=lambda plan: plan.peak)))


_WHY = {
    "micro_batch": "logits and activations of fewer completions at a time; the gradient is the same",
    "sleep_mode": "vLLM gives its KV cache back while the policy trains; a moment lost at every step",
    "vllm_memory_share": "a smaller KV cache; fewer completions are generated at once",
    "load_in_4bit": "linear layers in 4 bits, which rounds what the policy computes; vLLM needs vllm-bnb-plugin for it",
}


def _candidates(recipe: Recipe, profile: Profile) -> Iterator[Profile]:
    """The profile itself, then every combination of what may change, the cheapest change varying fastest."""
    sizes = [profile.micro_batch >> halvings for halvings in range(profile.micro_batch.bit_length())]
    options: dict[str, tuple[Any, ...]] = {
        "load_in_4bit": (profile.load_in_4bit, profile.backend != "vllm"),
        "vllm_memory_share": tuple(round(profile.vllm_memory_share * part, 3) for part in (1, 0.75, 0.5)),
        "sleep_mode": (profile.sleep_mode, profile.sleep_mode or uses_vllm(profile)),
        "micro_batch": tuple(size for size in sizes if recipe.completions_per_step % size == 0),
    }
    for values in product(*(dict.fromkeys(choices) for choices in options.values())):
        yield replace(profile, **dict(zip(options, values, strict=True)))


def _refusal(recipe: Recipe, shape: Shape, least: MemoryPlan) -> str:
    """One line about the plan that comes nearest: what is needed, what there is, and what to do."""
    larger = next((card.name for card in profiles.gpu_profiles() if plan(recipe, shape, card).fits), None)
    remedy = f"use a GPU of profile {larger}" if larger else "shorten the recipe's max_seq_length"
    need = f"{least.peak_phase} needs {least.peak:.1f} GiB"
    if least.headroom >= 0:
        need = "vLLM's share has no room for one sequence of full length"
    return (
        f"{least.model} does not fit on {least.profile}: with every saving {need}, of {least.available:g} GiB; {remedy}"
    )


def table(*plans: MemoryPlan) -> pd.DataFrame:
    """GiB by consumer and phase, plans side by side, with total, available and headroom below."""
    columns = {
        (plan.model, phase): {row.consumer: row.gib for row in plan.rows if phase in row.phases}
        | {"Total": plan.total(phase), "Available": plan.available, "Headroom": plan.available - plan.total(phase)}
        for plan in plans
        for phase in PHASES
    }
    consumers = dict.fromkeys(row.consumer for plan in plans for row in plan.rows)
    return pd.DataFrame(columns, index=[*consumers, "Total", "Available", "Headroom"]).round(2)


def formulas(plan: MemoryPlan) -> pd.DataFrame:
    """Each consumer's formula with its numbers put in, beside the GiB and the phases."""
    rows = [(row.consumer, round(row.gib, 2), " and ".join(row.phases), row.formula) for row in plan.rows]
    return pd.DataFrame(rows, columns=["Consumer", "GiB", "While", "Formula"]).set_index("Consumer")


def _awake(profile: Profile) -> tuple[str, ...]:
    """The phases in which vLLM holds what sleeping frees."""
    return (GENERATION,) if profile.sleep_mode else PHASES
