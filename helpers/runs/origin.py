"""What a run's record says of where its policy comes from: recipe, profile and base policy."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError, field_validator

from helpers.core.errors import UserError
from helpers.recipes import V4, V41, Recipe, diff, values
from helpers.recipes.profiles import Profile
from helpers.runs.load import read_config
from helpers.runs.record import CONFIG

_DECISIVE = {"name", "model_id", *(change.field for change in diff(V4, V41))}
"""What every record says of its recipe: in these fields recipes have differed from the first one on."""


class Origin(BaseModel):
    """The fitted recipe, the profile and the base policy that config.json names, with the hash of an embedded one.

    A record outlives the version of the project that wrote it: fields unknown today are ignored, and settings that a
    recipe did not have then are V4.1's, which changed nothing.
    """

    recipe: Recipe
    profile: Profile
    base_policy: str
    base_policy_sha256: str | None = None

    @field_validator("recipe", mode="before")
    @classmethod
    def _with_later_settings(cls, recipe: Any) -> Any:
        settings = {key: value for key, value in values(V41).items() if key not in _DECISIVE}
        return settings | recipe if isinstance(recipe, dict) else recipe

    @property
    def base(self) -> str:
        """The base policy as a server is told it: the hub's name, or the folder of an embedded policy."""
        return self.recipe.model_id if self.profile.embedded is None else self.base_policy


def read_origin(folder: Path) -> Origin:
    """Where the policy of the run in `folder` comes from. `UserError` where config.json does not say."""
    try:
        return Origin.model_validate(read_config(folder))
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(str(part) for part in problem["loc"])
        raise UserError(
            f"{folder / CONFIG}: {field}: {problem['msg']}; its policy cannot be loaded by this version of the project"
        ) from error
