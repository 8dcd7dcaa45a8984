"""Checks before a long run: what would spoil it and shows in seconds. Each check answers one question with a verdict.

The last ones train two steps through the training code as it is, in a temporary folder.
"""

import functools
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from helpers import recipes
from helpers.core.checks import GIB, Check
from helpers.core.errors import RunError
from helpers.core.progress import in_notebook
from helpers.core.usage import peak_main_memory_gib
from helpers.policy import Policy, backends
from helpers.recipes import Recipe, memory, profiles
from helpers.recipes.profiles import Profile
from helpers.tasks import TASKS
from helpers.tasks.records import Rows, count_by_task
from helpers.training import apart
from helpers.training.arguments import RecipeMismatchError
from helpers.training.plan import load_splits

if TYPE_CHECKING:
    from helpers.training.dry_run import DryRun, LogProbs

STEPS = 2
GENERATION_PROMPT = "<|im_start|>assistant\n"
"""What a rendered prompt ends with, in the hub models' chat template and in the embedded policy's."""

_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "temperature": (None, 1.0),
    "top_p": (None, 1.0),
    "top_k": (None, 0),
    "min_p": (None, 0.0),
    "typical_p": (None, 1.0),
    "repetition_penalty": (None, 1.0),
    "no_repeat_ngram_size": (None, 0),
}


def run(recipe: Recipe, profile: Profile, seed: int = 0) -> list[Check]:
    """Every check of `recipe` on `profile`; in a notebook on a GPU backend, from a process of its own."""
    if in_notebook() and backends.choose(profile)[0] != "transformers":
        return apart.call_apart(functools.partial(run, recipe, profile, seed))
    return list(examine(recipe, profile, seed))


def examine(recipe: Recipe, profile: Profile, seed: int = 0) -> Iterator[Check]:
    """Yield each check as soon as it is done, in the order in which a run would meet its subject.

    Raises `UserError` where the policy or the pairs are missing.
    """
    fitted, _ = profiles.fit(recipe, profile)
    splits = load_splits(fitted, profile)
    backend, reason = backends.choose(profile)
    yield Check("Backend", reason, "ok" if backend == profile.backend else "note")
    backends.begin(profile, backend)
    device = check_device(profile)
    yield device
    if device.state == "off":
        return
    share = profile.vllm_memory_share if backends.with_vllm(profile, backend) else 0.0
    used = replace(profile, backend=backend, vllm_memory_share=share)
    policy = backends.load_policy(fitted, used, backend, seed=seed)
    yield check_template(policy.tokenizer, splits["eval"][0])
    yield check_stop_tokens(policy, splits["eval"][0])
    yield check_generation_defaults(policy.model.generation_config)
    yield from check_lengths(policy, splits, fitted, recipe)
    yield check_coverage(fitted, count_by_task(splits["train"]))
    with tempfile.TemporaryDirectory(prefix="preflight-") as folder:
        yield from check_dry_run(policy, fitted, used, Path(folder), seed)


def table(checks: Sequence[Check]) -> pd.DataFrame:
    """The checks as a table for a notebook, one row per check."""
    rows = [(check.name, check.state, finding(check)) for check in checks]
    return pd.DataFrame(rows, columns=["check", "verdict", "told"]).set_index("check")


