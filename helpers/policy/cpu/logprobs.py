"""Log-probabilities of completions: a prompt that a whole group completes is read once, forwards and backwards.

TRL's trainer reads it with every completion. A prompt is some three times as long as its answer, so that most of a
training step on a CPU would go to reading the same prompt sixteen times.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch.nn.functional import pad
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

CHUNK = 4
"""Completions of a group computed together: fewer pad less, more fill the processor better."""


def read_prompts_once(trainer: Any) -> None:
    """Make `trainer` compute its loss from `completion_logps`; the numbers are TRL's but for rounding."""

    def logps(
        model: Any, ids: torch.Tensor, mask: torch.Tensor, kept: int, **_: Any
    ) -> tuple[torch.Tensor, torch.Tensor, None]:
        """Log-probabilities, entropies (each rows x `kept`) and no auxiliary loss, which our policies have none of."""
        parts = [completion_logps(model, *group, trainer.temperature) for group in groups(ids, mask, kept)]
        per_token, entropies = (torch.cat(part) for part in zip(*parts, strict=True))
        return per_token, entropies, None

    # TRL has no public hook for it; tests/test_logprobs.py compares values and gradients with TRL's own.
    trainer._get_per_token_logps_and_entropies = logps


def groups(
    ids: torch.Tensor, mask: torch.Tensor, kept: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Neighbouring rows with one prompt: its tokens without padding, their completions (rows x `kept`) and mask.

    `ids` and `mask` hold prompts padded on the left, then `kept` columns of completions padded on the right.
    """
    prompts = [row[held].tolist() for row, held in zip(ids[:, :-kept], mask[:, :-kept].bool(), strict=True)]
    start = 0
    for end in range(1, len(prompts) + 1):
        if end == len(prompts) or prompts[end] != prompts[start]:
            yield torch.tensor(prompts[start], device=ids.device), ids[start:end, -kept:], mask[start:end, -kept:]
            start = end


def completion_logps(
    model: Any, prompt: torch.Tensor, completions: torch.Tensor, mask: torch.Tensor, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability and entropy of every token of one prompt's completions (each rows x tokens), with gradients.

    Completions of like length go together, so that little of what is computed is padding; 0 stands in its place.
    """
    # TRL 1.14 has one function for both; the CUDA 12 set has 1.13.
    from trl.trainer.utils import entropy_from_logits, selective_log_softmax

    read = model(input_ids=prompt[None, :-1], use_cache=True, logits_to_keep=1).past_key_values
    lengths = mask.sum(dim=1)
    order = lengths.argsort()
    parts = []
    for rows in order.split(CHUNK):
        width = int(lengths[rows].max())
        tokens = completions[rows, :width]
        # The prompt's last token predicts the first of each completion, whose own last token predicts nothing.
        ids = torch.cat([prompt[-1:].expand(len(rows), 1), tokens[:, :-1]], dim=1)
        # No mask: padding stands after a completion, and attention looks back only.
        logits = model(input_ids=ids, past_key_values=_for_rows(read, len(rows)), use_cache=True).logits
        logits = logits / temperature
        with torch.no_grad():  # it is logged, not trained on
            entropies = entropy_from_logits(logits)
        padding = mask[rows, :width] == 0
        part = [values.masked_fill(padding, 0.0) for values in (selective_log_softmax(logits, tokens), entropies)]
        parts.append([pad(values, (0, completions.shape[1] - width)) for values in part])
    places = order.argsort()
    logps, entropies = (torch.cat(part)[places] for part in zip(*parts, strict=True))
    return logps, entropies


def _for_rows(read: DynamicCache, rows: int) -> DynamicCache:
    """The keys and values of one prompt for so many rows, without a copy."""
    cache = DynamicCache()
    for index, layer in enumerate(read.layers):
        assert isinstance(layer, DynamicLayer) and layer.keys is not None and layer.values is not None
        cache.update(layer.keys.expand(rows, -1, -1, -1), layer.values.expand(rows, -1, -1, -1), index)
    return cache
