"""What is trained, and on what machine: recipes, hardware profiles, the memory plan."""

from helpers.recipes.recipe import (
    FIXES,
    HUB_05B,
    HUB_05B_BASE,
    HUB_37B,
    RECIPES,
    V4,
    V41,
    V42A,
    V42B,
    V42B_COLD,
    V42C_INSIGHTS,
    Change,
    Recipe,
    coverage,
    diff,
    get,
    learning_rates,
    parser_of,
    values,
    warmup_steps,
)
