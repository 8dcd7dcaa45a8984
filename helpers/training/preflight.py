"""Checks before a long run: what would spoil it and shows in seconds. One `Check` a question, each with a verdict.

The last ones train two steps through the training code as it is, in a temporary folder.
"""

import functools
import resource
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from helpers import recipes
from helpers.core.checks import GIB, Check
from helpers.core.progress import in_notebook
from helpers.recipes import Recipe, memory, profiles
from helpers.recipes.profiles import Profile
from helpers.tasks import TASKS
from helpers.tasks.records import PAIRS_DIR, SPLITS, Rows, count_by_task, load_split

if TYPE_CHECKING:
    from helpers.policy import Policy
    from helpers.training.dry_run import DryRun, LogProbs

STEPS = 2
GENERATION_PROMPT = "<|im_start|>assistant\n"
"""What the hub model's instruct template ends a prompt with, and the embedded policy's after it."""

_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "temperature": (None, 1.0),
    "top_p": (None, 1.0),
    "top_k": (None, 0),
    "min_p": (None, 0.0),
    "typical_p": (None, 1.0),
    "repetition_penalty": (None, 1.0),
    "no_repeat_ngram_size": (None, 0),
}


def run(recipe: Recipe, profile: Profile, pairs: Path = PAIRS_DIR, seed: int = 0) -> list[Check]:
    """Every check of `recipe` on `profile`, in the order in which a run would meet them.

    In a notebook on a GPU backend they run in a process of their own, as its trainings do.
    """
    from helpers.policy import backends
    from helpers.training import apart

    if in_notebook() and backends.choose(profile)[0] != "transformers":
        return apart.call_apart(functools.partial(_run, recipe, profile, pairs, seed))
    return _run(recipe, profile, pairs, seed)


def _run(recipe: Recipe, profile: Profile, pairs: Path, seed: int) -> list[Check]:
    return list(examine(recipe, profile, pairs, seed))


def examine(recipe: Recipe, profile: Profile, pairs: Path = PAIRS_DIR, seed: int = 0) -> Iterator[Check]:
    """`run`, each check as soon as it is known. `UserError` where policy or pairs are missing."""
    from helpers.policy import backends

    fitted, _ = profiles.fit(recipe, profile)
    splits = {split: load_split(split, pairs) for split in SPLITS}
    backend, why = backends.choose(profile)
    yield Check("Backend", why, "ok" if backend == profile.backend else "note")
    backends.begin(profile, backend)
    device = check_device(profile)
    yield device
    if device.state == "off":
        return
    share = profile.vllm_memory_share if backends.with_vllm(profile, backend) else 0.0
    used = replace(profile, backend=backend, vllm_memory_share=share)
    policy = backends.load_policy(fitted, used, backend, pairs, seed)
    yield from check_policy(policy, splits["eval"])
    yield from check_lengths(policy, splits, fitted, recipe)
    yield check_coverage(fitted, count_by_task(splits["train"]))
    with tempfile.TemporaryDirectory(prefix="preflight-") as folder:
        yield from check_dry_run(policy, fitted, used, Path(folder), pairs, seed)


def table(checks: Sequence[Check]) -> pd.DataFrame:
    """The checks as a table for a notebook: a row a check, by name."""
    rows = [(check.name, check.state, told(check)) for check in checks]
    return pd.DataFrame(rows, columns=["check", "verdict", "told"]).set_index("check")


def told(check: Check) -> str:
    """What a check found, and what to do about it where something is.

    >>> told(Check("Stop tokens", "none", "off", "name them"))
    'none -> name them'
    """
    return f"{check.value} -> {check.remedy}" if check.remedy else check.value


def check_device(profile: Profile) -> Check:
    """Whether torch sees what the profile computes on."""
    import torch

    if profile.device != "cuda":
        return Check("Device", f"{profile.device}, {profile.threads} threads")
    if not torch.cuda.is_available():
        value = f"profile {profile.name} computes on a GPU; torch sees none"
        return Check("Device", value, "off", "use --profile cpu here; `python -m helpers doctor` looks at the driver")
    total = torch.cuda.get_device_properties(0).total_memory / GIB
    return Check("Device", f"{torch.cuda.get_device_name(0)}, {total:.1f} GiB")


def check_policy(policy: "Policy", records: Rows) -> Iterator[Check]:
    """The checks of the policy's files: template, stop tokens, generation defaults."""
    yield check_template(policy.tokenizer, records[0])
    yield check_stop_tokens(policy, records[0])
    yield check_generation_defaults(policy.model.generation_config)


