"""The sections of the GPU check, each run by `gpu_check.py` in a process of its own.

A process of its own, because Unsloth must be imported first and nothing gives its memory back as surely as its end.
"""

import argparse
import os
import platform
import shutil
import sys
import threading
import time
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import gpu_report as report
import random_policy

sys.path.append(str(Path(__file__).parents[1] / "engines"))
import on_cpu

from helpers import recipes
from helpers.cli.doctor import GIB
from helpers.core import gpus
from helpers.core.errors import UserError
from helpers.core.files import PROJECT_ROOT, write_json
from helpers.core.usage import peak_main_memory_gib
from helpers.recipes import Recipe, memory, profiles
from helpers.recipes.memory import Shape
from helpers.recipes.profiles import Profile
from helpers.training import preflight

CAP_GIB = 22.1
"""What torch sees of an L4."""

SHAPES = {
    "0.5B": memory.SHAPES[recipes.HUB_05B],
    "3.7B": memory.SHAPES[recipes.HUB_37B],
    "tiny": Shape(layers=2, hidden=64, heads=2, kv_heads=1, head_size=32, ffn=128, vocabulary=768),
}
ENGINES = {
    "unsloth-vllm": ("unsloth", True),
    "unsloth": ("unsloth", False),
    "trl-vllm": ("vllm", True),
    "trl": ("transformers", False),
}
"""The backend of `helpers.policy.backends` behind each row, and whether vLLM generates."""

_VERSIONED = ("torch", "transformers", "trl", "peft", "accelerate", "unsloth", "unsloth_zoo", "vllm", "bitsandbytes")


@dataclass(frozen=True)
class Job:
    """One section to run: on which shape, for how many steps and seconds at most, and where its files go."""

    section: str
    shape: str
    steps: int
    seconds: float
    work: Path
    out: Path

    @property
    def on_cpu(self) -> bool:
        """Whether this is the script trying itself out on the CPU."""
        return self.shape == "tiny"


def main() -> int:
    """Run the section that the command line names; its result goes to `--result`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("section", choices=(report.POLICY, *report.SECTIONS))
    parser.add_argument("--shape", choices=tuple(SHAPES), required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    for folder in ("--work", "--out", "--result"):
        parser.add_argument(folder, type=Path, required=True)
    arguments = vars(parser.parse_args())
    result_file = arguments.pop("result")
    try:
        result = {"state": "ran"} | run(Job(**arguments))
    except UserError as error:
        result = {"state": "not run", "reason": str(error)}
    write_json(result_file, result)
    return 0


def run(job: Job) -> dict[str, Any]:
    """The section's numbers, with what they were measured on."""
    measure = {report.POLICY: make_policy, "preflight": check, "learn": learn}.get(job.section, train)
    numbers = measure(job)
    return {"device": device_name(job), "python": platform.python_version(), "versions": versions()} | numbers


def cap(job: Job) -> dict[str, float]:
    """Let this process have no more of the GPU than an L4 has; in GiB, 0 on the CPU. A smaller card is used whole.

    Called after Unsloth is imported, which sets torch's allocator up.
    """
    import torch

    if job.on_cpu:
        return {"cap_gib": 0.0}
    total = torch.cuda.get_device_properties(0).total_memory / GIB
    torch.cuda.set_per_process_memory_fraction(min(1.0, CAP_GIB / total))
    return {"cap_gib": min(CAP_GIB, round(total, 1))}


def make_policy(job: Job) -> dict[str, Any]:
    """Make the random policy of the job's shape, before any section that must import Unsloth first."""
    profile = profile_of(job)
    random_policy.make(policy_folder(job), SHAPES[job.shape], profile.device, profile.dtype)
    return random_policy.facts(policy_folder(job))


def check(job: Job) -> dict[str, Any]:
    """Preflight of the whole recipe, as `python -m helpers preflight` runs it."""
    from helpers.policy import backends

    profile = on_card(profile_of(job))
    backends.begin(profile, backends.choose(profile)[0])
    capped = cap(job)
    checks = preflight.examine(recipe_of(job), profile)
    return {"checks": [vars(each) for each in checks], "policy": random_policy.facts(policy_folder(job))} | capped


