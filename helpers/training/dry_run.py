"""A dry run: a few GRPO steps through the training code as it is, watched from inside, without any evaluation.

`preflight` draws its verdicts from one; `tests/gpu/gpu_check.py` measures with one.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, set_seed

from helpers.policy import Policy, lora
from helpers.recipes import Recipe
from helpers.recipes.profiles import Profile
from helpers.rewards import record_errors
from helpers.runs.record import RunRecorder, identity
from helpers.tasks.records import PAIRS_DIR
from helpers.training.arguments import check_effective, grpo_arguments
from helpers.training.plan import Plan, load_splits
from helpers.training.track import Track, describe_run
from helpers.training.trainer import attach_record, build_trainer

ROWS = 8
"""Completions whose log-probabilities are compared."""


@dataclass(frozen=True)
class LogProbs:
    """Log-probabilities of the tokens of some completions at the same weights, computed in different ways; 1-D.

    `trainer` is what the loss sees, `rollout` a plain forward pass over one completion at a time, `sampled` what the
    generation engine reported, or None if it reports nothing (transformers' `generate`).
    """

    trainer: torch.Tensor
    rollout: torch.Tensor
    sampled: torch.Tensor | None = None


@dataclass(frozen=True)
class DryRun:
    """What a dry run showed. `lora_b` says of each LoRA B matrix whether it moved off zero."""

    metrics: list[dict[str, Any]]
    lora_b: dict[str, bool]
    sampling: dict[str, Any]
    log_probs: LogProbs | None


class LogProbWatch(TrainerCallback):
    """Compares log-probabilities before the last update, and stops the run after `seconds`."""

    def __init__(self, trainer: Any, seconds: float) -> None:
        self.trainer, self.seconds, self.started = trainer, seconds, time.monotonic()
        self.log_probs: LogProbs | None = None

    def on_pre_optimizer_step(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Before the last update, compare log-probabilities."""
        if state.global_step == state.max_steps - 1:
            self.log_probs = compare_log_probs(self.trainer)

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Stop once the seconds are over."""
        if time.monotonic() - self.started > self.seconds:
            control.should_training_stop = True


def dry_run(
    recipe: Recipe,
    profile: Profile,
    policy: Policy,
    folder: Path,
    seed: int = 0,
    seconds: float = float("inf"),
) -> DryRun:
    """Train the fitted `recipe` for its `max_steps` or for `seconds`, without checkpoints, evaluations and stop rules.

    The run record goes to `folder`. Raises `RecipeMismatchError` where the trainer is not what the recipe says
    (`arguments.check_effective`).
    """
    plan = Plan(
        recipe=recipe,
        profile=profile,
        folder=folder,
        seed=seed,
        backend=policy.backend,
        backend_reason=policy.backend,
        splits=load_splits(recipe, profile),
        identity=identity(recipe, profile, seed, PAIRS_DIR),
    )
    set_seed(seed)
    policy = lora.with_lora(policy, recipe)
    arguments = grpo_arguments(plan) | {"save_strategy": "no"}
    track = Track(RunRecorder(folder))
    track.recorder.write_config(describe_run(plan, policy, arguments) | {"command": "a dry run"})
    trainer = build_trainer(plan, policy, arguments)
    check_effective(trainer, arguments, recipe)
    attach_record(trainer, plan, policy, track)
    watch = LogProbWatch(trainer, seconds)
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
    """For each LoRA B matrix, whether it has moved off zero, where it starts."""
    matrices = {name: matrix for name, matrix in model.named_parameters() if "lora_B" in name}
    return {name: bool(matrix.detach().abs().max() > 0) for name, matrix in matrices.items()}


def sampling_of(trainer: Any) -> dict[str, Any]:
    """How `trainer` samples its rollouts: the settings that a recipe names, top_k 0 for all tokens (-1 in vLLM)."""
    source = trainer.args if trainer.use_vllm else trainer.generation_config
    sampling = {name: getattr(source, name) for name in ("temperature", "top_p", "top_k", "repetition_penalty")}
    return sampling | {"top_k": max(0, sampling["top_k"])}


def compare_log_probs(trainer: Any, rows: int = ROWS) -> LogProbs:
    """Score the first `rows` completions of the current batch in both ways, at the weights that `trainer` has now."""
    batch = {
        key: value[:rows]
        for key, value in trainer._buffered_inputs[0].items()
        if isinstance(value, torch.Tensor) and value.dim() > 0
    }
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
    """Each completion token's log-probability from one forward pass over an unpadded prompt and completion; all 1-D."""
    was_training = model.training
    model.eval()
    try:
        with lora.merged(model):
            logits = model(input_ids=torch.cat([prompt, completion]).unsqueeze(0), use_cache=False).logits[0]
    finally:
        model.train(was_training)
    scores = torch.log_softmax(logits[-len(completion) - 1 : -1].float() / temperature, dim=-1)
    return scores.gather(1, completion.unsqueeze(1)).squeeze(1)


def aligned(scored: torch.Tensor, prompt_mask: torch.Tensor, width: int) -> torch.Tensor:
    """The `width` completion columns of the trainer's log-probabilities.

    Unsloth moves a row's left padding to its end, so the completion starts that many columns earlier.

    >>> scored = torch.tensor([[0., 1., 2.], [1., 2., 9.]])
    >>> aligned(scored, torch.tensor([[1, 1], [0, 1]]), 2).tolist()
    [[1.0, 2.0], [1.0, 2.0]]
    """
    extra = scored.size(1) - width
    if extra == 0:
        return scored
    starts = extra - (1 - prompt_mask).sum(dim=1)
    return scored.gather(1, starts.unsqueeze(1) + torch.arange(width, device=scored.device))


def _unpadded(batch: dict[str, torch.Tensor]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    prompts = zip(batch["prompt_ids"], batch["prompt_mask"].bool(), strict=True)
    completions = zip(batch["completion_ids"], batch["completion_mask"].bool(), strict=True)
    return [(p[pm], c[cm]) for (p, pm), (c, cm) in zip(prompts, completions, strict=True)]
