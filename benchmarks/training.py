"""Whether our training step (record, step report, stop rules, own rollouts) is slower than a bare `GRPOTrainer`'s.

    python -m benchmarks.training [run folder]

Both train one recipe with the same seed and arguments, in short blocks of one process by turns (ours, stock, stock,
ours, ...), so that a busy machine slows both alike; a step is compared with the other's step on the same prompts, by
the clock and by CPU seconds, which other processes disturb less. The stock trainer has the attention
of transformers; memory that glibc keeps serves both, as it is the process's. The first step of a block warms up and
does not count. Evaluation is left out: its share of a run is read from a record.
"""

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import PrinterCallback, TrainerCallback, set_seed
from trl import GRPOConfig, GRPOTrainer

from helpers import recipes, rewards, training
from helpers.core import stats, tracking
from helpers.policy import loading, lora
from helpers.recipes import profiles
from helpers.runs import speed
from helpers.runs.load import latest_run, load_run
from helpers.runs.record import PHASES, RunRecorder, phase_key
from helpers.tasks.records import load_split
from helpers.training import callbacks

STEPS, TURNS, SEED = 5, 4, 0


class Stopwatch(TrainerCallback):
    """Both clocks (by the clock, CPU seconds) whenever a step begins, and at the end of the last one."""

    def __init__(self) -> None:
        self.moments: list[tuple[float, float]] = []

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        """Note both clocks."""
        self.moments.append((time.perf_counter(), time.process_time()))

    on_train_end = on_step_begin

    def seconds(self) -> np.ndarray:
        """Seconds of each step but the first, one row per step and one column per clock."""
        return np.diff(np.array(self.moments), axis=0)[1:]


def main(run_folder: Path | None) -> None:
    """Print both medians, their ratio with its interval, our phases, and evaluation's share of a run."""
    profile = profiles.get("auto")
    recipe, _ = profiles.fit(recipes.V41, profile)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plan = training.Plan(recipe, profile, folder, SEED, splits={"train": load_split("train")})
        track = training.Track(RunRecorder(folder), tracking.start("benchmark", folder / "wandb", {}))
        blocks: dict[str, list[np.ndarray]] = {"ours": [], "stock": []}
        for turn in range(TURNS):
            for kind in ("ours", "stock") if turn % 2 == 0 else ("stock", "ours"):
                blocks[kind].append(block(kind, plan, track))
                print(
                    f"turn {turn + 1} of {TURNS}, {kind:<5} {blocks[kind][-1][:, 0].mean():.2f} s per step", flush=True
                )
        track.wandb_run.finish()
    report(np.concatenate(blocks["ours"]), np.concatenate(blocks["stock"]), track.history)
    run = load_run(run_folder) if run_folder else latest_run()[0]
    print(f"evaluation's share of {run.name}, whole splits included: {speed.evaluation_share(run):.1%} (limit 15 %)")


def block(kind: str, plan: training.Plan, track: training.Track) -> np.ndarray:
    """Train a fresh policy for `STEPS` steps; the seconds of each but the first, by both clocks."""
    policy = loading.load_base(plan.recipe, plan.profile)
    set_seed(SEED)
    arguments = training.grpo_arguments(plan) | {"max_steps": STEPS, "save_strategy": "no"}
    if kind == "ours":
        policy = lora.with_lora(policy, plan.recipe)
        trainer = training.build_trainer(plan, policy, arguments)
        training.attach_record(trainer, plan, policy, track)
        trainer.add_callback(callbacks.StopRuleCallback(plan, track))
    else:
        policy.model.set_attn_implementation("sdpa")
        trainer = GRPOTrainer(
            model=policy.model,
            reward_funcs=rewards.reward_functions(plan.recipe.version),
            args=GRPOConfig(**arguments),
            train_dataset=Dataset.from_list(training.training_rows(plan.splits["train"])),
            processing_class=policy.tokenizer,
            peft_config=lora.lora_config(plan.recipe),
        )
        trainer.remove_callback(PrinterCallback)
    watch = Stopwatch()
    trainer.add_callback(watch)
    trainer.train()
    return watch.seconds()


def report(ours: np.ndarray, stock: np.ndarray, history: list[dict[str, Any]]) -> None:
    """Print the comparison step by step, and where the seconds of ours went."""
    print(f"medians of {len(ours)} steps, and the ratio ours to stock with its 95 % interval, paired step by step")
    for column, clock in enumerate(("by the clock", "CPU seconds")):
        logs = stats.bootstrap_mean(np.log(ours[:, column] / stock[:, column]))
        ratio = "{:.3f} [{:.3f}, {:.3f}]".format(*np.exp([logs.mean, logs.low, logs.high]))
        medians = (np.median(seconds[:, column]) for seconds in (stock, ours))
        print("  {}: stock {:.2f} s, ours {:.2f} s, ratio {}".format(clock, *medians, ratio))
    for phase in PHASES:
        values = [row[phase_key(phase)] for row in history if row["step"] > 1]
        print(f"  {speed.PHASE_LABELS[phase]:<36} {np.mean(values):7.3f} s")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
