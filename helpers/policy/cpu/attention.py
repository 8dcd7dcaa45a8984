"""Attention for decoding on a CPU: the keys and values of a group of heads are read once, not once a head.

transformers copies each key and value to every query head that shares it whenever there is a mask. At one query a
sequence that copy costs as much as attention itself; here the heads of a group stand in for that many queries instead.
"""

from typing import Any

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

NAME = "sdpa_grouped"


def use(model: Any) -> None:
    """Let `model` attend by `grouped_sdpa`; its outputs change by rounding alone."""
    model.set_attn_implementation(NAME)


def grouped_sdpa(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **rest: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' `sdpa`, but for one query a sequence: batch x heads x 1 x size, keys and values with fewer heads.

    Returns batch x queries x heads x size, as every attention function of transformers does.
    """
    batch, heads, queries, size = query.shape
    if queries > 1:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **rest)
    grouped = query.reshape(batch, key.shape[1], heads // key.shape[1], size)
    found = torch.nn.functional.scaled_dot_product_attention(
        grouped, key, value, attn_mask=attention_mask, scale=scaling
    )
    return found.reshape(batch, 1, heads, size), None


AttentionInterface.register(NAME, grouped_sdpa)
AttentionMaskInterface.register(NAME, sdpa_mask)
