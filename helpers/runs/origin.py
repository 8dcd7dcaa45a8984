"""What a run's record says of where its policy comes from: recipe, profile and base policy."""

from pathlib import Path

from pydantic import BaseModel, ValidationError

from helpers.core.errors import UserError
from helpers.recipes import Recipe
from helpers.recipes.profiles import Profile
from helpers.runs.load import read_config
from helpers.runs.record import CONFIG


class Origin(BaseModel):
    """The fitted recipe, the profile and the base policy that config.json names.

    A record outlives the version of the project that wrote it: fields unknown today are ignored, missing ones get
    their defaults.
    """

    recipe: Recipe
    profile: Profile
    base_policy: str

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
