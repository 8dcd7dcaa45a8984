"""Decoding a batch with transformers' `generate`, without what a small policy waits for most.

Repeated prompts are read once, and so is what several prompts begin with; ended answers leave the batch; keys and
values are not copied at every token; drawing a token takes one random number, not one per word of the vocabulary.
"""

import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache, LogitsProcessorList
from transformers.cache_utils import DynamicLayer

ROUND = 16
"""Tokens generated between two checks of which answers have ended."""

CHUNK = 16
"""Prompts read together. Sorted by their tokens, neighbours begin alike; more of them share less and pad more."""


def answer_in_rounds(
    model: Any, inputs: Any, limit: int, chance: torch.Tensor, temperature: float = 1.0
) -> list[list[int]]:
    """At most `limit` new tokens for each row of `inputs` (token ids and mask, padded on the left), end token included.

    Sampled from the whole distribution by `chance` (rows x limit, see `Draw`); a row of NaN gives the greedy answer.
    An answer that ends within a round goes on with padding until the round is over.
    """
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    rows, width = ids.shape
    open_rows = torch.arange(rows, device=ids.device)
    ends = torch.tensor(model.generation_config.eos_token_id, device=ids.device)
    chance = chance.to(ids.device)
    answers: dict[int, list[int]] = {}
    with torch.inference_mode():
        cache, mask = _read_prompts(model, ids, mask)
        while len(open_rows):
            done = ids.shape[1] - width
            # The cache holds every token of `ids` but the last, so that `generate` goes on where the last round ended.
            ids = model.generate(
                ids,
                attention_mask=mask,
                past_key_values=cache,
                max_new_tokens=min(ROUND, limit - done),
                logits_processor=LogitsProcessorList([Draw(temperature, chance[open_rows], width)]),
                do_sample=False,  # `Draw` leaves one token possible: the likeliest is the drawn one
                repetition_penalty=1.0,
            )
            mask = pad(mask, (0, ids.shape[1] - mask.shape[1]), value=1)
            answers |= dict(zip(open_rows.tolist(), ids[:, width:].tolist(), strict=True))
            ended = torch.isin(ids[:, width + done :], ends).any(dim=1) | (ids.shape[1] == width + limit)
            # Rows that ended leave ids, mask and cache alike; chance goes by the original row, so that an answer does
            # not depend on when others end.
            going = (~ended).nonzero().flatten()
            open_rows, ids, mask = open_rows[going], ids[going], mask[going]
            cache.batch_select_indices(going)
    return [answers[row] for row in range(rows)]


def new_chance(rows: int, limit: int, device: Any = None) -> torch.Tensor:
    """Numbers to draw by (rows x limit) from torch's random state, above 0 and at most 1."""
    return 1 - torch.rand(rows, limit, device=device)  # `rand` gives 0 and never 1; `Draw` needs the reverse


def chance_of_prompts(prompts: Sequence[Sequence[int]], limit: int, seed: int) -> torch.Tensor:
    """Numbers to draw by (prompts x limit) that depend on a prompt's tokens and `seed`, not on the batch around it.

    A repeated prompt gets different numbers each time.

    >>> first, again, alone = *chance_of_prompts([[5, 7], [5, 7]], 3, 0), chance_of_prompts([[5, 7]], 3, 0)[0]
    >>> bool((first == alone).all()), bool((again == alone).any())
    (True, False)
    """
    seen: Counter[tuple[int, ...]] = Counter()
    rows = []
    for ids in map(tuple, prompts):
        rows.append(np.random.default_rng([seed, seen[ids], *ids]).random(limit, dtype=np.float32))
        seen[ids] += 1
    return torch.from_numpy(1 - np.stack(rows))


