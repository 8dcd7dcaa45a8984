"""A dry run: a few GRPO steps through the training code as it is, watched from inside, without any evaluation.

`helpers.preflight` judges what it shows; `tests/gpu/gpu_check.py` measures with it.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, set_seed

from helpers.core import tracking
from helpers.policy.loading import Policy, merged
from helpers.recipes import Recipe
from helpers.recipes.profiles import Profile
from helpers.rewards import record_errors
from helpers.runs.identity import identity
from helpers.runs.record import RunRecorder
from helpers.tasks.records import PAIRS_DIR, load_split
from helpers.training import callbacks
from helpers.training.trainer import build_trainer, describe_run, grpo_arguments

ROWS = 8
"""Completions whose log-probabilities are compared: enough tokens for a mean, few enough to take a second."""


@dataclass(frozen=True)
class LogProbs:
    """The log-probability of each token of some sampled completions, computed at the same weights; 1-D, equally long.

    `trainer` is what the loss sees, `rollout` a plain forward pass over one completion at a time, `sampled` what the
    generation engine reported; None where it reports nothing (transformers' `generate`).
    """

    trainer: torch.Tensor
    rollout: torch.Tensor
    sampled: torch.Tensor | None = None


@dataclass(frozen=True)
class DryRun:
    """What a dry run showed. `metrics` are its run record's rows; `lora_b` says of each LoRA B matrix if it moved."""

    metrics: list[dict[str, Any]]
    lora_b: dict[str, bool]
    sampling: dict[str, Any]
    log_probs: LogProbs | None


class Watch(TrainerCallback):
    """Compares log-probabilities before the last update, and ends the run once `seconds` are over."""

    def __init__(self, trainer: Any, seconds: float) -> None:
        self.trainer, self.seconds, self.started = trainer, seconds, time.monotonic()
        self.log_probs: LogProbs | None = None

    def on_pre_optimizer_step(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Before the last update: the trainer's log-probabilities beside those of a plain forward pass."""
        if state.global_step == state.max_steps - 1:
            self.log_probs = compare_log_probs(self.trainer)

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """End the run once its seconds are over."""
        if time.monotonic() - self.started > self.seconds:
            control.should_training_stop = True


def dry_run(
    recipe: Recipe,
    profile: Profile,
    policy: Policy,
    folder: Path,
    pairs: Path = PAIRS_DIR,
    seed: int = 0,
    seconds: float = float("inf"),
) -> DryRun:
    """Train the fitted `recipe` for its `max_steps`, or until `seconds` are over; its run record goes to `folder`.

    What judges a run is left out: checkpoints, evaluations, stop rules.

    Raises `RuntimeError` where the trainer is not what the recipe says (`training.check_effective`).
    """
    set_seed(seed)
    recorder = RunRecorder(folder)
    track = callbacks.Track(recorder, tracking.NoRun())
    requested = grpo_arguments(recipe, profile, folder, seed, policy.backend) | {"save_strategy": "no"}
    train = load_split("train", pairs)
    known = identity(recipe, profile, seed, pairs) | {"backend": policy.backend}
    recorder.write_config(known | describe_run(recipe, [], requested, policy, train) | {"command": "a dry run"})
    trainer, _, _ = build_trainer(recipe, policy, train, requested, track)
    watch = Watch(trainer, seconds)
    trainer.add_callback(watch)
    with record_errors(track.reward_error):
        trainer.train()
    return DryRun(
        metrics=track.history,
        lora_b=moved_lora(trainer.model),
        sampling=sampling_of(trainer),
        log_probs=watch.log_probs,
    )


def moved_lora(model: Any) -> dict[str, bool]:
    """For each LoRA B matrix whether it left zero, where it starts."""
    found = {name: p for name, p in model.named_parameters() if "lora_B" in name}
    return {name: bool(parameter.detach().abs().max() > 0) for name, parameter in found.items()}


def sampling_of(trainer: Any) -> dict[str, Any]:
    """How `trainer` samples its rollouts: the settings that a recipe states, in its words (vLLM's "all" is -1)."""
    source = trainer.args if trainer.use_vllm else trainer.generation_config
    found = {name: getattr(source, name) for name in ("temperature", "top_p", "top_k", "repetition_penalty")}
    return found | {"top_k": max(0, found["top_k"])}


def compare_log_probs(trainer: Any, rows: int = ROWS) -> LogProbs:
    """Score the first `rows` completions of the batch in hand, at the weights that `trainer` has now, in both ways."""
    batch = {key: value[:rows] for key, value in trainer._buffered_inputs[0].items() if _has_rows(value)}
    mask = batch["completion_mask"].bool()
    prompt, completion = batch["prompt_ids"], batch["completion_ids"]
    with torch.no_grad(), trainer.accelerator.autocast():
        scored, *_ = trainer._get_per_token_logps_and_entropies(
            trainer.model,
            torch.cat([prompt, completion], dim=1),
            torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1),
            completion.size(1),
            batch_size=len(mask),
        )
        plain = [plain_log_probs(trainer.model, *row, trainer.temperature) for row in _unpadded(batch)]
    sampled = batch.get("sampling_per_token_logps")
    return LogProbs(
        trainer=aligned(scored, batch["prompt_mask"], completion.size(1))[mask].float().cpu(),
        rollout=torch.cat(plain).float().cpu(),
        sampled=None if sampled is None else sampled[mask].float().cpu(),
    )


def plain_log_probs(model: Any, prompt: torch.Tensor, completion: torch.Tensor, temperature: float) -> torch.Tensor:
    """Each completion token's log-probability from one forward pass over prompt and completion, 1-D and unpadded."""
    was_training = model.training
    model.eval()
    try:
        with merged(model):
            logits = model(input_ids=torch.cat([prompt, completion]).unsqueeze(0), use_cache=False).logits[0]
    finally:
        model.train(was_training)
    scores = torch.log_softmax(logits[-len(completion) - 1 : -1].float() / temperature, dim=-1)
    return scores.gather(1, completion.unsqueeze(1)).squeeze(1)


def aligned(scored: torch.Tensor, prompt_mask: torch.Tensor, width: int) -> torch.Tensor:
    """The `width` completion columns of the trainer's log-probabilities.

    Unsloth moves a row's left padding behind it, so the completion starts as many columns earlier as there was of it.

    >>> scored = torch.tensor([[0., 1., 2.], [1., 2., 9.]])
    >>> aligned(scored, torch.tensor([[1, 1], [0, 1]]), 2).tolist()
    [[1.0, 2.0], [1.0, 2.0]]
    """
    most = scored.size(1) - width
    if most == 0:
        return scored
    starts = most - (1 - prompt_mask).sum(dim=1)
    columns = starts.unsqueeze(1) + torch.arange(width, device=scored.device)
    return scored.gather(1, columns)


def _has_rows(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.dim() > 0


def _unpadded(batch: dict[str, torch.Tensor]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    prompts = zip(batch["prompt_ids"], batch["prompt_mask"].bool(), strict=True)
    completions = zip(batch["completion_ids"], batch["completion_mask"].bool(), strict=True)
    return [(p[pm], c[cm]) for (p, pm), (c, cm) in zip(prompts, completions, strict=True)]
