"""Recipes: every hyperparameter of a GRPO run, each beside the place it comes from.

V4 is written out whole, every other recipe as what differs from an earlier one; `python -m helpers recipe NAME` prints
any of them whole. A recipe names no hardware: `helpers.recipes.profiles` turns one into what a machine can run.
"""

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from helpers.core.errors import require_known
from helpers.rewards import parser_of
from helpers.tasks import ROWS, TASKS

HUB_05B = "Polygl0t/Tucano2-qwen-0.5B-Instruct"
HUB_05B_BASE = "Polygl0t/Tucano2-qwen-0.5B-Base"
HUB_37B = "Polygl0t/Tucano2-qwen-3.7B-Instruct"


@dataclass(frozen=True)
class Recipe:
    """The hyperparameters of one GRPO run. Lengths are tokens, `warmup_share` is a share of `max_steps`.

    `version` is the reward version; it brings its parser with it (`v4`: the old regex, `v4.1`: the tolerant one).
    A recipe with an `sft_task` begins with supervised training on that task's pairs; `extra_pairs` names the task of
    which it needs more training records than the train split holds; GRPO sees prompts of `only_task`, or of all tasks.
    `sources` says for each field where its value comes from.
    """

    name: str
    model_id: str
    version: str
    max_steps: int
    learning_rate: float
    lr_schedule: str
    warmup_share: float
    prompts_per_step: int
    num_generations: int
    max_completion_length: int
    max_seq_length: int
    temperature: float
    top_p: float
    top_k: int
    repetition_penalty: float
    beta: float
    scale_rewards: bool
    loss_type: str
    epsilon: float
    num_iterations: int
    lora_r: int
    lora_alpha: int
    lora_dropout: float
    weight_decay: float
    max_grad_norm: float
    sft_task: str
    sft_epochs: float
    sft_learning_rate: float
    sft_batch: int
    extra_pairs: str
    only_task: str
    sources: dict[str, str] = field(default_factory=dict, compare=False, repr=False)

    @property
    def parser(self) -> str:
        """The parser that the recipe's rewards use."""
        return parser_of(self.version)

    @property
    def completions_per_step(self) -> int:
        """Completions in one optimiser step: prompts times group size. TRL calls this number the batch."""
        return self.prompts_per_step * self.num_generations

    def expected_prompts(self) -> int:
        """Prompts that a whole run shows the policy, repeats counted."""
        return self.prompts_per_step * self.max_steps


@dataclass(frozen=True)
class Change:
    """One field in which two recipes differ, and why the second has its value."""

    field: str
    before: Any
    after: Any
    source: str


_ON = "-on-"
_UNCHANGED = "handoff, V4.1 config summary: unchanged from V4"
_NO_SFT = "the instruct model is trained with GRPO at once"


def _recipe(name: str, base: Recipe | None = None, **rows: tuple[Any, str]) -> Recipe:
    """A recipe from one (value, source) row per field, or per field in which it differs from `base`."""
    fields = {key: value for key, (value, _) in rows.items()}
    sources = {key: source for key, (_, source) in rows.items()}
    if base is None:
        return Recipe(name=name, sources=sources, **fields)
    return replace(base, name=name, sources=base.sources | sources, **fields)


