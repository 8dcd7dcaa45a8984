"""Whether two greedy texts of the same weights differ only because the best two tokens were as good as equal."""

from itertools import zip_longest
from typing import Any

from helpers.policy.model import Policy

TIE = 1e-3
"""In nats: rounding in another order moves a log-probability by about 1e-6."""


def parts_at_a_tie(policy: Policy, prompt: list[dict[str, str]], one: str, other: str) -> bool:
    """Whether the first token in which two answers to a prompt differ is a tie of the policy's two best."""
    import torch

    tokenizer: Any = policy.tokenizer
    rendered = tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
    ids, *answers = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (rendered, one, other))
    same = next(place for place, tokens in enumerate(zip_longest(*answers)) if len(set(tokens)) > 1)
    with torch.no_grad():
        logits = policy.model(input_ids=torch.tensor([ids + answers[1][:same]])).logits[0, -1].float()
    best, second = torch.log_softmax(logits, dim=-1).topk(2).values.tolist()
    return best - second < TIE
