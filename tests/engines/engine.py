"""One backend in a process of its own, on a CPU: train, be interrupted, resume, evaluate, save. Writes a run record.

    python tests/engines/engine.py vllm --folder DIR              # two steps, then SIGTERM
    python tests/engines/engine.py vllm --folder DIR --resume     # the third, the evaluations, the adapter

`SHAPE=0.5b` in the environment trains the hub model's exact shape with random weights instead of the embedded policy.
"""

import argparse
import json
import os
import signal
import sys
import time
import zlib
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import on_cpu

ROOT = Path(__file__).resolve().parents[2]
BACKENDS = ("transformers", "vllm", "unsloth")
STEPS, INTERRUPTED_AFTER = 3, 2
SHAPE = os.environ.get("SHAPE", "embedded")
PROFILE = "cpu"
"""Its policy is the embedded one; `setting` replaces the rest of the profile."""


def main() -> None:
    """Run one part of one backend's training; `seen.json` in the folder collects what each part saw."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("backend", choices=BACKENDS)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--resume", action="store_true")
    args = parser.parse_args()
    on_cpu.prepare(args.backend)
    started = time.monotonic()
    from helpers import training
    from helpers.core import interrupts
    from helpers.policy import backends

    recipe, profile = setting(args.backend)
    plan = replace(
        training.plan_run(recipe, profile, args.folder, resume=args.resume),
        backend=args.backend,
        backend_reason=f"backend {args.backend}, on a CPU for the test of the engines",
    )
    backends.begin(profile, args.backend)
    if args.backend == "vllm":
        on_cpu.let_weights_be_handed_over()
    seen = watch(None if args.resume else INTERRUPTED_AFTER)
    imported = time.monotonic()
    with suppress(interrupts.Interrupted), interrupts.handled():
        training.train_grpo(plan)
    seen |= {"import_s": round(imported - started, 1), "run_s": round(time.monotonic() - imported, 1)}
    path = args.folder / "seen.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    path.write_text(json.dumps([*before, seen], indent=1), encoding="utf-8")


def setting(backend: str) -> tuple[Any, Any]:
    """The recipe, and a CPU profile that trains it for `STEPS` steps with `backend` and answers a few prompts."""
    from helpers import recipes, rewards
    from helpers.recipes import profiles

    recipe = replace(recipes.V41, warmup_share=0.0)
    profile = replace(
        profiles.get(PROFILE),
        backend=backend,
        vllm_memory_share=0.3 if backend == "vllm" else 0.0,
        step_share=STEPS / recipe.max_steps,
        least_steps=STEPS,
        eval_every=INTERRUPTED_AFTER,
        eval_records=4,
        eval_batch=32,
        group_cap=16,
        micro_batch=8,
        completion_cap=64,
    )
    if SHAPE == "embedded":
        return recipe, profile
    rewards.reward_functions = lambda version: [varying]
    recipe = replace(recipe, model_id=os.path.relpath(random_policy_folder(), ROOT))
    return recipe, replace(profile, embedded=None, eval_records=2, group_cap=4, micro_batch=4, completion_cap=48)


def varying(completions: list[Any], **columns: Any) -> list[float]:
    """A reward that differs between any two texts: random weights earn none of ours, and would never move."""
    return [zlib.crc32(completion[0]["content"].encode()) / 2**32 for completion in completions]


def random_policy_folder() -> Path:
    """The folder of the random policy of the hub's 0.5B shape, made where it is not there (2 GB)."""
    sys.path.insert(0, str(ROOT / "tests" / "gpu"))
    import random_policy

    from helpers import recipes
    from helpers.recipes import memory

    folder = ROOT / "runs" / "gpu-check" / "policy-0.5B-float32"
    random_policy.make(folder, memory.SHAPES[recipes.HUB_05B], "cpu", "float32")
    return folder


def watch(interrupted_after: int | None) -> dict[str, Any]:
    """Let the trainer to come compare log-probabilities before its last update, and SIGTERM come after a step; returns
    where what is seen will be."""
    from transformers import TrainerCallback

    from helpers.training import dry_run, run

    seen: dict[str, Any] = {"gaps": {}}

    class Watch(TrainerCallback):
        def __init__(self, trainer: Any) -> None:
            self.trainer = trainer

        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            found = dry_run.compare_log_probs(self.trainer)
            trainer, plain, engine = found.trainer, found.rollout, found.sampled
            gaps = {"trainer, plain forward": trainer - plain}
            if engine is not None:
                gaps |= {"engine, trainer": engine - trainer, "engine, plain": engine - plain}
            means = {name: float(gap.abs().mean()) for name, gap in gaps.items()}
            seen["gaps"][state.global_step + 1] = means | {"tokens": len(trainer)}

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == interrupted_after:
                os.kill(os.getpid(), signal.SIGTERM)

        def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            seen["lora_moved"] = all(dry_run.moved_lora(self.trainer.model).values())

    build = run.build_trainer

    def watched(*arguments: Any) -> Any:
        trainer = build(*arguments)
        trainer.add_callback(Watch(trainer))
        return trainer

    run.build_trainer = watched
    return seen


if __name__ == "__main__":
    main()
