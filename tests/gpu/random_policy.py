"""A policy of exactly a hub model's size, without the hub: random weights, and a tokenizer trained on our pairs.

What a step costs depends on sizes alone. Random weights hardly ever write the end token: every completion runs to its
limit, the most that a step can cost.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.core.files import write_json
from helpers.policy import embedded
from helpers.recipes import profiles
from helpers.recipes.memory import Shape
from helpers.recipes.profiles import EmbeddedSettings
from helpers.tasks.records import load_split

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

FACTS = "random_policy.json"


def facts(folder: Path) -> dict[str, Any]:
    """Of the policy in `folder`: parameters, vocabulary, and how much of that was learned from our texts."""
    return json.loads((folder / FACTS).read_text(encoding="utf-8"))


def make(folder: Path, shape: Shape, device: str, dtype: str) -> None:
    """Write the policy of `shape` to `folder`; nothing where it is there already."""
    if (folder / FACTS).is_file():
        return
    import torch
    from transformers import set_seed

    set_seed(0)
    tokenizer, learned = padded_tokenizer(shape.vocabulary)
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        with torch.device(device):
            model = embedded.new_model(settings_of(shape), tokenizer)
    finally:
        torch.set_default_dtype(before)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    sizes = {"parameters": model.num_parameters(), "vocabulary": len(tokenizer), "learned_tokens": learned}
    write_json(folder / FACTS, sizes)


def padded_tokenizer(size: int) -> tuple["PreTrainedTokenizerFast", int]:
    """A tokenizer of `size` tokens, and how many of them our texts have taught it.

    The others are reserved: no text is encoded with them, but a policy may write them.
    """
    from tokenizers import Tokenizer

    tokenizer = embedded.train_tokenizer(embedded.all_texts(load_split("train")), size)
    learned = len(tokenizer)
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state["model"]["vocab"] |= {f"<|reserved_{number}|>": number for number in range(learned, size)}
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(state))
    return tokenizer, learned


def settings_of(shape: Shape) -> EmbeddedSettings:
    """`shape` as `embedded.new_model` reads it; nothing is trained, so the rest does not matter."""
    smallest = profiles.get("smallest").embedded
    assert smallest is not None
    return replace(
        smallest,
        hidden_size=shape.hidden,
        layers=shape.layers,
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        head_size=shape.head_size,
        ffn_size=shape.ffn,
        vocabulary=shape.vocabulary,
    )
