"""Scenario C: one fix for the weakest task, trained from the same base policy as V4.1."""

from pathlib import Path

from helpers import recipes
from helpers.recipes.profiles import Profile
from helpers.tasks.pairs.build import write_extra_pairs
from helpers.tasks.shop.schema import DB_PATH
from helpers.training.run import train_or_reuse
from helpers.training.track import OnEval

EXTRA_PAIRS = 200
EXTRA_WHERE = "sentiment='negative'"
"""The handoff's expansion of insights: 200 more pairs (148 -> about 350) from orders with negative reviews."""


def apply_fix(task: str, profile: Profile, runs: Path, seed: int = 0, on_eval: OnEval | None = None) -> Path | None:
    """Train or reuse scenario C's recipe for `task` in `runs`; None for sql_qa, whose fix is routing, not training.

    Additional insights pairs are first written to `runs`, from `data/commerce.db`.
    """
    recipe = recipes.FIXES[task]
    if recipe is None:
        return None
    extra = None
    if recipe.extra_pairs:
        extra = runs / f"extra-{recipe.extra_pairs}.jsonl"
        write_extra_pairs(extra, DB_PATH, recipe.extra_pairs, EXTRA_PAIRS, EXTRA_WHERE)
    return train_or_reuse(recipe, profile, runs / recipe.name, seed=seed, on_eval=on_eval, extra=extra)
