"""The plan of a run: everything that is decided, and checked, before a policy is loaded."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from helpers.core import locks, processes
from helpers.core.errors import UserError
from helpers.core.files import shown
from helpers.policy import backends, generation, loading
from helpers.recipes import Change, Recipe, profiles
from helpers.recipes.profiles import Profile
from helpers.runs.record import CONFIG, EVENTS, identity, require_same_run
from helpers.tasks.records import PAIRS_DIR, Rows, load_records, load_split
from helpers.training import checkpoints, failures
from helpers.training.resume import Left, look, say_processes_changed

LOCK = "run.lock"
"""The file in a run's folder that the process which trains there holds locked."""
_SEEDS = 2**32
"""What NumPy takes as a seed is below this."""


@dataclass(frozen=True)
class Plan:
    """One run to be: `plan_run` makes it from what a user gives.

    `recipe` is already fitted to `profile`, which made `changes`; `backend_reason` is the line that says which backend
    was chosen and why. `splits` hold the records to train on and to answer; `identity` is what makes two runs the same
    run. `checkpoint` is the one to resume from, None for a run that starts; `left` is the first thing that is left to
    do, and `events_size` how long events.jsonl was when that was seen, in bytes.
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
    left: Left = "training"
    events_size: int = 0

    @property
    def first_step(self) -> int:
        """The step that training starts from: the checkpoint's, else 0."""
        return checkpoints.step_of(self.checkpoint) if self.checkpoint else 0

    @property
    def source(self) -> str:
        """Where the policy that the run starts from lies: the hub's name, or an embedded policy's folder."""
        return self.base[1]

    @cached_property
    def base(self) -> tuple[str, str]:
        """Name and source of that policy; an embedded one is made where it does not exist yet."""
        if self.profile.embedded is None:
            return Path(self.recipe.model_id).name, self.recipe.model_id
        policy = loading.load_base(self.recipe, self.profile)
        return policy.name, policy.source

    @property
    def resume_from(self) -> str | None:
        """What `trainer.train` takes as `resume_from_checkpoint`."""
        return str(self.checkpoint) if self.checkpoint else None

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

    `extra` is a file of additional training records, for a recipe that needs them. `resume` takes the newest whole
    checkpoint in `folder`, if there is one, and plans what is left to do.
    Raises `UserError` where records are missing, malformed or not what the recipe needs, where `folder` holds a run
    and `resume` is off, where it holds a different run or no checkpoint that loads, where a process trains in it, or
    where the processes of this launch cannot share a step's completions evenly.
    """
    if not 0 <= seed < _SEEDS:
        raise UserError(f"seed {seed}: a seed is a whole number from 0 to {_SEEDS - 1}")
    if processes.is_first():  # of several processes of one launch, the first one may hold it already
        locks.require_free(folder / LOCK)
    fitted, changes = profiles.fit(recipe, profile)
    _require_even_shares(fitted, processes.count())
    splits = load_splits(fitted, profile, pairs, _load_extra(fitted, extra))
    run_identity = identity(fitted, profile, seed, pairs, extra)
    if (folder / CONFIG).exists():
        if not resume:
            raise UserError(f"{folder}: already holds a run; give another --out, or --resume to go on with it")
        require_same_run(folder, run_identity)
    elif checkpoints.numbered(folder):
        raise UserError(f"{folder}: holds checkpoints but no {CONFIG}; restore that file, or give another folder")
    left, checkpoint = look(folder, fitted.max_steps) if resume else ("training", None)
    if checkpoint and left == "training":
        say_processes_changed(checkpoint)
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
        checkpoint=checkpoint,
        left=left,
        events_size=_size(folder / EVENTS),
    )


def load_splits(
    recipe: Recipe, profile: Profile, pairs: Path = PAIRS_DIR, extra: Rows | None = None
) -> dict[str, Rows]:
    """By split, the records that a run of the fitted `recipe` shows, `extra` among them, and those that it answers."""
    train = [*load_split("train", pairs), *(extra or [])]
    splits = {"train": [record for record in train if recipe.only_task in ("", record["task"])]}
    for split in ("eval", "test"):
        splits[split] = _first_per_task(load_split(split, pairs), profile.eval_records)
    return splits


@contextmanager
def at_work(plan: Plan) -> Iterator[None]:
    """Hold the lock of the plan's folder for the length of the block, and record an error that ends it.

    Of several processes the first one holds it for all. Raises `UserError` where another process trains there, or has
    done so since the plan was made; else as `failures.recorded`.
    """
    processes.wait()  # every process has seen whether the folder holds a run before the first one writes to it
    with locks.hold(plan.folder / LOCK) if processes.is_first() else nullcontext():
        if processes.is_first() and _size(plan.folder / EVENTS) != plan.events_size:
            raise UserError(f"{shown(plan.folder)}: another training was here since this one was planned; start again")
        with failures.recorded(plan.folder):
            yield


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


def _require_even_shares(recipe: Recipe, count: int) -> None:
    """`UserError` naming the numbers of processes that are possible where `count` cannot share the recipe's batches."""
    batches = {"completions of a step": recipe.completions_per_step, "pairs of a warm-up batch": recipe.sft_batch}
    for what, size in batches.items():
        if size % count:
            *others, last = [str(possible) for possible in range(1, size + 1) if size % possible == 0]
            raise UserError(
                f"recipe {recipe.name}: {count} processes cannot share the {size} {what} evenly; "
                f"launch {', '.join(others)} or {last}"
            )


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _first_per_task(records: Rows, limit: int) -> Rows:
    """The first `limit` records of each task, in file order."""
    taken: Counter[str] = Counter()
    kept = []
    for record in records:
        if taken[record["task"]] < limit:
            taken[record["task"]] += 1
            kept.append(record)
    return kept
