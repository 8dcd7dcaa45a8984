"""Backends: what computes a training step and what generates its completions.

    unsloth        Unsloth's LoRA kernels; vLLM on the same weights where it is installed, else Unsloth's own decoder
    vllm           TRL and peft, with a vLLM engine in the same process
    transformers   TRL and peft, generating with transformers; runs everywhere, the CPU included

Unsloth rewrites trl, transformers and peft while it is imported and reads its environment then. The order is therefore
environment, unsloth, trl and transformers: `begin` keeps to it, or says why it is too late. Line numbers below refer to
unsloth and unsloth_zoo 2026.10.9, vllm 0.30.0 and trl 1.14.2; `tests/test_signatures.py` checks the names against them.
"""

import functools
import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from helpers.core import gpus, processes
from helpers.core.errors import UserError, require_known
from helpers.core.files import PROJECT_ROOT
from helpers.policy import generation
from helpers.policy.loading import load_base
from helpers.policy.lora import lora_arguments
from helpers.policy.model import Policy, Sampler, cannot_load, load, plain_generation, prepare
from helpers.recipes import Recipe, memory
from helpers.recipes.profiles import Profile

BACKENDS = ("unsloth", "vllm", "transformers")
"""Each falls back on those after it."""

SERVER = "HELPERS_VLLM_SERVER"
"""Names the environment variable with the address of a vLLM server (`trl vllm-serve`), which then generates for the
backend `vllm` on GPUs of its own."""

_PACKAGES = {"unsloth": ("unsloth", "unsloth_zoo"), "vllm": ("vllm",), "transformers": ()}
_PATCHED_BY_UNSLOTH = ("trl", "transformers", "peft")
"""What must not be imported before unsloth (`critical_modules`, unsloth/_gpu_init.py:20)."""


def missing(name: str) -> str | None:
    """Why the backend `name` cannot be used on this machine, in one line; None where it can.

    >>> missing("transformers") is None
    True
    """
    require_known("backend", name, BACKENDS)
    absent = not_installed(name)
    if absent or name == "transformers":
        return absent
    cards, why_none = gpus.find()
    return None if cards else why_none


def not_installed(name: str) -> str | None:
    """Which packages the backend `name` lacks, in one line; None where all are there."""
    absent = [package for package in _PACKAGES[name] if find_spec(package) is None]
    return f"{' and '.join(absent)} not installed" if absent else None


def choose(profile: Profile) -> tuple[str, str]:
    """The profile's backend, or the first usable one after it; and a line that says which, and why not the others."""
    require_known("backend", profile.backend, BACKENDS)
    passed_over = []
    for name in BACKENDS[BACKENDS.index(profile.backend) :]:
        reason = _unfit(name, profile) or missing(name)
        if reason is None:
            break
        passed_over.append(f"not {name}: {reason}")
    decoder = "Unsloth's decoder (no vLLM)" if name == "unsloth" else "transformers"
    decoder = "vLLM" if with_vllm(profile, name) else decoder
    return name, "; ".join([f"backend {name}, generating with {decoder}", *passed_over])


def require(name: str) -> None:
    """`UserError` where the backend `name` cannot be used here."""
    reason = missing(name)
    if reason is not None:
        raise UserError(f"backend {name} cannot be used here: {reason}; --backend auto takes what is there")


def with_vllm(profile: Profile, backend: str) -> bool:
    """Whether `backend` generates with vLLM here: as `memory.uses_vllm` plans, if Unsloth finds vLLM installed."""
    return memory.uses_vllm(profile, backend) and (backend == "vllm" or find_spec("vllm") is not None)


def environment(profile: Profile, backend: str) -> dict[str, str]:
    """What must stand in the environment before `backend` is imported."""
    if backend != "unsloth":
        return {}
    # STANDBY is Unsloth's sleep mode (unsloth_zoo/__init__.py:319, vllm_utils.py:4038), which replaces our memory share
    # by a table of its own unless UTIL_OVERRIDE is set (vllm_utils.py:4055). COMPILE_LOCATION (compiler.py:85) defaults
    # to a folder in the working directory, stale after an update. Without DISABLE_STATISTICS each load asks the hub for
    # counters (unsloth/models/_utils.py:4427).
    return {
        "UNSLOTH_VLLM_STANDBY": str(int(profile.sleep_mode and with_vllm(profile, backend))),
        "UNSLOTH_VLLM_STANDBY_UTIL_OVERRIDE": "1",
        "UNSLOTH_COMPILE_LOCATION": str(PROJECT_ROOT / "runs" / "unsloth_compiled_cache"),
        "UNSLOTH_DISABLE_STATISTICS": "1",
    }


