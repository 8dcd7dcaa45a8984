"""Load the policy that somebody names: the base policy of a recipe and profile, or the policy of a run.

A run's recipe and profile come from its record, so any run can be evaluated, served or exported without repeating them.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from helpers import recipes
from helpers.core.errors import UserError
from helpers.core.files import shown
from helpers.policy import embedded, lora
from helpers.policy.model import Policy, load, load_tokenizer, prepare
from helpers.recipes import Recipe, memory, profiles
from helpers.recipes.profiles import Profile
from helpers.runs.origin import read_origin


@dataclass(frozen=True)
class RunPolicy:
    """A policy with the fitted recipe and the profile that say how long and in which batches it answers."""

    policy: Policy
    recipe: Recipe
    profile: Profile


def load_base(recipe: Recipe, profile: Profile) -> Policy:
    """The policy a run starts from: the profile's embedded one, or the recipe's hub model."""
    prepare(profile)
    settings = embedded.stand_in(recipe.model_id, profile)
    if settings is not None:
        return embedded.base_policy(settings, profile)
    return load(recipe.model_id, profile)


def describe_base(recipe: Recipe, profile: Profile) -> tuple[Any, int]:
    """Tokenizer and number of parameters of the policy a run starts from, without loading a hub model's weights."""
    if profile.embedded is not None:
        policy = load_base(recipe, profile)
        return policy.tokenizer, policy.model.num_parameters()
    return load_tokenizer(recipe.model_id), memory.shape_of(recipe).parameters()


def load_run_policy(folder: Path, adapter: str | None = "adapter", dtype: str | None = None) -> RunPolicy:
    """The policy of the run in `folder`: `adapter` is `adapter` (the last one), `best`, or None for the base alone.

    `dtype` overrides the profile's precision, 4-bit weights included. Raises `UserError` where there is no such
    adapter, the run needs a GPU that is not here, or its embedded base policy is not the one that is here: an adapter
    means nothing on another base.
    """
    origin = read_origin(folder)
    if adapter is not None:
        lora.require_adapter(folder / adapter)
    if origin.profile.device == "cuda" and not torch.cuda.is_available():
        raise UserError(
            f"{folder}: a run of profile {origin.profile.name} on {origin.base}; it needs a GPU that torch sees, "
            "`python -m helpers doctor` tells what is here"
        )
    profile = replace(origin.profile, dtype=dtype, load_in_4bit=False) if dtype else origin.profile
    policy = load_base(origin.recipe, profile)
    if embedded.fingerprint(Path(policy.source)) != origin.base_policy_sha256:
        raise UserError(
            f"{folder}: started from an embedded policy with other weights than {shown(Path(policy.source))} has now; "
            "use the commit that config.json names"
        )
    if adapter is not None:
        policy = lora.load_adapter(policy, folder / adapter)
    return RunPolicy(policy, origin.recipe, profile)


def find_policy(run: Path | None, best: bool, recipe: str | None, profile: str | None) -> RunPolicy:
    """The policy that a verb's flags name: a run's last or best adapter, or the base policy of recipe and profile."""
    if run is not None:
        if recipe or profile:
            raise UserError("--run brings its own recipe and profile; leave --recipe and --profile out")
        return load_run_policy(run, "best" if best else "adapter")
    if best:
        raise UserError("--best is an adapter of a run; name the run with --run")
    machine = profiles.get(profile or "auto")
    fitted, _ = profiles.fit(recipes.get(recipe or recipes.V41.name), machine)
    return RunPolicy(load_base(fitted, machine), fitted, machine)
