"""`python -m helpers train`: one GRPO run from a recipe, with its run record."""

import argparse
from dataclasses import replace
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    parser.add_argument("--recipe", default="v4.1", help="v4, v4.1 (default), v4.2a, v4.2b, v4.2c ...: see README")
    parser.add_argument("--profile", default="auto", help="cpu, smallest, l4, or auto (default): what this machine is")
    parser.add_argument(
        "--backend",
        choices=("auto", "unsloth", "vllm", "transformers"),
        default="auto",
        help="what computes and generates: the profile's backend, or the first usable one after it (default auto)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of LoRA, data order and sampling (default 0)")
    parser.add_argument("--out", type=Path, help="the run's folder (default runs/<recipe>-<profile>-seed<seed>)")
    parser.add_argument("--extra", type=Path, help="additional training records, for a recipe that needs them")
    parser.add_argument("--stop", nargs="*", default=[], metavar="RULE", help="stop rules that end the run (all warn)")
    parser.add_argument("--resume", action="store_true", help="resume from the newest complete checkpoint in --out")


def run(args: argparse.Namespace) -> int:
    """Train, then print the paired gain over the base policy and where the seconds of a step went."""
    from helpers import recipes, training
    from helpers.core import processes
    from helpers.core.files import PROJECT_ROOT, shown
    from helpers.policy import backends, generation
    from helpers.recipes import profiles
    from helpers.runs import analysis, speed
    from helpers.runs.load import load_run

    recipe, profile = recipes.get(args.recipe), profiles.get(args.profile)
    if args.backend != "auto":
        backends.require(args.backend)
        profile = replace(profile, backend=args.backend)
    folder = args.out or PROJECT_ROOT / "runs" / f"{recipe.name}-{profile.name}-seed{args.seed}"
    plan = training.plan_run(recipe, profile, folder, seed=args.seed, resume=args.resume, extra=args.extra)
    training.train_grpo(plan, stop=args.stop)
    if not processes.is_first():
        return 0
    run = load_run(folder)
    for mode in generation.MODES:
        for task, gain in analysis.gains(run, "eval", mode).items():
            print(f"{mode:<7} {task:<11} {gain.before} -> {gain.after}, paired gain {gain.difference.signed()}")
    print(speed.phase_table(run).to_string(index=False, header=False))
    print(f"run record: {shown(folder)}")
    return 0