def set_environment(profile: Profile, backend: str) -> dict[str, str]:
    """Set `environment` and return it. `UserError` where a module that reads it or must follow it is imported."""
    imported = "unsloth" in sys.modules
    if backend != "unsloth":
        if imported:
            raise UserError(f"unsloth has rewritten trl in this process: restart the kernel to train with {backend}")
        return {}
    wanted = environment(profile, backend)
    changed = [name for name, value in wanted.items() if os.environ.get(name) != value]
    early = [name for name in _PATCHED_BY_UNSLOTH if name in sys.modules]
    if imported and changed:
        raise UserError(f"unsloth was imported with another {', '.join(changed)}: restart the kernel and train first")
    if early and not imported:
        raise UserError(
            f"{', '.join(early)} imported before unsloth: restart the kernel and train before anything loads a policy, "
            "or run `python -m helpers train`"
        )
    os.environ.update(wanted)
    return wanted


def begin(profile: Profile, backend: str) -> None:
    """Prepare this process for `backend`: its environment first, then unsloth if it is the backend, then the rest."""
    set_environment(profile, backend)
    if backend == "unsloth":
        importlib.import_module("unsloth")
    prepare(profile)


def load_policy(recipe: Recipe, profile: Profile, backend: str, seed: int = 0, source: str = "") -> Policy:
    """The policy that a training starts from, loaded for `backend`; `source` is a folder or hub name if not the base.

    Unsloth's carries a fresh LoRA, drawn with `seed`: its kernels are put in place with it.
    """
    begin(profile, backend)
    if backend == "unsloth":
        if profile.embedded is not None:
            source = source or load_base(recipe, profile).source
        return _load_with_unsloth(recipe, profile, seed, source)
    # TRL merges LoRA into the base to hand it to vLLM. In half precision that would round most of a small update away,
    # from the engine's copy and, with every hand-over, from the base itself.
    weights = replace(profile, dtype="float32") if backend == "vllm" else profile
    policy = load(source, weights) if source else load_base(recipe, weights)
    return replace(policy, backend=backend)


def adopt(model: Any, tokenizer: Any, source: str, profile: Profile, backend: str, name: str = "") -> Policy:
    """The policy of a model that was loaded from `source` and carries LoRA: its card's sampling advice is dropped, and
    it answers evaluations as its backend does best."""
    from transformers import GenerationConfig

    from helpers.policy.cpu import attention

    base = model.get_base_model()
    tokenizer.padding_side = "left"
    policy = Policy(model, tokenizer, name or Path(source).name, source, backend)
    if backend != "unsloth":
        plain_generation(base, tokenizer)
        if profile.device == "cpu":
            base.set_attn_implementation(attention.NAME)
        return policy
    with suppress(OSError):  # a model rebuilt from vLLM's weights lacks the generation config that may name end tokens
        base.generation_config = GenerationConfig.from_pretrained(source)
    plain_generation(base, tokenizer)
    # Without vLLM the answers come from one call of `generate` instead of rounds: Unsloth's decoder keeps keys and
    # values in buffers of its own and cannot go on with a given cache.
    ask = _ask_unsloth if with_vllm(profile, backend) else generation.generate_at_once
    return replace(policy, sampler=functools.partial(ask, policy))


def unsloth_model_arguments(recipe: Recipe, profile: Profile, seed: int = 0, source: str = "") -> dict[str, Any]:
    """What `FastLanguageModel.from_pretrained` gets (unsloth/models/loader.py:1122).

    Without vLLM nothing of vLLM's is named: Unsloth's loader for CPUs hands on to transformers what it does not know.
    """
    engine = {
        "gpu_memory_utilization": profile.vllm_memory_share,
        "float8_kv_cache": False,
        "max_lora_rank": recipe.lora_r,
        "disable_log_stats": True,
    }
    fast = with_vllm(profile, "unsloth")
    return (engine if fast else {}) | {
        "model_name": source or recipe.model_id,
        "max_seq_length": recipe.max_seq_length,
        "dtype": profile.dtype,
        "load_in_4bit": profile.load_in_4bit,
        "use_exact_model_name": True,  # or Unsloth loads its own quantised mirror of some models
        "use_gradient_checkpointing": _checkpointing(profile),
        "fast_inference": fast,
        "random_state": seed,
    }


