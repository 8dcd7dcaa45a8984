"""`python -m helpers preflight`: what would spoil a long run, checked before it."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    parser.add_argument("--recipe", default="v4.1", help="the recipe to be run (default v4.1)")
    parser.add_argument("--profile", default="auto", help="the machine to be run on (default auto: this one)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the two steps (default 0)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the checks to FILE")


def run(args: argparse.Namespace) -> int:
    """Print every check as soon as it is done; 1 where one is off."""
    from helpers import recipes
    from helpers.cli import doctor
    from helpers.cli.common import require_seed
    from helpers.core.files import write_text
    from helpers.recipes import profiles
    from helpers.training import preflight

    require_seed(args.seed)
    recipe, profile = recipes.get(args.recipe), profiles.get(args.profile)
    print(f"recipe {recipe.name} on profile {profile.name}")
    checks = []
    for check in preflight.examine(recipe, profile, seed=args.seed):
        checks.append(check)
        print(f"{check.state:<5} {check.name:<22} {preflight.finding(check)}", flush=True)
    if args.json:
        write_text(args.json, doctor.as_json(checks) + "\n")
    off = [check.name for check in checks if check.state == "off"]
    print(f"off: {', '.join(off)}" if off else f"{len(checks)} checks, none off")
    return int(bool(off))
