"""The policy of a run: the base it started from with the adapter it trained, as its config.json says.

The one place where a run folder becomes something that answers. Recipe and profile come from the record, so that any
run can be evaluated, served or exported whatever it was; nothing needs to be repeated on the command line.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import BaseModel, ValidationError

from helpers import recipes
from helpers.core.errors import UserError
from helpers.policy import loading
from helpers.policy.loading import Policy
from helpers.recipes import Recipe, profiles
from helpers.recipes.profiles import Profile
from helpers.runs.load import read_config
from helpers.runs.record import CONFIG
from helpers.tasks.records import PAIRS_DIR


class Origin(BaseModel):
    """What config.json says of where a run's policy comes from: the fitted recipe, the profile, the base policy.

    Fields that today's recipes and profiles do not have are left out, those they have beyond the record get their
    defaults: a record outlives the version of the project that wrote it.
    """

    recipe: Recipe
    profile: Profile
    base_policy: str

    @property
    def base(self) -> str:
        """The base policy as a server is told it: the hub's name, or the folder of an embedded policy."""
        return self.recipe.model_id if self.profile.embedded is None else self.base_policy


@dataclass(frozen=True)
class RunPolicy:
    """A policy that answers, with the fitted recipe and the profile that say how long and in which batches."""

    policy: Policy
    recipe: Recipe
    profile: Profile


def read_origin(folder: Path) -> Origin:
    """Where the policy of the run in `folder` comes from. `UserError` where config.json does not tell."""
    config = read_config(folder)
    try:
        return Origin.model_validate(config)
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(str(part) for part in problem["loc"])
        raise UserError(
            f"{folder / CONFIG}: {field}: {problem['msg']}; its policy cannot be loaded by this version of the project"
        ) from error


def load_run_policy(
    folder: Path, adapter: str | None = "adapter", pairs: Path = PAIRS_DIR, dtype: str | None = None
) -> RunPolicy:
    """The policy of the run in `folder`: `adapter` is `adapter` (the last one), `best`, or None for the base alone.

    `dtype` names the weights' precision where it is not to be the profile's, 4-bit ones included.

    Raises `UserError` where there is no such adapter, where the run needs a GPU that is not here, or where its embedded
    base policy is not the one that `pairs` make today: an adapter means nothing on another base.
    """
    origin = read_origin(folder)
    if adapter is not None:
        loading.require_adapter(folder / adapter)
    _require_device(folder, origin)
    profile = replace(origin.profile, dtype=dtype, load_in_4bit=False) if dtype else origin.profile
    policy = loading.load_base(origin.recipe, profile, pairs)
    made = Path(policy.source).name
    if origin.profile.embedded is not None and made != Path(origin.base_policy).name:
        raise UserError(
            f"{folder}: started from the base policy {origin.base_policy}, but this version makes {made} of "
            f"{pairs / 'train.jsonl'}; use the pairs and the commit that config.json names"
        )
    if adapter is not None:
        policy = loading.load_adapter(policy, folder / adapter)
    return RunPolicy(policy, origin.recipe, profile)


def find_policy(run: Path | None, best: bool, recipe: str | None, profile: str | None) -> RunPolicy:
    """What a verb's flags mean: a run's last or best adapter, or without a run the base policy of recipe and profile.

    Raises `UserError` for flags that contradict each other: a run brings its own recipe and profile.
    """
    if run is not None:
        if recipe or profile:
            raise UserError("--run brings its own recipe and profile; leave --recipe and --profile out")
        return load_run_policy(run, "best" if best else "adapter")
    if best:
        raise UserError("--best is an adapter of a run; name the run with --run")
    machine = profiles.get(profile or "auto")
    fitted, _ = profiles.fit(recipes.get(recipe or recipes.V41.name), machine)
    return RunPolicy(loading.load_base(fitted, machine), fitted, machine)


def _require_device(folder: Path, origin: Origin) -> None:
    import torch

    if origin.profile.device == "cuda" and not torch.cuda.is_available():
        raise UserError(
            f"{folder}: a run of profile {origin.profile.name} on {origin.base}; it needs a GPU that torch sees, "
            "`python -m helpers doctor` tells what is here"
        )