def unsloth_lora_arguments(recipe: Recipe, profile: Profile, seed: int = 0) -> dict[str, Any]:
    """What `FastLanguageModel.get_peft_model` gets (unsloth/models/llama.py:4238): the recipe's LoRA, as peft's."""
    return lora_arguments(recipe) | {
        "use_rslora": False,
        "use_gradient_checkpointing": _checkpointing(profile),
        "random_state": seed,
    }


def device_arguments(profile: Profile) -> dict[str, Any]:
    """What every trainer is told of `profile`'s device: where and in which precision it computes."""
    on_gpu = profile.device == "cuda"
    return {
        "bf16": on_gpu and profile.dtype == "bfloat16",
        "fp16": on_gpu and profile.dtype == "float16",
        "use_cpu": not on_gpu,
        "dataloader_pin_memory": on_gpu,
        "gradient_checkpointing": profile.gradient_checkpointing,
    }


def trainer_arguments(recipe: Recipe, profile: Profile, backend: str) -> dict[str, Any]:
    """The part of TRL's `GRPOConfig` that hardware and backend decide, with the defaults that Unsloth changes."""
    shared = device_arguments(profile) | {
        "optim": "adamw_torch",
        "auto_find_batch_size": False,
        "logging_nan_inf_filter": False,
        "torch_empty_cache_steps": None,
        "use_bias_correction_kl": False,
        # vLLM's probabilities differ slightly from the trainer's: each token is weighted by the capped ratio of the
        # two. TRL's default drops whole completions by the product over their tokens, which strikes long ones most;
        # Unsloth's default is no correction.
        "vllm_importance_sampling_correction": True,
        "vllm_importance_sampling_mode": "token_truncate",
        "vllm_importance_sampling_clip_max": 3.0,
    }
    if not with_vllm(profile, backend):
        return shared | {"use_vllm": False, "top_k": recipe.top_k}
    top_k = recipe.top_k or -1  # -1 is vLLM's "all tokens"; Unsloth would replace a 0 by it
    if server := os.environ.get(SERVER):
        return shared | {"use_vllm": True, "vllm_mode": "server", "vllm_server_base_url": server, "top_k": top_k}
    return shared | {
        "use_vllm": True,
        "vllm_mode": "colocate",
        "vllm_gpu_memory_utilization": profile.vllm_memory_share,
        "vllm_enable_sleep_mode": profile.sleep_mode,
        "vllm_max_model_length": recipe.max_seq_length,
        "vllm_tensor_parallel_size": 1,
        "top_k": top_k,
    }


@contextmanager
def engine_in_32_bits(backend: str, seed: int = 0) -> Iterator[None]:
    """Within the block, TRL makes its vLLM engine in 32 bits, like the weights it will be handed, and seeds it for this
    run: TRL's own seed is the number of the process, the same in every run."""
    if backend != "vllm":
        yield
        return
    from trl.generation import vllm_generation

    # TRL names no dtype, and vLLM then picks half precision for a 32-bit model (`_resolve_auto_dtype`).
    engine = vllm_generation.LLM

    def make(**arguments: Any) -> Any:
        """TRL's engine, but for its precision and its seed."""
        return engine(**arguments | {"dtype": "float32", "seed": seed + arguments.get("seed", 0)})

    vllm_generation.LLM = make
    try:
        yield
    finally:
        vllm_generation.LLM = engine


def sampler(trainer: Any, policy: Policy) -> Sampler | None:
    """What answers an evaluation once `trainer` holds `policy`: TRL's engine on `vllm`, else the policy's sampler."""
    if policy.backend != "vllm":
        return policy.sampler
    return functools.partial(_ask_server if asks_server(trainer) else _ask_engine, trainer)


