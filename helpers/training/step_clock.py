"""The step report: where the seconds of a training step go, and how much memory a process has taken.

A `PhaseClock` wraps the methods of a trainer instance, so that Unsloth's rewritten trainer is measured as TRL's is.
`helpers.runs.speed` reads what it leaves in the run record.
"""

import functools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState

from helpers.core.checks import GIB
from helpers.core.usage import peak_main_memory_gib
from helpers.runs.record import PHASES, phase_key

_PHASE_OF = {
    "_generate": "generation",
    "_calculate_rewards": "rewards",
    "_get_per_token_logps_and_entropies": "log_probs",
    "compute_loss": "log_probs",
    "_clip_grad_norm": "optimiser",
}
_SYNCING = ("sync_weights", "_unsloth_load_lora")
"""How weights reach vLLM: TRL copies them, Unsloth hands over the LoRA matrices."""


class PhaseClock(TrainerCallback):
    """Seconds by phase. Exactly one phase runs at any moment (`other` if no named one), so phases add up to the step.

    A phase inside another (weights going to vLLM while it generates) pauses the outer one. On a GPU the clock waits for
    the device whenever the phase changes, so that work counts in the phase that launched it.
    """

    def __init__(self, on_gpu: bool = False) -> None:
        self.on_gpu = on_gpu
        self.running = ["other"]
        self.started = False
        self.changed = time.perf_counter()
        self._reset()

    @classmethod
    def attach(cls, trainer: Any) -> "PhaseClock":
        """Time `trainer` from its first step on; the trainer works as before."""
        clock = cls(on_gpu=trainer.accelerator.device.type == "cuda")
        for method, phase in _PHASE_OF.items():
            clock.time(trainer, method, phase)
        clock.time(trainer.accelerator, "backward", "backward")
        for method in _SYNCING:
            clock.time(getattr(trainer, "vllm_generation", None), method, "sync")
        clock.count_batches(trainer)
        trainer.add_callback(clock)
        return clock

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the block's seconds as `name`, one of `PHASES`."""
        self._begin(name)
        try:
            yield
        finally:
            self._end()

    def time(self, owner: Any, method: str, phase: str) -> None:
        """Count every call of `owner.method` as `phase`; do nothing if there is no such method."""
        inner = getattr(owner, method, None)
        if inner is None:
            return

        @functools.wraps(inner)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.phase(phase):
                return inner(*args, **kwargs)

        setattr(owner, method, timed)

    def take(self) -> dict[str, float]:
        """The metrics of what happened since the last call, usually one step.

        Seconds by phase; `time/step_s`, the sum of all but `eval`; tokens per second of generation; the share of
        padding in the generated batches; the peak memory so far, in GiB.
        """
        self._settle()
        seconds = {name: round(value, 4) for name, value in self.seconds.items()}
        metrics = {phase_key(name): value for name, value in seconds.items()}
        metrics["time/step_s"] = round(sum(seconds.values()) - seconds["eval"], 4)
        metrics["time/peak_memory_gib"] = round(peak_memory_gib(self.on_gpu), 3)
        if self.batch_tokens:
            metrics["time/tokens_per_s"] = round(self.generated / self.seconds["generation"], 1)
            metrics["train/padding_waste"] = 1 - self.real_tokens / self.batch_tokens
        self._reset()
        return metrics

    def on_step_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Start with the first step: what came before, such as the base policy's evaluation, belongs to no step."""
        if not self.started:
            self.started = True
            self._reset()

    def on_pre_optimizer_step(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Gradients are ready: the optimiser's phase begins."""
        self._begin("optimiser")

    def on_optimizer_step(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """The weights are updated: the optimiser's phase ends."""
        self._end()

    def count_batch(self, prompt_mask: torch.Tensor, completion_mask: torch.Tensor) -> None:
        """Count the tokens of a batch; both masks are (completions, width) and 0 where a token is padding."""
        generated = int(completion_mask.sum())
        self.generated += generated
        self.real_tokens += generated + int(prompt_mask.sum())
        self.batch_tokens += prompt_mask.numel() + completion_mask.numel()

    def count_batches(self, trainer: Any) -> None:
        """Count the tokens of every batch that `trainer` generates."""
        inner = trainer._generate_and_score_completions

        @functools.wraps(inner)
        def counted(*args: Any, **kwargs: Any) -> Any:
            batch = inner(*args, **kwargs)
            self.count_batch(batch["prompt_mask"], batch["completion_mask"])
            return batch

        trainer._generate_and_score_completions = counted

    def _begin(self, name: str) -> None:
        self._settle()
        self.running.append(name)

    def _end(self) -> None:
        self._settle()
        self.running.pop()

    def _settle(self) -> None:
        """Give the seconds since the last change to the phase that runs."""
        if self.on_gpu:
            torch.cuda.synchronize()
        now = time.perf_counter()
        self.seconds[self.running[-1]] += now - self.changed
        self.changed = now

    def _reset(self) -> None:
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self.generated = self.real_tokens = self.batch_tokens = 0
        self.changed = time.perf_counter()


def peak_memory_gib(on_gpu: bool) -> float:
    """The most memory so far, GiB: torch's tensors where a GPU computes, else the process's main memory."""
    return torch.cuda.max_memory_allocated() / GIB if on_gpu else peak_main_memory_gib()