def finding(check: Check) -> str:
    """What a check saw, and what to do about it if anything.

    >>> finding(Check("Stop tokens", "none", "off", "name them"))
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


def check_template(tokenizer: Any, record: dict[str, Any]) -> Check:
    """Whether a prompt renders as training, evaluation and the reference completion all need it."""
    prompt, answered = _rendered(tokenizer, record)
    tokens = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    as_trained = tokenizer.apply_chat_template(record["prompt"], add_generation_prompt=True, return_dict=False)
    faults = {
        f"a prompt does not end in {GENERATION_PROMPT!r}": not prompt.endswith(GENERATION_PROMPT),
        "a message is left out": not all(message["content"] in prompt for message in record["prompt"]),
        "there is a think block": "<think>" in answered,
        "an answered prompt does not start with the prompt": not answered.startswith(prompt),
        "the trainer's tokens are not those of the rendered text": tokens != as_trained,
    }
    present = [fault for fault, is_there in faults.items() if is_there]
    if present:
        return Check("Template", "; ".join(present), "off", "print a rendered prompt and mend the chat template")
    return Check("Template", f"{prompt[:12]!r} ... {prompt[-22:]!r}, {len(tokens)} tokens, no think block")


def check_stop_tokens(policy: Policy, record: dict[str, Any]) -> Check:
    """Whether generation stops at the token with which the template ends a completion; Qwen3 chat models have two."""
    tokenizer, stops = policy.tokenizer, policy.model.generation_config.eos_token_id
    stops = [stops] if isinstance(stops, int) else list(stops or [])
    names = ", ".join(f"{str(tokenizer.decode([stop]))!r} ({stop})" for stop in stops)
    prompt, answered = _rendered(tokenizer, record)
    ending = answered.removeprefix(prompt).removeprefix(record["reference"]["text"])
    last = tokenizer(ending, add_special_tokens=False)["input_ids"][:1]
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
    values = {name: getattr(config, name, None) for name in _NEUTRAL}
    kept = [f"{name} {value:g}" for name, value in values.items() if value not in _NEUTRAL[name]]
    if kept:
        remedy = "model.plain_generation clears them"
        return Check("Generation defaults", f"still there: {', '.join(kept)}", "off", remedy)
    return Check("Generation defaults", "none of the model card's sampling advice is left")


def check_lengths(policy: Policy, splits: dict[str, Rows], fitted: Recipe, recipe: Recipe) -> Iterator[Check]:
    """Each split's prompts against the context; each task's references against the completion limit."""
    limit, context = fitted.max_completion_length, policy.model.config.max_position_embeddings
    for split, records in splits.items():
        texts = [_rendered(policy.tokenizer, record)[0] for record in records]
        counts = _token_counts(policy.tokenizer, texts)
        yield check_prompts(split, counts, limit, min(recipe.max_seq_length, context))
    for task in shown_tasks(fitted):
        texts = [record["reference"]["text"] for record in splits["train"] if record["task"] == task]
        counts = [count + 1 for count in _token_counts(policy.tokenizer, texts)]
        yield check_references(task, counts, limit, capped=limit < recipe.max_completion_length)


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
    """Whether a good completion fits: token counts, end token included, against the completion limit.

    Off where most do not fit; a note where `capped`, since the profile then lowered the recipe's limit on purpose.

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


def shown_tasks(recipe: Recipe) -> tuple[str, ...]:
    """The tasks whose prompts a run of the fitted `recipe` shows.

    >>> shown_tasks(recipes.get("v4.1-on-push"))
    ('push',)
    """
    return (recipe.only_task,) if recipe.only_task else TASKS


def check_coverage(recipe: Recipe, counts: dict[str, int]) -> Check:
    """What share of the records of each task that is shown the run will show; a note below half, off where a task has
    none."""
    coverage, tasks = recipes.coverage(recipe, counts), shown_tasks(recipe)
    shares = ", ".join(f"{task} {coverage[task]['share']:.1%} of {coverage[task]['records']}" for task in tasks)
    value = f"{recipe.expected_prompts()} prompts in {recipe.max_steps} steps: {shares}"
    if missing := [task for task in tasks if not counts[task]]:
        return Check("Coverage", value, "off", f"no record of {', '.join(missing)}: build the pairs again")
    if min(coverage[task]["share"] for task in tasks) < 0.5:
        return Check("Coverage", value, "note", "a run this short sees less than half of the data")
    return Check("Coverage", value)


def check_dry_run(policy: Policy, recipe: Recipe, profile: Profile, folder: Path, seed: int) -> Iterator[Check]:
    """Train two steps, without warm-up (whose first rate is zero), and check everything that they show."""
    import torch

    from helpers.training import dry_run

    short = replace(recipe, max_steps=STEPS, warmup_share=0.0)
    try:
        seen = dry_run.dry_run(short, profile, policy, folder, seed)
    except torch.OutOfMemoryError as error:
        yield Check("Dry run", _first_line(error), "off", "lower the profile's micro_batch or completion_cap")
        return
    except RunError as error:
        yield Check("Dry run", str(error), "off", "a real run would end here too; try dtype float32 for its numbers")
        return
    except RecipeMismatchError as error:
        yield Check("Trainer arguments", _first_line(error), "off", "the run would not be the recipe's")
        return
    except RuntimeError as error:
        yield Check("Dry run", _first_line(error), "off", "a real run would fail here too")
        return
    yield check_trainer(seen, short)
    yield check_steps(seen.metrics, short)
    yield check_lora(seen)
    if seen.log_probs:
        yield from check_log_probs(seen.log_probs, profile.dtype)
    yield check_memory(recipe, profile, policy.model.config)


