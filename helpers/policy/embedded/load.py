"""Which embedded policy stands for a hub model, and loading it: shipped ones at once, others made where needed."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock

from helpers.core import processes
from helpers.core.errors import UserError
from helpers.core.files import shown
from helpers.policy.embedded import build
from helpers.policy.embedded.build import CACHE, CARD, SHIPPED
from helpers.policy.model import Policy, load
from helpers.recipes import HUB_05B_BASE, HUB_37B
from helpers.recipes.profiles import EmbeddedSettings, Profile
from helpers.runs.record import jsonable


def stand_in(model_id: str, profile: Profile) -> EmbeddedSettings | None:
    """The embedded policy that stands for a hub model on this profile; None where the profile loads the hub's own."""
    if profile.embedded is None:
        return None
    large, base = profile.embedded_large, profile.embedded_base
    return {HUB_37B: large, HUB_05B_BASE: base}.get(model_id, profile.embedded)


def base_policy(settings: EmbeddedSettings, profile: Profile, cache: Path = CACHE) -> Policy:
    """The embedded policy of these settings: the shipped one, or one that is made in `cache` once.

    Raises `UserError` where a policy that ships is not there, or was made with other settings.
    """
    folder = SHIPPED / settings.name if settings.shipped else cache / f"{settings.name}-{build.build_key(settings)}"
    if not settings.shipped and not (folder / CARD).is_file():
        if processes.count() > 1:
            raise UserError(
                "the embedded policy is not made yet: run `python -m helpers evaluate` once, in one process"
            )
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f"{folder.name}.lock")):  # another process may be making it: wait for that one
            if not (folder / CARD).is_file():
                build.make(settings, folder, cache)
    card = read_card(folder)
    if card is None:
        raise UserError(f"{shown(folder)}: no embedded policy; `python -m helpers embedded build` makes it")
    if card.get("settings") != jsonable(asdict(settings)):
        raise UserError(f"{shown(folder)}: made with other settings; `python -m helpers embedded build` makes it anew")
    return load(str(folder), profile, name=f"embedded-{settings.name}")


def fingerprint(folder: Path) -> str | None:
    """The hash of an embedded policy's weights, as its card states it; None for a folder of another kind."""
    card = read_card(folder)
    return card["sha256"] if card else None


def read_card(folder: Path) -> dict[str, Any] | None:
    """What an embedded policy was made of; None where there is none."""
    card = folder / CARD
    return json.loads(card.read_text(encoding="utf-8")) if card.is_file() else None