def train(job: Job) -> dict[str, Any]:
    """A few steps on the section's backend: their step reports, and whether it samples what is trained."""
    from helpers.policy import backends

    started = time.monotonic()
    recipe, profile, changes = setting(job)
    if job.on_cpu:
        on_cpu.prepare(profile.backend)
    backends.begin(profile, profile.backend)
    if job.on_cpu and profile.backend == "vllm":
        on_cpu.let_weights_be_handed_over()
    capped = cap(job)
    folder = job.out / f"{job.shape}-{job.section}"
    shutil.rmtree(folder, ignore_errors=True)
    with Peak(job.on_cpu) as peak:
        policy = backends.load_policy(recipe, profile, profile.backend)
        from helpers.training import dry_run  # not earlier: the backend says what is imported first

        seen = dry_run.dry_run(recipe, profile, policy, folder, seconds=job.seconds - (time.monotonic() - started))
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    checks = [preflight.check_lora(seen)]
    if seen.log_probs:
        checks += preflight.check_log_probs(seen.log_probs, profile.dtype)
    context = {"policy": random_policy.facts(policy_folder(job)), "changes": changes, "peak_gib": peak.gib}
    return summary(folder, recipe) | {"checks": [vars(each) for each in checks]} | context | capped


def setting(job: Job) -> tuple[Recipe, Profile, list[str]]:
    """The recipe and profile of a backend's section, and what had to be changed for the shape to fit.

    `UserError` where the backend cannot be used here, or where nothing makes the shape fit.
    """
    from helpers.policy import backends

    backend, vllm = ENGINES[job.section]
    lacks = backends.not_installed if job.on_cpu else backends.missing
    for needed in (backend, "vllm") if vllm else (backend,):
        if reason := lacks(needed):
            raise UserError(reason)
    if job.on_cpu and (backend, vllm) == ("unsloth", True):
        raise UserError("on a CPU Unsloth does not use vLLM")
    base = profile_of(job)
    profile = replace(base, backend=backend, vllm_memory_share=base.vllm_memory_share if vllm else 0.0)
    recipe = replace(profiles.fit(recipe_of(job), profile)[0], max_steps=job.steps, warmup_share=0.0)
    if job.on_cpu:
        return recipe, profile, []
    adapted, changes = memory.adapt(recipe, SHAPES[job.shape], profile)
    return recipe, on_card(adapted), [f"{change.field} {change.before} -> {change.after}" for change in changes]


def summary(folder: Path, recipe: Recipe) -> dict[str, Any]:
    """The step reports of the run in `folder`: medians over the steps after the first, where there are any."""
    from helpers.runs import speed
    from helpers.runs.load import load_run

    run = load_run(folder)
    later = run.metrics.dropna(subset=["time/step_s"]).iloc[1:]
    rows = later if len(later) else run.metrics
    step_s = float(rows["time/step_s"].median())
    sampling = [key for key in rows if key.startswith(("train/logp_difference", "train/importance_ratio"))]
    return {
        "steps": run.last_step,
        "step_s": step_s,
        "sampling": {key: [float(rows[key].min()), float(rows[key].max())] for key in sampling},
        "phases": speed.phase_seconds(run).loc[rows.index].median().to_dict(),
        "tokens_per_s": float(rows["time/tokens_per_s"].median()),
        "torch_gib": float(rows["time/peak_memory_gib"].max()),
        "padding_waste": float(rows["train/padding_waste"].mean()),
        "clipped": float(rows["train/clipped_ratio"].mean()),
        "usd_per_1000_steps": report.usd_per_1000_steps(step_s, usd_per_hour()),
        "prompts_per_step": recipe.prompts_per_step,
        "num_generations": recipe.num_generations,
        "limit": recipe.max_completion_length,
    }