def check_template(tokenizer: Any, record: dict[str, Any]) -> Check:
    """Whether a prompt renders as training, evaluation and the reference answer all need it."""
    asked, answered = _rendered(tokenizer, record)
    tokens = tokenizer(asked, add_special_tokens=False)["input_ids"]
    as_trained = tokenizer.apply_chat_template(record["prompt"], add_generation_prompt=True, return_dict=False)
    faults = {
        f"a prompt does not end in {GENERATION_PROMPT!r}": not asked.endswith(GENERATION_PROMPT),
        "a message is left out": not all(message["content"] in asked for message in record["prompt"]),
        "there is a think block": "<think>" in answered,
        "an answered prompt does not start with the prompt": not answered.startswith(asked),
        "the trainer's tokens are not those of the rendered text": tokens != as_trained,
    }
    found = [fault for fault, there in faults.items() if there]
    if found:
        return Check("Template", "; ".join(found), "off", "print a rendered prompt and mend the chat template")
    return Check("Template", f"{asked[:12]!r} ... {asked[-22:]!r}, {len(tokens)} tokens, no think block")


def check_stop_tokens(policy: "Policy", record: dict[str, Any]) -> Check:
    """Whether generation stops where the template says that an answer ends; Qwen3 chat models have two end tokens."""
    tokenizer, stops = policy.tokenizer, _stop_tokens(policy.model.generation_config)
    asked, answered = _rendered(tokenizer, record)
    ending = answered.removeprefix(asked).removeprefix(record["reference"]["text"])
    last = tokenizer(ending, add_special_tokens=False)["input_ids"][:1]
    names = ", ".join(f"{token!r} ({number})" for number, token in zip(stops, _names(tokenizer, stops), strict=True))
    remedy = "set eos_token_id in the model's generation config to every token that ends an answer"
    if not last or last[0] not in stops:
        return Check("Stop tokens", f"an answer ends in {ending!r}; generation stops at {names}", "off", remedy)
    if tokenizer.eos_token_id not in stops:
        end = tokenizer.eos_token
        return Check("Stop tokens", f"the tokenizer's end token {end!r} is not among {names}", "off", remedy)
    if tokenizer.pad_token_id is None:
        return Check("Stop tokens", f"{names}; no padding token", "off", "give the tokenizer a pad_token")
    return Check("Stop tokens", f"{names}; an answer ends in {ending!r}")


def check_generation_defaults(config: Any) -> Check:
    """Whether the model card's sampling advice is gone (the hub model's: temperature 0.1, repetition penalty 1.2)."""
    left = {name: getattr(config, name, None) for name in _NEUTRAL}
    kept = {name: value for name, value in left.items() if value not in _NEUTRAL[name]}
    if kept:
        shown = ", ".join(f"{name} {value:g}" for name, value in kept.items())
        return Check("Generation defaults", f"still there: {shown}", "off", "models.plain_generation clears them")
    return Check("Generation defaults", "none of the model card's sampling advice is left")


def check_lengths(policy: "Policy", splits: dict[str, Rows], fitted: Recipe, recipe: Recipe) -> Iterator[Check]:
    """Prompts against the context, a split each; references against the completion limit, a task each."""
    context = min(recipe.max_seq_length, policy.model.config.max_position_embeddings)
    for split, records in splits.items():
        texts = [_rendered(policy.tokenizer, record)[0] for record in records]
        yield check_prompts(split, _token_counts(policy.tokenizer, texts), fitted.max_completion_length, context)
    capped = fitted.max_completion_length < recipe.max_completion_length
    for task in TASKS:
        texts = [record["reference"]["text"] for record in splits["train"] if record["task"] == task]
        counts = [count + 1 for count in _token_counts(policy.tokenizer, texts)]
        yield check_references(task, counts, fitted.max_completion_length, capped)


def check_prompts(split: str, counts: Sequence[int], limit: int, context: int) -> Check:
    """Whether every prompt leaves room for a completion of `limit` tokens; all numbers are tokens.

    >>> check_prompts("eval", [90, 100, 1600], limit=512, context=2048).state
    'off'
    """
    cut = sum(count + limit > context for count in counts)
    value = f"{_spread(counts)} tokens; with {limit} to answer, {cut} of {len(counts)} pass the context of {context}"
    if cut:
        return Check(f"Prompts, {split}", value, "off", "raise max_seq_length or shorten these prompts")
    return Check(f"Prompts, {split}", value)


