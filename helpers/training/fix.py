"""Scenario C: one fix for the weakest task, trained from the same base policy as V4.1."""

from collections.abc import Callable
from pathlib import Path

from helpers import recipes
from helpers.recipes.profiles import Profile
from helpers.tasks.pairs.build import write_extra_pairs
from helpers.tasks.shop.schema import DB_PATH
from helpers.training.trainer import train_or_reuse

EXTRA_PAIRS = 200
EXTRA_WHERE = "sentiment='negative'"
"""The handoff's expansion of insights: 200 more pairs (148 -> about 350) from orders with negative reviews."""


def apply_fix(
    task: str, profile: Profile, runs: Path, seed: int = 0, on_eval: Callable[[Path], None] | None = None
) -> Path | None:
    """Train scenario C's recipe for `task` in `runs` (a finished one is used as it is); None where the fix is no
    training: sql_qa is accepted and routed.

    More insights pairs are written to `runs` first, from `data/commerce.db`.
    """
    recipe = recipes.FIXES[task]
    if recipe is None:
        return None
    extra = None
    if recipe.extra_pairs:
        extra = runs / f"extra-{recipe.extra_pairs}.jsonl"
        write_extra_pairs(extra, DB_PATH, recipe.extra_pairs, EXTRA_PAIRS, EXTRA_WHERE)
    return train_or_reuse(recipe, profile, runs / recipe.name, seed=seed, on_eval=on_eval, extra=extra)