V4 = _recipe(
    "v4",
    model_id=(HUB_05B, "handoff, context: the 0.5B instruct model"),
    version=("v4", "handoff, V4.1 change 1: V4 scored with the regex parser"),
    max_steps=(200, "handoff, V4.1 change 2: was 200"),
    learning_rate=(2e-6, "handoff, V4.1 change 4: was 2e-6"),
    lr_schedule=("cosine", "handoff, V4.1 change 3: was cosine"),
    warmup_share=(0.1, "handoff, V4.1 config summary: was 0.1"),
    prompts_per_step=(
        2,
        "handoff, change 2: 2 prompts per step. As V4 ran, BATCH_SIZE = 2 counted completions and was raised to one "
        "group: one prompt per step, hence its 13.5 % of an epoch",
    ),
    num_generations=(16, _UNCHANGED),
    max_completion_length=(512, _UNCHANGED),
    max_seq_length=(2048, "handoff, scenario A: 2048, unchanged"),
    temperature=(1.0, _UNCHANGED),
    top_p=(1.0, "explicit: the hub model's own generation config would restrict sampling"),
    top_k=(0, "explicit: the hub model's own generation config says 50; 0 switches it off"),
    repetition_penalty=(
        1.0,
        "explicit: the hub model's own generation config says 1.2, which rollouts must not inherit",
    ),
    beta=(0.0, _UNCHANGED),
    scale_rewards=(False, _UNCHANGED),
    loss_type=("dr_grpo", "Dr. GRPO (arXiv 2503.20783): with scale_rewards off, no length or difficulty bias"),
    epsilon=(0.2, "TRL default, written out"),
    num_iterations=(1, "TRL default, written out: one update per generation, strictly on-policy"),
    lora_r=(16, _UNCHANGED),
    lora_alpha=(32, _UNCHANGED),
    lora_dropout=(0.0, "explicit: rollouts and log-probabilities must come from the same network"),
    weight_decay=(0.0, "TRL default, written out (Unsloth would change it)"),
    max_grad_norm=(1.0, "TRL default, written out"),
    sft_task=("", _NO_SFT),
    sft_epochs=(0.0, _NO_SFT),
    sft_learning_rate=(0.0, _NO_SFT),
    sft_batch=(0, _NO_SFT),
    extra_pairs=("", "the train split as it is"),
    only_task=("", "all tasks, as they come"),
)

V41 = _recipe(
    "v4.1",
    V4,
    version=("v4.1", "handoff, V4.1 change 1: the parser fix; weights as in V4"),
    max_steps=(600, "handoff, V4.1 change 2: 600"),
    lr_schedule=("constant_with_warmup", "handoff, V4.1 change 3: constant after warm-up"),
    warmup_share=(0.05, "handoff, V4.1 change 3: 5 %, 30 steps of 600"),
    learning_rate=(5e-6, "handoff, V4.1 change 4: 5e-6"),
)

V42A = _recipe(
    "v4.2a",
    V41,
    model_id=(HUB_37B, "handoff, scenario A: scale to 3.7B-Instruct"),
    num_generations=(8, "handoff, scenario A: memory at 3.7B (was 16)"),
    max_completion_length=(1024, "handoff, scenario A: 3.7B can afford richer output (was 512)"),
    learning_rate=(2e-6, "handoff, scenario A: a larger model takes a smaller rate (was 5e-6)"),
    max_steps=(400, "handoff, scenario A: a larger model needs fewer steps (was 600)"),
)

V42B = _recipe(
    "v4.2b",
    V41,
    model_id=(HUB_05B_BASE, "handoff, scenario B: 0.5B-Base, no preference training and no SFT"),
    sft_task=("extraction", "handoff, scenario B: extraction pairs only, loss on assistant turns only"),
    sft_epochs=(1.0, "handoff, scenario B: one epoch"),
    sft_learning_rate=(2e-4, "QLoRA's rate for small models (arXiv 2305.14314, table 9); the handoff names none"),
    sft_batch=(4, "ours: about 150 updates in the epoch; the handoff names none"),
)

_COLD = "ours: the same GRPO without warm-up, to see what it brings"
V42B_COLD = _recipe(
    "v4.2b-cold",
    V42B,
    sft_task=("", _COLD),
    sft_epochs=(0.0, _COLD),
    sft_learning_rate=(0.0, _COLD),
    sft_batch=(0, _COLD),
)

V42C = _recipe(
    "v4.2c",
    V41,
    version=(
        "v4.2-extraction",
        "handoff, scenario C, if extraction lags: score field values, not field presence; the other tasks keep v4.1",
    ),
)
V42C_INSIGHTS = _recipe(
    "v4.2c-insights",
    V41,
    extra_pairs=("insights", "handoff, scenario C, if insights lags: 200 more pairs from orders with negative reviews"),
)
V42C_PUSH = _recipe(
    "v4.2c-push",
    V41,
    version=(
        "v4.2-push",
        "ours, as the handoff names no fix for push: its facts are scored too; the other tasks keep v4.1",
    ),
)

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe for recipe in (V4, V41, V42A, V42B, V42B_COLD, V42C, V42C_INSIGHTS, V42C_PUSH)
}