def check_references(task: str, counts: Sequence[int], limit: int, capped: bool) -> Check:
    """Whether a good answer fits: token counts with the end token against the completion limit.

    Off where most do not fit; a note where `capped`, since the profile then gave up the recipe's limit knowingly.

    >>> check_references("push", [30, 40, 50], limit=32, capped=False).state
    'off'
    """
    longer = sum(count > limit for count in counts)
    value = f"{_spread(counts)} tokens, {longer} of {len(counts)} over the limit of {limit}"
    if not longer:
        return Check(f"References, {task}", value)
    if capped:
        return Check(f"References, {task}", value, "note", "the profile's cap: long answers are cut")
    state: Literal["note", "off"] = "off" if longer > len(counts) / 2 else "note"
    return Check(f"References, {task}", value, state, "raise max_completion_length")


def check_coverage(recipe: Recipe, counts: dict[str, int]) -> Check:
    """What share of each task's records the run will show; a note below half, off where a task has none."""
    plan = recipes.coverage(recipe, counts)
    shares = ", ".join(f"{task} {plan[task]['share']:.1%} of {plan[task]['records']}" for task in TASKS)
    value = f"{recipe.expected_prompts()} prompts in {recipe.max_steps} steps: {shares}"
    if missing := [task for task in TASKS if not counts[task]]:
        return Check("Coverage", value, "off", f"no record of {', '.join(missing)}: build the pairs again")
    if min(plan[task]["share"] for task in TASKS) < 0.5:
        return Check("Coverage", value, "note", "a run this short sees less than half of the data")
    return Check("Coverage", value)


def check_dry_run(
    policy: "Policy", recipe: Recipe, profile: Profile, folder: Path, pairs: Path, seed: int
) -> Iterator[Check]:
    """Two steps for real, without warm-up (its first rate is zero); then a check on everything that they show."""
    import torch

    from helpers.training import dry_run

    short = replace(recipe, max_steps=STEPS, warmup_share=0.0)
    try:
        seen = dry_run.dry_run(short, profile, policy, folder, pairs, seed)
    except torch.OutOfMemoryError as error:
        yield Check("Dry run", _first_line(error), "off", "lower the profile's micro_batch or completion_cap")
        return
    except RuntimeError as error:
        yield Check("Trainer arguments", _first_line(error), "off", "the run would not be the recipe's")
        return
    yield check_trainer(seen, short)
    yield check_steps(seen.metrics, short)
    yield check_lora(seen)
    if seen.log_probs:
        yield from check_log_probs(seen.log_probs, profile.dtype)
    yield check_memory(recipe, profile, policy.model.config)


def check_trainer(seen: "DryRun", recipe: Recipe) -> Check:
    """Whether the trainer samples as the recipe says and showed as many prompts a step."""
    got, wanted = seen.sampling, {name: getattr(recipe, name) for name in seen.sampling}
    wrong = [f"{name} is {got[name]}, not {wanted[name]}" for name in wanted if got[name] != wanted[name]]
    shown = sum(value for key, value in seen.metrics[-1].items() if key.startswith("train/prompts_seen/"))
    if shown != recipe.expected_prompts():
        wrong.append(f"{shown:g} prompts in {recipe.max_steps} steps, not {recipe.expected_prompts()}")
    if wrong:
        return Check("Trainer arguments", "; ".join(wrong), "off", "the run would not be the recipe's")
    value = f"{recipe.prompts_per_step} prompts x {recipe.num_generations} completions a step, as the recipe says; "
    return Check("Trainer arguments", value + ", ".join(f"{key} {value:g}" for key, value in wanted.items()))


def check_steps(metrics: list[dict[str, Any]], recipe: Recipe) -> Check:
    """Whether the steps ran to their end with finite numbers, completions of some length, and no reward error."""
    steps = [row for row in metrics if "train/reward" in row]
    lengths = [row["train/completion_length"] for row in steps]
    clipped = statistics.mean(row["train/clipped_ratio"] for row in steps)
    seconds = ", ".join(f"{row['time/step_s']:.1f}" for row in steps)
    value = (
        f"{len(steps)} steps in {seconds} s; completions of {statistics.mean(lengths):.0f} tokens, "
        f"{clipped:.0%} at the limit of {recipe.max_completion_length}"
    )
    if steps[-1]["train/reward_errors"]:
        return Check("Dry run", f"{value}; a reward function raised", "off", "events.jsonl of a run holds the error")
    if not all(abs(row[key]) < float("inf") for row in steps for key in ("train/loss", "train/grad_norm")):
        return Check("Dry run", f"{value}; loss or gradient is not finite", "off", "try dtype float32")
    if max(lengths) <= 1:
        return Check("Dry run", f"{value}; empty completions", "off", "look at template and stop tokens")
    if clipped > 0.5:
        return Check("Dry run", value, "note", "most completions are cut: too low a limit, or no end token learned")
    return Check("Dry run", value)


