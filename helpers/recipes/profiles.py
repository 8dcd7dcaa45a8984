"""Profiles: what a machine can run, and what a recipe becomes on it.

`fit` turns a recipe into one that a profile can run and lists every value it changed, with the reason. On `l4` nothing
changes: those are the handoff's numbers.
"""

import os
import re
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from helpers.core import gpus
from helpers.core.errors import UserError, require_known
from helpers.core.gpus import Gpu
from helpers.recipes.recipe import HUB_05B_BASE, HUB_37B, Change, Recipe, diff

THREADS = "HELPERS_THREADS"
"""The environment variable that says how many threads a CPU's profile has."""


class Stage(NamedTuple):
    """One training of an embedded policy, at so high a rate: so many table readings, or epochs of its records, and
    so many SQL questions by chance among them."""

    epochs: float
    rate: float
    readings: int = 0
    questions: int = 0


@dataclass(frozen=True)
class EmbeddedSettings:
    """Size and training of an embedded policy, a small Qwen3-architecture model (`helpers.policy.embedded`).

    It reads at most `records` records per task of another simulated shop of so many `orders`; without `chat`, their
    texts as plain text. `stages` are its trainings one after another, each with a cosine of its own. One that
    `starts_from` another policy has that one's weights, and layers that change nothing yet. `max_length` is in tokens.
    One that is `shipped` lies under data/policies/<name>; others are made where they are needed.
    """

    name: str
    hidden_size: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    ffn_size: int
    vocabulary: int
    orders: int
    records: int
    stages: tuple[Stage, ...]
    batch: int
    max_length: int
    starts_from: str = ""
    chat: bool = True
    shipped: bool = True


@dataclass(frozen=True)
class Profile:
    """One kind of machine. `*_cap` bound a recipe's value; `step_share` and the `*_factor` fields multiply it,
    and no run has fewer than `least_steps`.

    `micro_batch` counts completions in one forward and backward pass; `eval_every` is the number of steps between two
    evaluations; `eval_records` bounds the records per task in an evaluation. The `large_*` factors multiply rate and
    steps once more for the 3.7B model: the handoff lowers both for its size, which a small stand-in does not have. GRPO
    on the base model goes at `base_rate_factor` of the rate, and is shown the prompts of `base_only_task` alone: a
    small one gives up a task just learned when three others are mixed in.

    The last six are for GPUs. `memory_gib` is what torch sees of the card. vLLM may take `vllm_memory_share` of it for
    weights, KV cache and work space; `sleep_mode` frees the KV cache while the policy trains. `usd_per_hour` is the
    list price of one such GPU (modal.com/pricing in 2026, without CPU and memory; 0 = unknown).
    """

    name: str
    device: str
    dtype: str
    embedded: EmbeddedSettings | None
    threads: int
    micro_batch: int
    eval_batch: int
    eval_every: int = 10
    step_share: float = 1.0
    least_steps: int = 2
    learning_rate_factor: float = 1.0
    large_rate_factor: float = 1.0
    large_step_factor: float = 1.0
    base_rate_factor: float = 1.0
    completion_cap: int = 4096
    group_cap: int = 64
    eval_records: int = 65
    gradient_checkpointing: bool = False
    embedded_large: EmbeddedSettings | None = None
    embedded_base: EmbeddedSettings | None = None
    sft_learning_rate_factor: float = 1.0
    base_only_task: str = ""
    reasons: str = ""
    memory_gib: float = 0.0
    backend: str = "transformers"
    load_in_4bit: bool = False
    vllm_memory_share: float = 0.0
    sleep_mode: bool = False
    usd_per_hour: float = 0.0

    @property
    def leaves_a_core(self) -> bool:
        """Whether another process can compute beside one of this profile: on a CPU with cores for both."""
        return self.device == "cpu" and (os.cpu_count() or 1) >= 2 * self.threads


INSTRUCT = EmbeddedSettings(
    name="instruct",
    hidden_size=192,
    layers=4,
    heads=6,
    kv_heads=2,
    head_size=32,
    ffn_size=512,
    vocabulary=4096,
    orders=40_000,
    records=8_000,
    stages=(Stage(2.5, 2e-3), Stage(1.5, 5e-4)),
    batch=16,
    max_length=512,
)
LARGE = replace(
    INSTRUCT,
    name="large",
    layers=8,
    starts_from="instruct",
    stages=(
        Stage(1.5, 1e-3),
        Stage(0, 1e-3, readings=19_200),
        Stage(0.5, 1e-3),
        Stage(0.5, 7e-4),
        Stage(0.5, 1e-3, questions=8_000),
    ),
)
BASE = replace(INSTRUCT, name="base", chat=False, stages=(Stage(1.0, 2e-3),))
SHIPPED = {settings.name: settings for settings in (INSTRUCT, LARGE, BASE)}
_SMALLEST = replace(
    INSTRUCT,
    name="smallest",
    hidden_size=64,
    layers=2,
    heads=2,
    kv_heads=1,
    ffn_size=128,
    vocabulary=512,
    orders=1_000,
    records=20,
    stages=(Stage(1.0, 2e-3),),
    batch=8,
    shipped=False,
)