FIXES: dict[str, Recipe | None] = {row.name: RECIPES[row.fix_recipe] if row.fix_recipe else None for row in ROWS}
"""Scenario C's fix for each lagging task. sql_qa has no recipe: the handoff accepts it and routes it to 3.7B."""


def get(name: str) -> Recipe:
    """The recipe called `name`, which may end in the one task it is shown; `UserError` lists the valid names.

    >>> get("v4.2c").only_task, get("v4.2c-on-extraction").only_task
    ('', 'extraction')
    """
    whole, mark, task = name.partition(_ON)
    require_known("recipe", whole, tuple(RECIPES))
    return on(RECIPES[whole], task) if mark else RECIPES[whole]


def on(recipe: Recipe, task: str) -> Recipe:
    """`recipe` on the prompts of one task alone, under a name of its own."""
    require_known("task", task, TASKS)
    why = "ours: all of the run's prompts are this task's, so that its rewards alone move the policy"
    sources = recipe.sources | {"only_task": why}
    return replace(recipe, name=f"{recipe.name}{_ON}{task}", only_task=task, sources=sources)


def fix_trials(task: str) -> tuple[Recipe, ...]:
    """The runs that show what a task's fix does and what its share of the prompts does, none where it has no fix.

    The fix with all tasks' prompts, V4.1 on this task's alone, and the fix on them alone.

    >>> [trial.name for trial in fix_trials("extraction")]
    ['v4.2c', 'v4.1-on-extraction', 'v4.2c-on-extraction']
    """
    fix = FIXES[task]
    return (fix, on(V41, task), on(fix, task)) if fix else ()


def values(recipe: Recipe) -> dict[str, Any]:
    """The recipe's hyperparameters as plain values, without their sources."""
    return {key: value for key, value in asdict(recipe).items() if key != "sources"}


def diff(a: Recipe, b: Recipe) -> list[Change]:
    """The fields in which `b` differs from `a` (names aside), in the order of the dataclass.

    >>> [change.field for change in diff(get("v4"), get("v4.1"))]
    ['version', 'max_steps', 'learning_rate', 'lr_schedule', 'warmup_share']
    """
    before, after = values(a), values(b)
    return [
        Change(key, before[key], after[key], b.sources.get(key, ""))
        for key in after
        if key != "name" and before[key] != after[key]
    ]


def coverage(recipe: Recipe, task_counts: dict[str, int]) -> dict[str, dict[str, float]]:
    """What a run will see of each task: its records, the prompts expected, and their share of the records.

    The trainer draws a fresh random permutation per epoch, so a task's expected share is the run's share of an epoch;
    above 1 it counts repeats.

    >>> coverage(get("v4.1"), {"extraction": 594, "push": 890})["extraction"]["share"]
    0.809
    """
    share = recipe.expected_prompts() / sum(task_counts.values())
    return {
        task: {"records": count, "expected_prompts": round(count * share, 1), "share": round(share, 3)}
        for task, count in task_counts.items()
    }


def learning_rates(recipe: Recipe) -> list[float]:
    """The learning rate that each of the `max_steps` optimiser steps uses, from transformers' own scheduler."""
    import torch
    from transformers import get_scheduler

    optimizer = torch.optim.SGD([torch.zeros(1)], lr=recipe.learning_rate)
    scheduler: Any = get_scheduler(recipe.lr_schedule, optimizer, warmup_steps(recipe), recipe.max_steps)
    (share_of_peak,) = scheduler.lr_lambdas
    return [recipe.learning_rate * share_of_peak(step) for step in range(recipe.max_steps)]


def warmup_steps(recipe: Recipe) -> int:
    """Warm-up steps, rounded up as transformers does.

    >>> warmup_steps(get("v4.1"))
    30
    """
    return math.ceil(recipe.max_steps * recipe.warmup_share)
