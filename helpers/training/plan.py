"""The plan of a run: everything that is decided, and checked, before a policy is loaded."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helpers.core.errors import UserError
from helpers.policy import backends, generation
from helpers.recipes import Change, Recipe, profiles
from helpers.recipes.profiles import Profile
from helpers.runs.record import CONFIG, identity, require_same_run
from helpers.tasks.records import PAIRS_DIR, Rows, load_records, load_split

_CHECKPOINT_FILES = ("trainer_state.json", "adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth")


@dataclass(frozen=True)
class Plan:
    """One run to be: `plan_run` makes it from what a user gives.

    `recipe` is already fitted to `profile`, which made `changes`; `backend_reason` is the line that says which backend
    was chosen and why. `splits` hold the records to train on and to answer; `identity` is what makes two runs the same
    run. `checkpoint` is the one to resume from, None for a run that starts.
    """

    recipe: Recipe
    profile: Profile
    folder: Path
    seed: int = 0
    backend: str = "transformers"
    backend_reason: str = ""
    changes: Sequence[Change] = ()
    splits: dict[str, Rows] = field(default_factory=dict, repr=False)
    identity: dict[str, Any] = field(default_factory=dict, repr=False)
    pairs: Path = PAIRS_DIR
    checkpoint: Path | None = None

    @property
    def first_step(self) -> int:
        """The step that training starts from: the checkpoint's, else 0."""
        return _step_of(self.checkpoint) if self.checkpoint else 0

    @property
    def settings(self) -> generation.Settings:
        """How the run's evaluations sample and score."""
        return generation.settings_for(self.recipe, self.profile)


def plan_run(
    recipe: Recipe,
    profile: Profile,
    folder: Path,
    seed: int = 0,
    resume: bool = False,
    pairs: Path = PAIRS_DIR,
    extra: Path | None = None,
) -> Plan:
    """Plan `recipe` as `profile` can run it, to be recorded in `folder`.

    `extra` is a file of additional training records, for a recipe that needs them. `resume` takes the newest complete
    checkpoint in `folder`, if there is one.
    Raises `UserError` where records are missing, malformed or not what the recipe needs, where `folder` holds a run
    and `resume` is off, or where it holds a different run.
    """
    fitted, changes = profiles.fit(recipe, profile)
    train = [*load_split("train", pairs), *_load_extra(fitted, extra)]
    splits = {"train": [record for record in train if fitted.only_task in ("", record["task"])]}
    for split in ("eval", "test"):
        splits[split] = _first_per_task(load_split(split, pairs), profile.eval_records)
    run_identity = identity(fitted, profile, seed, pairs, extra)
    if (folder / CONFIG).exists():
        if not resume:
            raise UserError(f"{folder}: already holds a run; give another --out, or --resume to go on with it")
        require_same_run(folder, run_identity)
    backend, reason = backends.choose(profile)
    return Plan(
        recipe=fitted,
        profile=profile,
        folder=folder,
        seed=seed,
        backend=backend,
        backend_reason=reason,
        changes=changes,
        splits=splits,
        identity=run_identity,
        pairs=pairs,
        checkpoint=_newest_checkpoint(folder) if resume else None,
    )


def _load_extra(recipe: Recipe, extra: Path | None) -> Rows:
    """The records of `extra`; `UserError` where the recipe needs other ones, or none."""
    task = recipe.extra_pairs
    if not task:
        if extra is not None:
            raise UserError(f"recipe {recipe.name} takes no extra pairs")
        return []
    if extra is None:
        raise UserError(
            f"recipe {recipe.name} needs more {task} pairs: make them with `python -m helpers pairs "
            f"--task {task} --add 200`, then give the file as --extra"
        )
    records = load_records(extra)
    others = {record["task"] for record in records} - {task}
    if others:
        raise UserError(f"{extra}: {', '.join(sorted(others))} records; recipe {recipe.name} adds {task}")
    return records


def _first_per_task(records: Rows, limit: int) -> Rows:
    """The first `limit` records of each task, in file order."""
    taken: Counter[str] = Counter()
    kept = []
    for record in records:
        if taken[record["task"]] < limit:
            taken[record["task"]] += 1
            kept.append(record)
    return kept


def _newest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that has all its files; resuming from a half-written one would reset the optimiser."""
    complete = [
        checkpoint
        for checkpoint in (folder / "checkpoints").glob("checkpoint-*")
        if all((checkpoint / name).is_file() for name in _CHECKPOINT_FILES)
    ]
    return max(complete, key=_step_of, default=None)


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rsplit("-", 1)[1])