def check_lora(seen: "DryRun") -> Check:
    """Whether every LoRA B matrix left zero; none does where no group's rewards differed, since no gradient came."""
    still = [name for name, moved in seen.lora_b.items() if not moved]
    value = f"{len(seen.lora_b) - len(still)} of {len(seen.lora_b)} B matrices moved"
    steps = [row for row in seen.metrics if "train/reward" in row]
    if not seen.lora_b:
        return Check("LoRA", "the policy has no LoRA layer", "off", "look at models.lora_config")
    if still and all(row["train/frac_reward_zero_std"] == 1 for row in steps):
        return Check("LoRA", f"{value}: every group's rewards were equal", "note", "try another --seed")
    if still:
        return Check("LoRA", f"{value}; still zero: {_some(still)}", "off", "these layers would not learn")
    return Check("LoRA", value)


def check_log_probs(seen: "LogProbs", dtype: str) -> Iterator[Check]:
    """Whether rollouts, the trainer and the generation engine agree on how likely the sampled tokens were."""
    yield compare("Log-probs", "a plain forward pass", seen.trainer, seen.rollout, dtype)
    if seen.sampled is not None:
        yield compare("Sampling log-probs", "the generation engine", seen.trainer, seen.sampled, dtype)


def compare(name: str, other: str, a: Any, b: Any, dtype: str) -> Check:
    """The trainer's log-probabilities `a` against those of `other`: their mean gap against `tolerance`."""
    gap, most = float((a - b).abs().mean()), float((a - b).abs().max())
    value = (
        f"the trainer and {other} differ by {gap:.2g} a token (at most {most:.2g}); "
        f"{tolerance(dtype):.2g} allowed in {dtype}, {len(a)} tokens"
    )
    if gap <= tolerance(dtype):
        return Check(name, value)
    return Check(name, value, "off", "the policy that is sampled is not the one that is trained")


def tolerance(dtype: str) -> float:
    """The mean difference of log-probabilities that rounding explains: four units in the last place of a logit near 1.

    At least 1e-4, for sums in another order. A wrong temperature, position or weight moves them by tenths.

    >>> tolerance("float32"), tolerance("bfloat16")
    (0.0001, 0.03125)
    """
    import torch

    return max(1e-4, 4 * torch.finfo(getattr(torch, dtype)).eps)


def check_memory(recipe: Recipe, profile: Profile, config: Any) -> Check:
    """The memory peak so far against the plan for the model of `config`; on the CPU the process's own, as a note."""
    if profile.device != "cuda":
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        return Check("Memory", f"{peak:.1f} GiB of main memory at the peak; a plan is made for GPUs alone", "note")
    import torch

    plan = memory.plan(recipe, memory.shape_of_config(config), profile)
    return compare_memory(torch.cuda.max_memory_reserved() / GIB, plan)


def compare_memory(peak: float, plan: memory.MemoryPlan) -> Check:
    """torch's peak against what was planned and what there is, all in GiB."""
    value = f"torch held {peak:.2f} GiB at the peak; {plan.peak:.2f} planned of {plan.available:g}"
    remedy = "lower the profile's micro_batch, or load in 4 bits"
    if not plan.fits or peak > plan.available:
        return Check("Memory", value, "off", remedy)
    if peak > plan.peak:
        return Check("Memory", value, "note", "more than planned: longer completions may not fit")
    return Check("Memory", value)


def _rendered(tokenizer: Any, record: dict[str, Any]) -> tuple[str, str]:
    """A record's prompt as it is asked, and with its reference answered, as text."""
    answer = {"role": "assistant", "content": record["reference"]["text"]}
    asked = tokenizer.apply_chat_template(record["prompt"], tokenize=False, add_generation_prompt=True)
    return asked, tokenizer.apply_chat_template([*record["prompt"], answer], tokenize=False)


def _stop_tokens(config: Any) -> list[int]:
    ends = config.eos_token_id
    return [ends] if isinstance(ends, int) else list(ends or [])


def _names(tokenizer: Any, numbers: list[int]) -> list[str]:
    return [str(tokenizer.decode([number])) for number in numbers]


def _token_counts(tokenizer: Any, texts: list[str]) -> list[int]:
    return [len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]


def _spread(counts: Sequence[int]) -> str:
    return f"{min(counts)} to {max(counts)} (median {statistics.median(counts):g})"


def _some(names: Sequence[str], most: int = 3) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
