"""Scenario C: one fix for the weakest task, trained from the same base policy as V4.1."""

from pathlib import Path

from helpers.core.files import database_path
from helpers.recipes import Recipe
from helpers.tasks.pairs.build import write_extra_pairs

EXTRA_PAIRS = 200
EXTRA_WHERE = "sentiment='negative'"
"""The handoff's expansion of insights: 200 more pairs (148 -> about 350) from orders with negative reviews."""


def extra_pairs(recipe: Recipe, runs: Path) -> Path | None:
    """The file of the additional training pairs that the recipe needs, written to `runs` from the database; None where
    it needs none."""
    if not recipe.extra_pairs:
        return None
    extra = runs / f"extra-{recipe.extra_pairs}.jsonl"
    write_extra_pairs(extra, database_path(), recipe.extra_pairs, EXTRA_PAIRS, EXTRA_WHERE)
    return extra
