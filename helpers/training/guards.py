"""What ends a run before it spoils its record: rewards that all fail, and numbers that are not finite."""

import functools
from collections.abc import Iterable
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState

from helpers.core import processes
from helpers.core.errors import RunError
from helpers.training.track import Track


def require_rewards(trainer: Any, track: Track) -> None:
    """Let `trainer` raise `RunError` at a step where no completion of any process got a reward.

    TRL would go on with advantages of zero, and learn nothing without a word.
    """
    inner = trainer._calculate_rewards

    @functools.wraps(inner)
    def checked(*args: Any, **kwargs: Any) -> torch.Tensor:
        rewards = inner(*args, **kwargs)  # (completions of all processes, reward functions), NaN for none
        if bool(rewards.isnan().all()):
            track.collect_errors()
            error = f": {track.last_reward_error}" if track.last_reward_error else ""
            raise RunError(f"step {trainer.state.global_step + 1}: every completion failed its reward{error}")
        return rewards

    trainer._calculate_rewards = checked


class FiniteGuard(TrainerCallback):
    """Raises `RunError` before a loss, a gradient or a weight that is not finite can reach a checkpoint."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer
        self.losses: list[torch.Tensor] = []
        self.watch_losses()
        self.watch_saves()

    def watch_losses(self) -> None:
        """Keep the loss of every micro-batch: what transformers logs leaves out those that are not finite."""
        inner = self.trainer.training_step

        @functools.wraps(inner)
        def watched(*args: Any, **kwargs: Any) -> torch.Tensor:
            try:
                loss = inner(*args, **kwargs)
            except RuntimeError as error:
                if not all_finite(self._weights()):  # sampling from them fails before there is a loss
                    raise _not_finite("a weight", self.trainer.state.global_step + 1) from error
                raise
            self.losses.append(loss)
            return loss

        self.trainer.training_step = watched

    def watch_saves(self) -> None:
        """Look at the weights once more before they are saved, whoever changed them since the step."""
        inner = self.trainer.save_model

        @functools.wraps(inner)
        def checked(*args: Any, **kwargs: Any) -> None:
            if not all_finite(self._weights()):
                raise _not_finite("a weight", self.trainer.state.global_step)
            inner(*args, **kwargs)

        self.trainer.save_model = checked

    def on_pre_optimizer_step(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Before the weights are updated, look at the losses and the gradients."""
        losses, self.losses = self.losses, []
        if processes.anywhere(not all_finite(losses)):
            raise _not_finite("the loss", state.global_step + 1)
        # The loss scaler of 16-bit floats is meant to meet gradients that are too large, and skips their step.
        if self.trainer.accelerator.scaler is None:
            gradients = [weight.grad for weight in self._weights() if weight.grad is not None]
            if processes.anywhere(not all_finite(gradients)):
                raise _not_finite("the gradient norm", state.global_step + 1)

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """After the update, look at the weights."""
        if processes.anywhere(not all_finite(self._weights())):
            raise _not_finite("a weight", state.global_step)

    def _weights(self) -> list[torch.Tensor]:
        return [weight for weight in self.trainer.model.parameters() if weight.requires_grad]


def all_finite(tensors: Iterable[torch.Tensor]) -> bool:
    """Whether every number in `tensors` is finite, asked of the device once.

    >>> all_finite([torch.ones(2), torch.tensor(float("nan"))]), all_finite([])
    (False, True)
    """
    flags = [tensor.detach().isfinite().all() for tensor in tensors]
    return bool(torch.stack(flags).all()) if flags else True


def _not_finite(what: str, step: int) -> RunError:
    return RunError(f"step {step}: {what} is not finite; the last good checkpoint is kept (try a lower learning rate)")
