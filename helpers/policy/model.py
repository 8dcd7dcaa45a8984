"""Loading policies: from a folder or the hub, with or without a trained LoRA adapter.

Every loader here sets generation up the same way: nothing of a model card's own sampling advice survives (the hub
model's says temperature 0.1 and repetition penalty 1.2, which would end exploration).
"""

import ctypes
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.core.errors import UserError
from helpers.recipes import Recipe, memory
from helpers.recipes.profiles import Profile
from helpers.tasks.records import PAIRS_DIR

if TYPE_CHECKING:
    from peft import LoraConfig

Sampler = Callable[[list[list[int]], Any], list[list[int]]]
"""Answers a batch of tokenised prompts under `evaluation.Settings`: the new tokens of each, its end token included."""

LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""Every linear layer of a block: attention and feed-forward."""

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # malloc.h


@dataclass
class Policy:
    """A model that answers, with its tokenizer. `source` is the folder or hub name it was loaded from.

    `backend` is what it was loaded for; `sampler` answers in place of the model where the backend has a better way.
    """

    model: Any
    tokenizer: Any
    name: str
    source: str
    backend: str = "transformers"
    sampler: Sampler | None = None


def prepare(profile: Profile) -> None:
    """Give torch the profile's number of threads; our own progress line stands in for the libraries' many bars."""
    import datasets
    import torch
    import transformers

    torch.set_num_threads(profile.threads)
    if profile.device == "cpu":
        keep_freed_memory()
    datasets.disable_progress_bars()
    transformers.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()


def keep_freed_memory() -> None:
    """Let glibc keep the memory that a step frees for the next one, instead of giving it back to the system.

    Otherwise every large tensor is new memory whose pages must be made first. Elsewhere than on glibc nothing happens.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    allocator = ctypes.CDLL(None)
    for option, value in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 64 * 2**20)):
        allocator.mallopt(option, value)


def load(source: str, profile: Profile, name: str = "") -> Policy:
    """Load a causal language model and its tokenizer from a folder or the hub, on the profile's device and dtype.

    Raises `UserError` in one line where neither a folder nor a reachable hub has it.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from helpers.policy.cpu import attention

    try:
        tokenizer = AutoTokenizer.from_pretrained(source, padding_side="left")
        model: Any = AutoModelForCausalLM.from_pretrained(source, **model_arguments(profile))
    except (OSError, ValueError) as error:
        raise cannot_load(source, error) from error
    plain_generation(model, tokenizer)
    if profile.device == "cpu":
        attention.use(model)
    if not profile.load_in_4bit:  # 4-bit weights are on their device already, and cannot be moved
        model = model.to(profile.device)
    return Policy(model, tokenizer, name or Path(source).name, source)


def model_arguments(profile: Profile) -> dict[str, Any]:
    """What `from_pretrained` gets beside the name: the dtype, and 4-bit weights (NF4) where the profile says so."""
    import torch

    dtype = getattr(torch, profile.dtype)
    if not profile.load_in_4bit:
        return {"dtype": dtype}
    from transformers import BitsAndBytesConfig

    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    return {"dtype": dtype, "quantization_config": quantization, "device_map": {"": profile.device}}


def cannot_load(source: str, error: Exception) -> UserError:
    """The one line for a policy that neither a folder nor the hub gives."""
    reason = str(error).strip().splitlines()[0]
    return UserError(f"cannot load the policy {source!r}: {reason}; check the name and the network")


def plain_generation(model: Any, tokenizer: Any) -> None:
    """Replace a model's generation defaults by its token ids alone; how to sample is said at every call.

    All end tokens the model names are kept: Qwen3 chat models have two.
    """
    from transformers import GenerationConfig

    ends = model.generation_config.eos_token_id
    ends = [ends] if isinstance(ends, int) else list(ends or [])
    if tokenizer.eos_token_id not in ends:
        ends.append(tokenizer.eos_token_id)
    model.generation_config = GenerationConfig(
        eos_token_id=ends, pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id
    )


def lora_config(recipe: Recipe) -> "LoraConfig":
    """The recipe's LoRA on every linear layer (`LORA_TARGETS`)."""
    from peft import LoraConfig

    return LoraConfig(
        r=recipe.lora_r,
        lora_alpha=recipe.lora_alpha,
        lora_dropout=recipe.lora_dropout,
        target_modules=list(LORA_TARGETS),
        bias="none",
        task_type="CAUSAL_LM",
    )


