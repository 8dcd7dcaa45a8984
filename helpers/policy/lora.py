"""LoRA adapters: put one on a policy, restore or load a trained one, merge it while the policy answers."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from helpers.core.errors import UserError
from helpers.policy.model import Policy
from helpers.recipes import Recipe

LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""Every linear layer of a block: attention and feed-forward."""
TRAINED = "this policy has been trained already: run the cells again from the one that loads it"
"""What a run says that would start from LoRA which has `moved`."""


def lora_arguments(recipe: Recipe) -> dict[str, Any]:
    """The recipe's LoRA on every linear layer (`LORA_TARGETS`), as peft and Unsloth both take it."""
    return {
        "r": recipe.lora_r,
        "lora_alpha": recipe.lora_alpha,
        "lora_dropout": recipe.lora_dropout,
        "target_modules": list(LORA_TARGETS),
        "bias": "none",
    }


def lora_config(recipe: Recipe) -> Any:
    """The recipe's LoRA as peft's `LoraConfig`."""
    from peft import LoraConfig

    return LoraConfig(**lora_arguments(recipe), task_type="CAUSAL_LM")


def with_lora(policy: Policy, recipe: Recipe) -> Policy:
    """`policy` with the recipe's LoRA on it; unchanged where it carries LoRA already, as Unsloth's does."""
    from peft import get_peft_model

    if has_lora(policy.model):
        return policy
    return replace(policy, model=get_peft_model(policy.model, lora_config(recipe)))


def has_lora(model: Any) -> bool:
    """Whether a LoRA adapter sits on the model: the trainer must then not put another on top."""
    return hasattr(model, "peft_config")


def moved(model: Any) -> bool:
    """Whether the LoRA on the model has been trained: its B matrices start at zero."""
    return any(bool(weight.detach().any()) for name, weight in model.named_parameters() if "lora_B" in name)


def restore_adapter(policy: Policy, folder: Path) -> None:
    """Put the adapter weights of `folder` into the LoRA that `policy` carries; `UserError` where they do not fit."""
    from peft import load_peft_weights, set_peft_model_state_dict

    try:
        result: Any = set_peft_model_state_dict(policy.model, load_peft_weights(str(folder)))
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"{folder}: not an adapter of this policy ({str(error).strip().splitlines()[0]})") from error
    if result.unexpected_keys:
        raise UserError(f"{folder}: not an adapter of this policy (it has {result.unexpected_keys[0]})")


@contextmanager
def merged(model: Any) -> Iterator[None]:
    """Within the block, LoRA layers on 32-bit weights answer with one matrix instead of three."""
    from peft.tuners.lora import Linear

    # Half-precision weights are left alone: rounding would swallow most of a small update.
    layers: list[Any] = [
        layer
        for layer in model.modules()
        if isinstance(layer, Linear)
        and not layer.disable_adapters
        and layer.get_base_layer().weight.dtype == torch.float32
    ]
    # The base weights are kept and put back bit by bit: peft's own merge and unmerge leave rounding errors behind.
    base_weights = [layer.get_base_layer().weight.data for layer in layers]
    try:
        with torch.no_grad():
            for layer, weight in zip(layers, base_weights, strict=True):
                deltas = [layer.get_delta_weight(name) for name in layer.active_adapters]
                layer.get_base_layer().weight.data = weight + sum(deltas)
                layer.enable_adapters(False)
        yield
    finally:
        for layer, weight in zip(layers, base_weights, strict=True):
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
