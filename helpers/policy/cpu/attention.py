"""Attention for decoding on a CPU: query heads that share keys and values read them once.

transformers copies each key and value to every query head that shares it whenever there is a mask. With one query per
sequence that copy costs as much as attention itself.
"""

from typing import Any

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

NAME = "sdpa_grouped"
"""What a model is told to attend by; its outputs change by rounding alone."""


def grouped_sdpa(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **rest: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' `sdpa`, faster for one query per sequence (batch x heads x 1 x size; keys have fewer heads).

    Returns batch x queries x heads x size, as every attention function of transformers does.
    """
    batch, heads, queries, size = query.shape
    if queries > 1:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **rest)
    # The heads of a group take the place of queries of one sequence: they attend to the same keys without a copy. The
    # mask needs no change, because with a single query it broadcasts over that dimension.
    grouped = query.reshape(batch, key.shape[1], heads // key.shape[1], size)
    attended = torch.nn.functional.scaled_dot_product_attention(
        grouped, key, value, attn_mask=attention_mask, scale=scaling
    )
    return attended.reshape(batch, 1, heads, size), None


# Both registries are needed: without a mask function of the same name transformers passes no mask at all.
AttentionInterface.register(NAME, grouped_sdpa)
AttentionMaskInterface.register(NAME, sdpa_mask)
