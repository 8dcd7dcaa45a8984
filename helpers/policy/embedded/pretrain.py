"""Train an embedded policy from nothing: every token of a conversation counts, the prompt's less than the answer's.

transformers' `Trainer` does the work, so that a killed training resumes from its last checkpoint.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch.nn.functional import cross_entropy
from transformers import PrinterCallback, Trainer, TrainingArguments, set_seed

from helpers.policy import sft

PROMPT_WEIGHT = 0.3
"""What a prompt's token counts beside an answer's: who can write prompts has read their names and figures."""

MUON_FACTOR, MOMENTUM = 10.0, 0.95
"""Muon's rate in units of AdamW's, and its momentum."""

Row = dict[str, Any]


def token_row(tokenizer: Any, prompt: str, answer: str, prompt_weight: float = PROMPT_WEIGHT) -> Row:
    """A text as token ids, each with its weight in the loss."""
    asked = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    answered = tokenizer(answer, add_special_tokens=False)["input_ids"]
    return {
        "input_ids": asked + answered,
        "weights": [prompt_weight] * len(asked) + [1.0] * len(answered),
        "length": len(asked) + len(answered),
    }


def pretrain(
    new_model: Callable[[], Any], rows: list[Row], arguments: dict[str, Any], title: str
) -> tuple[Any, list[Row]]:
    """Train a new model on `rows`; return it with its logged losses (step, weighted loss per token).

    Goes on from the last checkpoint in the arguments' output folder, where there is one.
    """
    set_seed(arguments["seed"])
    trainer = WeightedTrainer(
        model=new_model(),
        args=TrainingArguments(**arguments),
        train_dataset=Dataset.from_list(rows),
        data_collator=padded,
        callbacks=[sft.show_progress(title)],
    )
    trainer.remove_callback(PrinterCallback)
    checkpoints = any(Path(arguments["output_dir"]).glob("checkpoint-*"))
    trainer.train(resume_from_checkpoint=checkpoints or None)
    losses = [{"step": row["step"], "loss": row["loss"]} for row in trainer.state.log_history if "loss" in row]
    return trainer.model, losses


def padded(rows: list[Row]) -> dict[str, torch.Tensor]:
    """A batch: what all rows begin with, once, and the rest of each, padded on the right with tokens of no weight."""
    shared = os.path.commonprefix([row["input_ids"] for row in rows])  # noqa: RUF071, it compares any sequences
    shared = shared[:-1]  # the last of them predicts the first token of the rest
    rests = [row["input_ids"][len(shared) :] for row in rows]
    ids = torch.zeros(len(rows), max(map(len, rests)), dtype=torch.long)
    weights = torch.zeros(ids.shape)
    for place, (row, rest) in enumerate(zip(rows, rests, strict=True)):
        ids[place, : len(rest)] = torch.tensor(rest)
        weights[place, : len(rest)] = torch.tensor(row["weights"][len(shared) :])
    return {"shared": torch.tensor([shared], dtype=torch.long), "input_ids": ids, "weights": weights}


class WeightedTrainer(Trainer):
    """A `Trainer` whose loss is the mean cross-entropy of a batch's tokens by their weights.

    A system prompt that the whole batch begins with is read once: it is half of all tokens.
    """

    def compute_loss(self, model: Any, inputs: Any, *_: Any, **__: Any) -> torch.Tensor:  # type: ignore[override]
        """Nothing attends to padding: it stands after the text, and attention is causal."""
        cache = None
        if inputs["shared"].numel():
            cache = model.model(input_ids=inputs["shared"], use_cache=True).past_key_values
            cache.batch_repeat_interleave(len(inputs["input_ids"]))
        hidden = model.model(input_ids=inputs["input_ids"], past_key_values=cache, use_cache=cache is not None)[0]
        weights = inputs["weights"][:, 1:]
        counted = weights > 0
        logits = model.lm_head(hidden[:, :-1][counted])
        losses = cross_entropy(logits, inputs["input_ids"][:, 1:][counted], reduction="none")
        return (losses * weights[counted]).sum() / weights.sum()

    def create_optimizer(self, *_: Any) -> torch.optim.Optimizer:
        """Muon for the matrices inside the layers, AdamW for embeddings and norms."""
        if self.optimizer is None:
            named = dict(self.model.named_parameters())  # type: ignore[union-attr]
            inside = [parameter for name, parameter in named.items() if parameter.ndim == 2 and ".layers." in name]
            others = [parameter for name, parameter in named.items() if parameter.ndim != 2 or ".layers." not in name]
            rate = self.args.learning_rate
            groups = [{"params": inside, "muon": True, "lr": MUON_FACTOR * rate}, {"params": others, "muon": False}]
            self.optimizer = MuonAdamW(groups, lr=rate, betas=(0.9, 0.95), weight_decay=0.01)
        return self.optimizer


class MuonAdamW(torch.optim.AdamW):
    """AdamW, but matrices of groups with `muon` set move by Muon (Keller Jordan, kellerjordan.github.io/posts/muon).

    torch's own Muon computes in bfloat16, which takes 20 times as long on a CPU without it.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Move Muon's matrices and drop their gradients; AdamW then passes over them."""
        for group in self.param_groups:
            for parameter in group["params"] if group["muon"] else ():
                state = self.state[parameter]
                momentum = state.setdefault("momentum", torch.zeros_like(parameter))
                state.setdefault("step", torch.tensor(0.0))  # AdamW asks every state for it when it is loaded
                momentum.lerp_(parameter.grad, 1 - MOMENTUM)
                update = orthogonal(parameter.grad.lerp(momentum, MOMENTUM))
                scale = max(1.0, parameter.shape[0] / parameter.shape[1]) ** 0.5
                parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"] * scale)
                parameter.grad = None
        return super().step(closure)


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """About the nearest orthogonal matrix, by five Newton-Schulz steps with Muon's coefficients."""
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonal(matrix.T).T
    result = matrix / (matrix.norm() + 1e-7)
    for _ in range(5):
        gram = result @ result.T
        result = 3.4445 * result + (-4.7750 * gram + 2.0315 * gram @ gram) @ result
    return result
