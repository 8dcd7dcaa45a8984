"""What makes two runs the same run, and whether the one in a folder came to its end."""

import json
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

from helpers import recipes
from helpers.core.errors import UserError
from helpers.core.files import read_jsonl
from helpers.recipes import Recipe
from helpers.recipes.profiles import Profile
from helpers.runs.record import CONFIG, EVENTS, has_ended


def identity(recipe: Recipe, profile: Profile, seed: int, pairs: Path, extra: Path | None = None) -> dict[str, Any]:
    """Recipe, profile, seed and the bytes of the pairs (and of the extra ones): the first part of config.json."""
    files = [*sorted(pairs.glob("*.jsonl")), *([extra] if extra else [])]
    return {
        "name": recipe.name,
        "recipe": recipes.values(recipe),
        "profile": asdict(profile),
        "seed": seed,
        "data": {path.name: sha256(path.read_bytes()).hexdigest() for path in files},
    }


def require_same_run(folder: Path, wanted: dict[str, Any]) -> None:
    """`UserError` naming what differs where the run in `folder` is not the one that `wanted` identifies."""
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    different = [key for key, value in wanted.items() if config.get(key) != value]
    if different:
        raise UserError(f"{folder}: holds a run with another {', '.join(different)}; give another folder or remove it")


def is_finished(folder: Path) -> bool:
    """Whether the run record in `folder` says that its run came to its end."""
    events = folder / EVENTS
    return events.is_file() and has_ended(row for _, row in read_jsonl(events))