CPU = Profile(
    name="cpu",
    device="cpu",
    dtype="float32",
    embedded=INSTRUCT,
    threads=1,
    micro_batch=16,
    eval_batch=130,
    eval_every=40,
    step_share=1 / 6,
    least_steps=70,  # with fewer, evaluations would take more than 15 % of a run
    learning_rate_factor=150.0,
    large_rate_factor=2.6,
    base_rate_factor=0.6,  # unsure after a short warm-up, it loses at V4.1's rate what it has learned
    large_step_factor=1.95,  # 130 steps: with 120, evaluations took 15 % of the run, with 100 more
    completion_cap=160,
    embedded_large=LARGE,
    embedded_base=BASE,
    sft_learning_rate_factor=6.0,
    base_only_task="extraction",
    reasons="a small policy on two cores: it learns from fewer steps and larger updates",
)

# `memory_gib`: the "Max memory" of Unsloth's banner, the lowest of those that users published for a card.
L4 = Profile(
    name="l4",
    device="cuda",
    dtype="bfloat16",
    embedded=None,
    threads=4,
    micro_batch=8,
    eval_batch=65,
    gradient_checkpointing=True,
    reasons="one 24 GB NVIDIA L4 (22.1 GiB visible to torch): the handoff's numbers, unchanged",
    memory_gib=22.1,
    backend="unsloth",
    vllm_memory_share=0.6,
    sleep_mode=True,
    usd_per_hour=0.80,
)
A100 = replace(
    L4,
    name="a100",
    micro_batch=16,
    reasons="one 40 GB NVIDIA A100 (39.4 GiB visible to torch): vLLM keeps its half, nothing need sleep",
    memory_gib=39.4,
    vllm_memory_share=0.5,
    sleep_mode=False,
    usd_per_hour=2.10,
)

PROFILES: dict[str, Profile] = {
    "cpu": CPU,
    "smallest": replace(
        CPU,
        name="smallest",
        embedded=_SMALLEST,
        embedded_large=replace(_SMALLEST, name="smallest-large", layers=3),
        embedded_base=replace(_SMALLEST, name="smallest-base", chat=False),
        micro_batch=8,
        eval_batch=16,
        eval_every=2,
        step_share=1 / 150,
        least_steps=2,
        completion_cap=24,
        group_cap=4,
        eval_records=3,
        reasons="the tests' settings: every line runs, nothing is learned",
    ),
    "l4": L4,
    "t4": replace(
        L4,
        name="t4",
        dtype="float16",
        micro_batch=4,
        reasons="one 16 GB NVIDIA T4 (14.6 GiB visible to torch): it has no bfloat16; half the micro-batch leaves room",
        memory_gib=14.6,
        vllm_memory_share=0.75,
        usd_per_hour=0.59,
    ),
    "a100": A100,
    "a100-80": replace(
        A100,
        name="a100-80",
        reasons="one 80 GB NVIDIA A100 (79.1 GiB visible to torch): as the 40 GB one, with room to spare",
        memory_gib=79.1,
        usd_per_hour=2.50,
    ),
    "h100": replace(
        A100,
        name="h100",
        reasons="one 80 GB NVIDIA H100 (79.1 GiB visible to torch): as on the A100, faster",
        memory_gib=79.1,
        usd_per_hour=3.95,
    ),
    "h200": replace(
        A100,
        name="h200",
        reasons="one 141 GB NVIDIA H200 (139.7 GiB visible to torch): as on the A100, faster",
        memory_gib=139.7,
        usd_per_hour=4.54,
    ),
}


def get(name: str = "auto") -> Profile:
    """The profile called `name`; `auto` is `HELPERS_PROFILE` where that is set, else the detected one.

    On a CPU it has `HELPERS_THREADS` threads where that is set; `UserError` for one that is no whole number above 0.
    """
    if name == "auto":
        name = os.environ.get("HELPERS_PROFILE") or detect()[0]
    require_known("profile", name, tuple(PROFILES))
    threads = os.environ.get(THREADS)
    if not threads or PROFILES[name].device != "cpu":
        return PROFILES[name]
    if not threads.isdecimal() or int(threads) < 1:
        raise UserError(f"{THREADS}={threads!r}: it is a number of threads, such as 2; unset it for the profile's own")
    return replace(PROFILES[name], threads=int(threads))