def check_trainer(seen: "DryRun", recipe: Recipe) -> Check:
    """Whether the trainer samples as the recipe says, and showed as many prompts per step."""
    stated = {name: getattr(recipe, name) for name in seen.sampling}
    wrong = [
        f"{name} is {seen.sampling[name]}, not {stated[name]}" for name in stated if seen.sampling[name] != stated[name]
    ]
    shown = sum(value for key, value in seen.metrics[-1].items() if key.startswith("train/prompts_seen/"))
    if shown != recipe.expected_prompts():
        wrong.append(f"{shown:g} prompts in {recipe.max_steps} steps, not {recipe.expected_prompts()}")
    if wrong:
        return Check("Trainer arguments", "; ".join(wrong), "off", "the run would not be the recipe's")
    value = f"{recipe.prompts_per_step} prompts x {recipe.num_generations} completions per step, as the recipe says; "
    return Check("Trainer arguments", value + ", ".join(f"{name} {value:g}" for name, value in stated.items()))


def check_steps(metrics: list[dict[str, Any]], recipe: Recipe) -> Check:
    """Whether the steps ran to their end with finite numbers, non-empty completions, and no reward error."""
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
    """Whether every LoRA B matrix left zero; none can where the rewards of every group were equal."""
    still = [name for name, moved in seen.lora_b.items() if not moved]
    value = f"{len(seen.lora_b) - len(still)} of {len(seen.lora_b)} B matrices moved"
    if not seen.lora_b:
        return Check("LoRA", "the policy has no LoRA layer", "off", "look at lora.lora_config")
    if not still:
        return Check("LoRA", value)
    if all(row["train/frac_reward_zero_std"] == 1 for row in seen.metrics if "train/reward" in row):
        return Check("LoRA", f"{value}: every group's rewards were equal", "note", "try another --seed")
    more = f" and {len(still) - 3} more" if len(still) > 3 else ""
    return Check("LoRA", f"{value}; still zero: {', '.join(still[:3])}{more}", "off", "these layers would not learn")


def check_log_probs(seen: "LogProbs", dtype: str) -> Iterator[Check]:
    """Whether the trainer agrees with a forward pass, and with the generation engine, on how likely tokens were."""
    yield compare("Log-probs", "a plain forward pass", seen.trainer, seen.rollout, dtype)
    if seen.sampled is not None:
        yield compare("Sampling log-probs", "the generation engine", seen.trainer, seen.sampled, dtype)


def compare(name: str, other: str, a: Any, b: Any, dtype: str) -> Check:
    """Whether the trainer's log-probabilities `a` differ from `b`, those of `other`, by no more than `tolerance`."""
    gap, most = float((a - b).abs().mean()), float((a - b).abs().max())
    value = (
        f"the trainer and {other} differ by {gap:.2g} per token (at most {most:.2g}); "
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
    """The peak memory so far against the plan for the model of `config`; on a CPU the process's own, as a note."""
    import torch

    if profile.device != "cuda":
        value = f"{peak_main_memory_gib():.1f} GiB of main memory at the peak; a plan is made for GPUs alone"
        return Check("Memory", value, "note")
    plan = memory.plan(recipe, memory.shape_of_config(config), profile)
    return compare_memory(torch.cuda.max_memory_reserved() / GIB, plan)


def compare_memory(peak: float, plan: memory.MemoryPlan) -> Check:
    """torch's peak against what was planned and what the card has, all in GiB."""
    value = f"torch held {peak:.2f} GiB at the peak; {plan.peak:.2f} planned of {plan.available:g}"
    if not plan.fits or peak > plan.available:
        return Check("Memory", value, "off", "lower the profile's micro_batch, or load in 4 bits")
    if peak > plan.peak:
        return Check("Memory", value, "note", "more than planned: longer completions may not fit")
    return Check("Memory", value)


def _rendered(tokenizer: Any, record: dict[str, Any]) -> tuple[str, str]:
    """A record's prompt as text, and the prompt with its reference completion."""
    answer = {"role": "assistant", "content": record["reference"]["text"]}
    prompt = tokenizer.apply_chat_template(record["prompt"], tokenize=False, add_generation_prompt=True)
    return prompt, tokenizer.apply_chat_template([*record["prompt"], answer], tokenize=False)


def _token_counts(tokenizer: Any, texts: list[str]) -> list[int]:
    return [len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]


def _spread(counts: Sequence[int]) -> str:
    return f"{min(counts)} to {max(counts)} (median {statistics.median(counts):g})"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