def asks_server(trainer: Any) -> bool:
    """Whether one vLLM server generates for all processes of `trainer`."""
    engine = getattr(trainer, "vllm_generation", None)
    return engine is not None and engine.mode == "server"


def _ask_server(trainer: Any, token_ids: list[list[int]], settings: generation.Settings) -> list[list[int]]:
    """Answer through the vLLM server, to which TRL connects the first process alone."""
    _hand_over(trainer)
    temperature = 0.0 if settings.mode == "greedy" else settings.temperature
    client = trainer.vllm_generation.vllm_client
    answers = client.generate(token_ids, temperature=temperature, top_k=-1, max_tokens=settings.limit)
    return list(answers["completion_ids"])


def _hand_over(trainer: Any) -> None:
    """Bring the weights to vLLM, at most once per step, as TRL does; it remembers for which step it did."""
    if trainer.state.global_step != trainer._last_loaded_step:
        trainer.vllm_generation.sync_weights()
        trainer._last_loaded_step = trainer.state.global_step


def _ask_engine(trainer: Any, token_ids: list[list[int]], settings: generation.Settings) -> list[list[int]]:
    """Answer through TRL's vLLM generation under an evaluation's settings."""
    engine = trainer.vllm_generation
    _hand_over(trainer)
    temperature = 0.0 if settings.mode == "greedy" else settings.temperature
    ours = {"max_completion_length": settings.limit, "temperature": temperature}
    theirs = {name: getattr(engine, name) for name in ours}
    vars(engine).update(ours)
    try:
        _, completions, _, _ = engine.generate(prompts=token_ids, images=None, num_generations=1)
    finally:
        vars(engine).update(theirs)
    return [list(completion) for completion in completions]


def _ask_unsloth(policy: Policy, token_ids: list[list[int]], settings: generation.Settings) -> list[list[int]]:
    """Answer through Unsloth's vLLM engine with the policy's LoRA as it is now."""
    from vllm import SamplingParams

    engine = policy.model.vllm_engine
    temperature = 0.0 if settings.mode == "greedy" else settings.temperature
    sampling = SamplingParams(temperature=temperature, max_tokens=settings.limit)
    asleep = engine.llm_engine.is_sleeping()  # in standby it sleeps between rollouts, and must sleep again afterwards
    if asleep:
        engine.wake_up()
    try:
        lora = policy.model.load_lora("evaluation_lora", load_tensors=True)
        prompts = [{"prompt_token_ids": ids} for ids in token_ids]
        answers = engine.generate(prompts, sampling_params=sampling, lora_request=lora, use_tqdm=False)
    finally:
        if asleep:
            engine.sleep(level=2)
    return [list(answer.outputs[0].token_ids) for answer in answers]


def _load_with_unsloth(recipe: Recipe, profile: Profile, seed: int, source: str) -> Policy:
    from unsloth import FastLanguageModel

    arguments = unsloth_model_arguments(recipe, profile, seed, source)
    name = arguments["model_name"]
    try:
        model, tokenizer = FastLanguageModel.from_pretrained(**arguments)
    except OSError as error:
        raise cannot_load(name, error) from error
    model = FastLanguageModel.get_peft_model(model, **unsloth_lora_arguments(recipe, profile, seed))
    return adopt(model, tokenizer, name, profile, "unsloth")


def _unfit(name: str, profile: Profile) -> str | None:
    """Why `profile` rules a backend out, whatever is installed; None where it does not."""
    if name == "transformers":
        return None
    if profile.device != "cuda":
        return f"profile {profile.name} computes on the {profile.device}"
    if profile.embedded is not None:
        return "the embedded policy is too small for it"
    if name == "unsloth" and os.environ.get(SERVER):
        return f"it cannot generate with the vLLM server that {SERVER} names"
    if name == "unsloth" and processes.count() > 1:
        return "it has not been tried with several processes"
    if name == "vllm" and not profile.vllm_memory_share:
        return f"profile {profile.name} gives vLLM no memory"
    if name == "vllm" and profile.load_in_4bit:
        return "it would merge LoRA into 4-bit weights"
    return None


def _checkpointing(profile: Profile) -> str | bool:
    return "unsloth" if profile.gradient_checkpointing else False