class Peak(threading.Thread):
    """The most memory that the whole GPU had in use while this ran, GiB: vLLM's and CUDA's own included."""

    def __init__(self, on_cpu: bool) -> None:
        super().__init__(daemon=True)
        self.on_cpu, self.gib, self.over = on_cpu, 0.0, threading.Event()

    def __enter__(self) -> "Peak":
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.over.set()
        self.join()

    def run(self) -> None:
        """Look four times a second."""
        while not self.over.wait(0.25):
            self.gib = max(self.gib, self.in_use())

    def in_use(self) -> float:
        """GiB in use now; on a CPU the process's own peak."""
        import torch

        if self.on_cpu:
            return peak_main_memory_gib()
        free, total = torch.cuda.mem_get_info()
        return (total - free) / GIB


def learn(job: Job) -> dict[str, Any]:
    """A whole V4.1 run of the embedded policy on this device: its paired gain and its curve."""
    from helpers import plots, training
    from helpers.policy import loading
    from helpers.runs import analysis
    from helpers.runs.load import load_run

    profile, folder = learning_profile(job), job.work / "learn"
    capped = cap(job)
    base = loading.load_base(recipes.V41, profile)
    shutil.rmtree(folder, ignore_errors=True)
    started = time.monotonic()
    training.train_grpo(training.plan_run(recipes.V41, profile, folder))
    seconds = time.monotonic() - started
    run = load_run(folder)
    kept = job.out / f"{job.shape}-learn"
    kept.mkdir(parents=True, exist_ok=True)
    for record in folder.glob("*.jsonl"):
        shutil.copy(record, kept)
    write_json(kept / "config.json", run.config | {"command": 'make gpu-check SECTIONS="learn"'})
    plots.eval_curves([run]).savefig(job.out / report.CURVE)
    gains = analysis.gains(run, "eval", "sample")
    return {
        "steps": run.last_step,
        "seconds": seconds,
        "parameters": base.model.num_parameters(),
        "gains": {task: gain.difference.signed() for task, gain in gains.items()},
        "gain_low": gains[analysis.ALL].difference.low,
    } | capped


def policy_folder(job: Job) -> Path:
    """Where the random policy of the job's shape lies."""
    return job.work / f"policy-{job.shape}"


def recipe_of(job: Job) -> Recipe:
    """V4.1, or V4.2A for the 3.7B shape (8 completions of 1,024 tokens), on the random policy."""
    recipe = recipes.get("v4.2a" if job.shape == "3.7B" else "v4.1")
    return replace(recipe, model_id=os.path.relpath(policy_folder(job), PROJECT_ROOT))


def profile_of(job: Job) -> Profile:
    """The L4's profile, on whatever GPU this is."""
    if job.on_cpu:
        return replace(profiles.get("smallest"), embedded=None, vllm_memory_share=0.3)
    return profiles.get("l4")


def on_card(profile: Profile) -> Profile:
    """`profile` with vLLM's share of the capped memory turned into its share of the whole card."""
    installed, _ = gpus.find()
    if profile.device != "cuda" or not installed[0].gib:
        return profile
    return replace(profile, vllm_memory_share=profile.vllm_memory_share * min(1.0, CAP_GIB / installed[0].gib))


def learning_profile(job: Job) -> Profile:
    """The embedded policy's profile, computed on the GPU, where larger batches cost nothing."""
    if job.on_cpu:
        return profiles.get("smallest")
    return replace(profiles.get("cpu"), device="cuda", threads=4, eval_batch=260)


def device_name(job: Job) -> str:
    """The GPU's name, or the processor's."""
    if job.on_cpu:
        return f"CPU, {platform.machine()}"
    import torch

    return torch.cuda.get_device_name(0)


def usd_per_hour() -> float:
    """The list price of this machine's GPU; 0 where none is known."""
    installed, _ = gpus.find()
    if not installed:
        return 0.0
    name, reason = profiles.choose(installed[0])
    return 0.0 if "not a card we know" in reason else profiles.get(name).usd_per_hour


def versions() -> dict[str, str]:
    """The versions of the installed packages that decide the numbers."""
    installed = {
        name.lower().replace("-", "_") for names in metadata.packages_distributions().values() for name in names
    }
    return {name: metadata.version(name) for name in _VERSIONED if name in installed}


if __name__ == "__main__":
    raise SystemExit(main())