def detect() -> tuple[str, str]:
    """The profile's name for this machine's first GPU, and why; `cpu` where there is none."""
    cards, why_none = gpus.find()
    return choose(cards[0]) if cards else ("cpu", why_none)


def choose(gpu: Gpu) -> tuple[str, str]:
    """The profile's name for a GPU, and why: the card's own where there is one, else the largest that its memory holds.

    >>> choose(Gpu("NVIDIA L4", 23034, 22563, "580.65.06"))
    ('l4', 'nvidia-smi reports NVIDIA L4, 22.5 GiB')
    >>> choose(Gpu("NVIDIA GeForce RTX 4090", 24564, 24000, "580.65.06"))[0]
    'l4'
    """
    report = f"nvidia-smi reports {gpu.name}, {gpu.gib:.1f} GiB"
    held = [profile for profile in gpu_profiles() if profile.memory_gib <= gpu.gib]
    if not held:
        smallest = gpu_profiles()[0]
        return "cpu", f"{report}: less than the {smallest.memory_gib:g} of the smallest GPU profile, {smallest.name}"
    for profile in reversed(held):
        if profile.name.partition("-")[0].upper() in re.split(r"[ -]", gpu.name.upper()):
            return profile.name, report
    if _WITHOUT_BFLOAT16.search(gpu.name):
        return "t4", f"{report}: no bfloat16, as on the T4"
    return held[-1].name, f"{report}: not a card we know; {held[-1].name} is the largest profile that its memory holds"


_WITHOUT_BFLOAT16 = re.compile(r"\b(T4G|V100|[KMP]\d{1,3}|RTX 20\d\d|GTX|TITAN|Quadro)\b")


def gpu_profiles() -> list[Profile]:
    """The GPU profiles, smallest card first."""
    return sorted((p for p in PROFILES.values() if p.device == "cuda"), key=lambda profile: profile.memory_gib)


def fit(recipe: Recipe, profile: Profile) -> tuple[Recipe, list[Change]]:
    """The recipe as `profile` can run it, and the changes made; none on `l4`.

    >>> from helpers import recipes
    >>> fitted, changes = fit(recipes.get("v4.1"), get("cpu"))
    >>> fitted.max_steps, [change.field for change in changes]
    (100, ['max_steps', 'learning_rate', 'max_completion_length'])
    """
    rate, share, only = profile.learning_rate_factor, profile.step_share, ""
    if recipe.model_id == HUB_37B:
        rate, share = rate * profile.large_rate_factor, share * profile.large_step_factor
    elif recipe.model_id == HUB_05B_BASE:
        rate, only = rate * profile.base_rate_factor, profile.base_only_task
    wanted: dict[str, Any] = {
        "max_steps": max(profile.least_steps, round(recipe.max_steps * share)),
        "learning_rate": float(f"{recipe.learning_rate * rate:.6g}"),
        "only_task": recipe.only_task or only,
        "max_completion_length": min(recipe.max_completion_length, profile.completion_cap),
        "num_generations": min(recipe.num_generations, profile.group_cap),
        "sft_learning_rate": float(f"{recipe.sft_learning_rate * profile.sft_learning_rate_factor:.6g}"),
    }
    changed = {key: value for key, value in wanted.items() if value != getattr(recipe, key)}
    sources = recipe.sources | dict.fromkeys(changed, f"profile {profile.name}: {profile.reasons}")
    if "only_task" in changed:
        sources["only_task"] = f"profile {profile.name}: a small policy gives up a task just learned among other tasks"
    fitted = replace(recipe, **changed, sources=sources)
    return fitted, diff(recipe, fitted)


def eval_every(recipe: Recipe, profile: Profile) -> int:
    """The steps between two evaluations: a run that a profile makes longer is evaluated as often as without that.

    >>> from helpers import recipes
    >>> eval_every(recipes.V41, get("cpu")), eval_every(recipes.V42A, get("cpu")), eval_every(recipes.V42A, get("l4"))
    (40, 78, 10)
    """
    return round(profile.eval_every * (profile.large_step_factor if recipe.model_id == HUB_37B else 1.0))


def accumulation(recipe: Recipe, profile: Profile, processes: int = 1) -> int:
    """Gradient accumulation that makes micro-batches of all processes add up to one step's completions.

    >>> from helpers import recipes
    >>> accumulation(recipes.get("v4.1"), get("l4")), accumulation(recipes.get("v4.1"), get("l4"), processes=2)
    (4, 2)
    """
    return recipe.completions_per_step // processes // micro_batch(recipe, profile, processes)


def micro_batch(recipe: Recipe, profile: Profile, processes: int = 1) -> int:
    """Completions in one forward and backward pass of one process: the most that the profile allows and that divide
    the process's share of a step."""
    share = recipe.completions_per_step // processes
    return max(size for size in range(1, profile.micro_batch + 1) if share % size == 0)
