"""`python -m helpers train`: one GRPO run from a recipe, with its run record."""

import argparse
import shlex
import signal
import sys
from dataclasses import replace
from pathlib import Path

from helpers.core import interrupts, processes
from helpers.core.errors import RunError
from helpers.core.files import PROJECT_ROOT, shown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    parser.add_argument("--recipe", default="v4.1", help="v4, v4.1 (default), v4.2a, v4.2b ...: see docs/reference.md")
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
    """Train, then print the paired gain over the base policy and where the seconds of a step went.

    Exit codes beside the usual ones: 1 where the run failed, 143 and 130 where SIGTERM or Ctrl-C ended it.
    """
    try:
        with interrupts.handled():
            return _train(args)
    except RunError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as error:
        number = error.number if isinstance(error, interrupts.Interrupted) else signal.SIGINT
        if processes.is_first():
            print(f"\ninterrupted ({signal.Signals(number).name}); go on with\n{resume_command(args)}", file=sys.stderr)
        return 128 + number


def resume_command(args: argparse.Namespace) -> str:
    """What to type to go on with an interrupted run."""
    command = ["python", "-m", "helpers", "train"]
    for name in ("recipe", "profile", "backend", "seed", "out", "extra"):
        if getattr(args, name) is not None:
            command += [f"--{name}", str(getattr(args, name))]
    return shlex.join([*command, *(["--stop", *args.stop] if args.stop else []), "--resume"])


def _train(args: argparse.Namespace) -> int:
    from helpers import recipes, training
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
    if not processes.is_first() or plan.left == "nothing":
        return 0
    run = load_run(folder)
    for mode in generation.MODES:
        for task, gain in analysis.gains(run, "eval", mode).items():
            print(f"{mode:<7} {task:<11} {gain.before} -> {gain.after}, paired gain {gain.difference.signed()}")
    print(speed.phase_table(run).to_string(index=False, header=False))
    print(f"run record: {shown(folder)}")
    return 0
