"""A policy: a causal language model that answers, loaded from a folder or the hub.

Nothing of a model card's own sampling advice survives loading: the hub model's says temperature 0.1 and repetition
penalty 1.2, which would end exploration.
"""

import ctypes
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from helpers.core import processes
from helpers.core.errors import UserError
from helpers.recipes.profiles import Profile

Sampler = Callable[[list[list[int]], Any], list[list[int]]]
"""Answers a batch of tokenised prompts under `generation.Settings`: each prompt's new tokens, end token included."""

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # malloc.h


@dataclass
class Policy:
    """A model with its tokenizer. `source` is the folder or hub name it was loaded from, `backend` what it is for.

    `sampler` answers in place of the model where the backend has a better way; `by_first` says that of several
    processes only the first one can ask it.
    """

    model: Any
    tokenizer: Any
    name: str
    source: str
    backend: str = "transformers"
    sampler: Sampler | None = None
    by_first: bool = False


def prepare(profile: Profile) -> None:
    """Give torch the profile's threads and silence the libraries' progress bars: our own line replaces them."""
    import datasets
    import transformers

    torch.set_num_threads(profile.threads)
    if profile.device == "cuda" and processes.count() > 1:
        torch.cuda.set_device(processes.local_rank())  # or all of them load the policy onto the first GPU
    if profile.device == "cpu":
        _keep_freed_memory()
    datasets.disable_progress_bars()
    transformers.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()


def _keep_freed_memory() -> None:
    """Let glibc reuse the memory that a step frees; by default every large tensor is fresh pages from the system."""
    if platform.libc_ver()[0] != "glibc":
        return
    allocator = ctypes.CDLL(None)
    for option, value in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 64 * 2**20)):
        allocator.mallopt(option, value)


def load(source: str, profile: Profile, name: str = "") -> Policy:
    """Load model and tokenizer from a folder or the hub, else `UserError`, on the profile's device in its dtype."""
    from transformers import AutoModelForCausalLM

    from helpers.policy.cpu import attention

    tokenizer = load_tokenizer(source)
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(source, **_model_arguments(profile))
    except (OSError, ValueError) as error:
        raise cannot_load(source, error) from error
    plain_generation(model, tokenizer)
    if profile.device == "cpu":
        model.set_attn_implementation(attention.NAME)
    if not profile.load_in_4bit:  # 4-bit weights are on their device already and cannot be moved
        model = model.to(profile.device)
    return Policy(model, tokenizer, name or Path(source).name, source)


def load_tokenizer(source: str) -> Any:
    """The tokenizer of a folder or hub model, padding on the left; `UserError` where there is none."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(source, padding_side="left")
    except (OSError, ValueError) as error:
        raise cannot_load(source, error) from error


def _model_arguments(profile: Profile) -> dict[str, Any]:
    """What `from_pretrained` gets besides the name: the dtype, and 4-bit weights (NF4) where the profile wants them."""
    from transformers import BitsAndBytesConfig

    dtype = getattr(torch, profile.dtype)
    if not profile.load_in_4bit:
        return {"dtype": dtype}
    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    return {"dtype": dtype, "quantization_config": quantization, "device_map": {"": profile.device}}


def cannot_load(source: str, error: Exception) -> UserError:
    """The error for a policy that neither a folder nor the hub has."""
    reason = str(error).strip().splitlines()[0]
    return UserError(f"cannot load the policy {source!r}: {reason}; check the name and the network")


def plain_generation(model: Any, tokenizer: Any) -> None:
    """Reduce a model's generation defaults to its token ids; every call says how to sample.

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