def with_lora(policy: Policy, recipe: Recipe) -> Policy:
    """`policy` with the recipe's LoRA on it, as it is where it carries LoRA already (Unsloth's does)."""
    from peft import get_peft_model

    if has_lora(policy.model):
        return policy
    return replace(policy, model=get_peft_model(policy.model, lora_config(recipe)))


def has_lora(model: Any) -> bool:
    """Whether a LoRA adapter sits on the model: the trainer must then not put another on top."""
    return hasattr(model, "peft_config")


def restore_adapter(policy: Policy, folder: Path) -> None:
    """Put the adapter weights saved in `folder` into the LoRA that `policy` carries; `UserError` where they differ in
    name or shape."""
    from peft import load_peft_weights, set_peft_model_state_dict

    try:
        found: Any = set_peft_model_state_dict(policy.model, load_peft_weights(str(folder)))
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"{folder}: not an adapter of this policy ({str(error).strip().splitlines()[0]})") from error
    if found.unexpected_keys:
        raise UserError(f"{folder}: not an adapter of this policy (it has {found.unexpected_keys[0]})")


@contextmanager
def merged(model: Any) -> Iterator[None]:
    """Within the block, LoRA layers on 32-bit weights answer with one matrix instead of three; nothing else changes.

    A token then costs what it costs the base model. Half-precision weights are left alone: most of a small update would
    be rounded away. The base weights are put back bit by bit, where peft's own merge and unmerge leave rounding errors.
    """
    import torch
    from peft.tuners.lora import Linear

    found: list[Any] = [m for m in model.modules() if isinstance(m, Linear) and not m.disable_adapters]
    layers = [layer for layer in found if layer.get_base_layer().weight.dtype == torch.float32]
    kept = [layer.get_base_layer().weight.data for layer in layers]
    try:
        with torch.no_grad():
            for layer, weight in zip(layers, kept, strict=True):
                deltas = [layer.get_delta_weight(name) for name in layer.active_adapters]
                layer.get_base_layer().weight.data = weight + sum(deltas)
                layer.enable_adapters(False)
        yield
    finally:
        for layer, weight in zip(layers, kept, strict=True):
            layer.get_base_layer().weight.data = weight
            layer.enable_adapters(True)


def require_adapter(folder: Path) -> None:
    """`UserError` where `folder` holds no adapter."""
    if not (folder / "adapter_config.json").is_file():
        raise UserError(f"{folder}: no adapter_config.json there; a finished run has it in adapter/ and best/")


def load_adapter(base: Policy, folder: Path) -> Policy:
    """`base` with the LoRA adapter of `folder` on top, for generating. `UserError` where there is no adapter."""
    from peft import PeftModel

    require_adapter(folder)
    model = PeftModel.from_pretrained(base.model, folder)
    return Policy(model, base.tokenizer, f"{base.name}+{folder.parent.name}", str(folder))


def load_base(recipe: Recipe, profile: Profile, pairs: Path = PAIRS_DIR) -> Policy:
    """The policy a run starts from: the profile's embedded one (made from `pairs`), or the recipe's hub model."""
    from helpers.policy import embedded

    prepare(profile)
    stand_in = embedded.stand_in(recipe.model_id, profile)
    if stand_in is not None:
        return embedded.base_policy(profile, pairs, settings=stand_in)
    return load(recipe.model_id, profile)


def describe_base(recipe: Recipe, profile: Profile, pairs: Path = PAIRS_DIR) -> tuple[Any, int]:
    """Tokenizer and number of parameters of the policy that a run starts from, without holding a hub model's weights.

    Raises `UserError` where a hub model is not one whose shape we know, or its tokenizer cannot be loaded.
    """
    if profile.embedded is not None:
        policy = load_base(recipe, profile, pairs)
        return policy.tokenizer, policy.model.num_parameters()
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(recipe.model_id, padding_side="left")
    except (OSError, ValueError) as error:
        raise cannot_load(recipe.model_id, error) from error
    return tokenizer, memory.shape_of(recipe).parameters()