class Draw:
    """A logits processor that leaves one token possible: the first whose cumulative probability reaches `chance`.

    `chance` (rows x tokens) is above 0 and at most 1; NaN draws the likeliest token. Answers begin at column `width` of
    the ids.
    """

    def __init__(self, temperature: float, chance: torch.Tensor, width: int) -> None:
        self.temperature, self.chance, self.width = temperature, chance, width

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores (rows x vocabulary) for the next token of `ids`: 0 for the drawn one, minus infinity elsewhere."""
        cumulated = (scores / self.temperature).softmax(dim=-1).cumsum(dim=-1)
        step = ids.shape[1] - self.width
        chance = self.chance[:, step : step + 1]
        # The last sum is not 1 to the bit: scaled by it, no chance lies beyond the last possible token. As chance is
        # above 0, an impossible first token, whose sum is 0, is never reached either.
        drawn = torch.searchsorted(cumulated, chance * cumulated[:, -1:])
        drawn = torch.where(chance.isnan(), scores.argmax(dim=-1, keepdim=True), drawn)
        return torch.full_like(scores, -torch.inf).scatter_(1, drawn, 0.0)


def _read_prompts(model: Any, ids: torch.Tensor, mask: torch.Tensor) -> tuple[DynamicCache, torch.Tensor]:
    """Keys and values of all but each prompt's last token, and the mask (as `ids`) that says where a prompt's are.

    The last token is left for `generate`, which needs one to compute the first new token from.
    """
    prompts = [tuple(row[held].tolist()) for row, held in zip(ids[:, :-1], mask[:, :-1].bool(), strict=True)]
    distinct = sorted(set(prompts))  # sorted, prompts that begin alike land in one chunk
    chunks = [_read_chunk(model, distinct[start : start + CHUNK]) for start in range(0, len(distinct), CHUNK)]
    places = torch.tensor([distinct.index(prompt) for prompt in prompts], device=ids.device)
    width = ids.shape[1] - 1

    def together(parts: Sequence[torch.Tensor]) -> torch.Tensor:
        """The chunks' rows (batch x heads x tokens x size), padded on the left, in the prompts' order."""
        return torch.cat([pad(part, (0, 0, width - part.shape[-2], 0)) for part in parts])[places]

    cache = DynamicCache()
    for layers in zip(*(chunk.layers for chunk, _ in chunks), strict=True):
        held = _RoomyLayer()
        held.update(together([layer.keys for layer in layers]), together([layer.values for layer in layers]))
        cache.layers.append(held)
    # A chunk's padding may lie between the shared start and the rest. That does no harm: the mask hides it, and
    # positions count tokens, not columns.
    masks = torch.cat([pad(mask, (width - mask.shape[1], 0)) for _, mask in chunks])[places]
    return cache, pad(masks, (0, 1), value=1)


def _read_chunk(model: Any, prompts: Sequence[tuple[int, ...]]) -> tuple[DynamicCache, torch.Tensor]:
    """Keys and values of some prompts, and their mask: the start that all share (computed once), padding, the rest."""
    shared = os.path.commonprefix(prompts)  # noqa: RUF071, it compares any sequences
    cache = DynamicCache()
    mask = torch.ones(1, len(shared), dtype=torch.long, device=model.device)
    if shared:
        _read(model, [shared], cache, mask)
        cache.batch_repeat_interleave(len(prompts))
    rests = [prompt[len(shared) :] for prompt in prompts]
    if any(rests):
        own = [torch.ones(len(rest), dtype=torch.long) for rest in rests]
        mask = torch.cat([mask.expand(len(prompts), -1), _padded(own).to(model.device)], dim=1)
        _read(model, rests, cache, mask)
    return cache, mask


def _read(model: Any, rows: Sequence[Sequence[int]], cache: DynamicCache, mask: torch.Tensor) -> None:
    """Add the rows' keys and values to `cache`; `mask` tells tokens from padding, in the cache and in the rows."""
    ids = _padded([torch.tensor(row, dtype=torch.long) for row in rows]).to(model.device)
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -ids.shape[1] :]
    # Only the cache is wanted: one position's logits instead of all spare the product with the whole vocabulary.
    model(ids, attention_mask=mask, position_ids=positions, past_key_values=cache, logits_to_keep=1)


def _padded(rows: list[torch.Tensor]) -> torch.Tensor:
    return pad_sequence(rows, batch_first=True, padding_side="left")


class _RoomyLayer(DynamicLayer):
    """A cache layer with room for a round's tokens: `DynamicLayer` copies all keys and values for each new token."""

    _room = 0

    def update(self, key_states: Any, value_states: Any, *_: Any, **__: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the new keys and values after those held, and return all of them as views of the room."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        begin = self.get_seq_length()
        end = begin + key_states.shape[-2]
        if end > self._room:
            self._make_room(key_states.shape, begin, end + ROUND)
        self._all_keys[..., begin:end, :], self._all_values[..., begin:end, :] = key_states, value_states
        self.keys, self.values = self._all_keys[..., :end, :], self._all_values[..., :end, :]
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep these rows, as copies without room."""
        super().batch_select_indices(indices)
        self._room = 0  # the copies are smaller than the room: the next update must not write into the old one

    def _make_room(self, shape: torch.Size, held: int, room: int) -> None:
        batch, heads, _, size = shape
        self._all_keys, self._all_values = (
            torch.empty(batch, heads, room, size, dtype=self.dtype, device=self.device) for _ in range(2)
        )
        if held and self.keys is not None and self.values is not None:
            self._all_keys[..., :held, :], self._all_values[..., :held, :] = self.keys, self.values
        self._room = room
