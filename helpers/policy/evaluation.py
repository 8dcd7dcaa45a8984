"""Evaluation: answer a set of prompts in batches, score every completion, keep all of it.

Two modes, always named: `sample` (temperature 1, what GRPO trains) and `greedy` (what a user mostly gets). Neither
inherits anything from the model's own generation config.
"""

import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from helpers.core import stats
from helpers.core.errors import require_known
from helpers.policy.loading import Policy, merged
from helpers.recipes import Recipe
from helpers.recipes.profiles import Profile
from helpers.rewards import score_row
from helpers.runs import analysis
from helpers.tasks import JSON_TASK, ROWS, TASKS

MODES = ("sample", "greedy")
SEED = 1_000
"""Evaluations sample with this seed at every step of every run, and chance is drawn a prompt (`decoding`): what a
policy answers to a prompt is then the same in a subset and in a whole split, and curves differ by policy alone."""

SAMPLES = {row.name: row.samples for row in ROWS}
"""How often a whole eval split samples each task's prompts: more where 65 rewards are too noisy a mean."""


@dataclass(frozen=True)
class Generation:
    """One completion. `clipped`: it reached the length limit before an end token."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    clipped: bool


@dataclass(frozen=True)
class Settings:
    """How an evaluation decodes and scores. `limit` is the completion's length in tokens.

    Each prompt is answered `samples` times, or as often as `samples_by_task` says of its task; and once more, greedily,
    where `greedy_too` is on.
    `parser` names one of `parsing_baselines.PARSERS` to score with; None is the reward version's own.
    """

    limit: int
    batch: int
    mode: str = "sample"
    samples: int = 1
    samples_by_task: Mapping[str, int] = field(default_factory=dict)
    greedy_too: bool = False
    temperature: float = 1.0
    seed: int = SEED
    version: str = "v4.1"
    parser: str | None = None


def generate(
    policy: Policy,
    prompts: list[list[dict[str, str]]],
    settings: Settings,
    on_batch: Callable[[int], None] | None = None,
    modes: Sequence[str] = (),
) -> list[Generation]:
    """One completion a prompt, in the prompts' order; batches hold prompts of like length to waste little padding.

    The same seed gives the same completion to a prompt, but for the rounding that another batch brings; a policy with a
    sampler of its own draws by that one's seed. The caller's random state is left as it was.
    `on_batch` is told how many prompts are done; `modes` gives each prompt its own mode in place of the settings'.
    """
    import torch

    from helpers.policy.cpu import decoding

    modes = modes or [settings.mode] * len(prompts)
    for mode in set(modes):
        require_known("mode", mode, MODES)
    texts = [policy.tokenizer.apply_chat_template(p, tokenize=False, add_generation_prompt=True) for p in prompts]
    token_ids = policy.tokenizer(texts, add_special_tokens=False)["input_ids"]
    chance = decoding.chance_of_prompts(token_ids, settings.limit, settings.seed)
    chance[[mode == "greedy" for mode in modes]] = torch.nan
    found: dict[int, Generation] = {}
    with torch.random.fork_rng(devices=_cuda_devices()), answering(policy):
        torch.manual_seed(settings.seed)
        for batch in _batches(policy, token_ids, modes, settings.batch):
            asked = [token_ids[i] for i in batch]
            how = replace(settings, mode=modes[batch[0]])
            answers = zip(asked, answer(policy, asked, how, chance[batch]), strict=True)
            found |= zip(batch, (_read(policy, ids, len(prompt)) for prompt, ids in answers), strict=True)
            if on_batch:
                on_batch(len(found))
    return [found[i] for i in range(len(prompts))]


def evaluate(
    policy: Policy,
    records: list[dict[str, Any]],
    settings: Settings,
    step: int = 0,
    split: str = "eval",
    on_batch: Callable[[int], None] | None = None,
) -> list[dict[str, Any]]:
    """Answer and score `records`; one row a completion, in the form of a run record's eval.jsonl.

    All answers to a prompt are asked for together, so that it is read once.
    """
    asked = [
        (settings.mode, sample, record)
        for sample in range(max([settings.samples, *settings.samples_by_task.values()]))
        for record in records
        if sample < settings.samples_by_task.get(record["task"], settings.samples)
    ]
    if settings.greedy_too:
        asked += [("greedy", 0, record) for record in records]
    modes = [mode for mode, _, _ in asked]
    answers = generate(policy, [record["prompt"] for _, _, record in asked], settings, on_batch, modes)
    rows = []
    for (mode, sample, record), answer in zip(asked, answers, strict=True):
        where = {"step": step, "split": split, "mode": mode, "sample": sample}
        rows.append(where | score_row(record, answer.text, settings.version, settings.parser) | _lengths(answer))
    return rows


def summarize(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Means and 95 % intervals over prompts: `eval/mean_reward`, `eval/<task>`, each with `_low` and `_high`."""
    totals = {task: list(found.values()) for task, found in analysis.rewards_by_prompt(rows).items()}
    summary = _interval("mean_reward", stats.stratified_mean(totals))
    for task, values in totals.items():
        summary |= _interval(task, stats.bootstrap_mean(values))
    read = [row for row in rows if row["task"] == JSON_TASK]
    if read:
        summary["eval/repaired_share/extraction"] = sum(bool(row["repairs"]) for row in read) / len(read)
    summary["eval/completion_length"] = sum(row["completion_tokens"] for row in rows) / len(rows)
    summary["eval/clipped_ratio"] = sum(row["clipped"] for row in rows) / len(rows)
    return summary


def settings_for(
    recipe: Recipe, profile: Profile, mode: str = "sample", samples: int = 1, seed: int = SEED
) -> Settings:
    """A fitted recipe's evaluation: its length, temperature and reward version, in the profile's batches."""
    return Settings(
        limit=recipe.max_completion_length,
        batch=profile.eval_batch,
        mode=mode,
        samples=samples,
        temperature=recipe.temperature,
        seed=seed,
        version=recipe.version,
    )


def report(metrics: dict[str, float], settings: Settings) -> str:
    """A summary's means and intervals as lines of text, with how they were obtained."""
    lines = [f"reward {settings.version}, mode {settings.mode}, {settings.samples} a prompt, seed {settings.seed}"]
    for name in ("mean_reward", *TASKS):
        if f"eval/{name}" in metrics:
            mean, low, high = (metrics[f"eval/{name}{end}"] for end in ("", "_low", "_high"))
            lines.append(f"  {name:<12} {mean:.3f} [{low:.3f}, {high:.3f}]")
    lines.append(f"  {metrics['time/eval_tokens_per_s']:.0f} tokens/s, {metrics['eval/clipped_ratio']:.1%} clipped")
    return "\n".join(lines)


def throughput(rows: list[dict[str, Any]], seconds: float) -> dict[str, float]:
    """How long an evaluation took and its generated tokens a second."""
    tokens = sum(row["completion_tokens"] for row in rows)
    return {"time/eval_s": round(seconds, 2), "time/eval_tokens_per_s": round(tokens / seconds, 1)}


def timed_evaluate(*args: Any, **kwargs: Any) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """`evaluate` in one mode, with its summary and throughput as one dict of metrics."""
    ((rows, metrics),) = timed_by_mode(*args, **kwargs)
    return rows, metrics


def timed_by_mode(*args: Any, **kwargs: Any) -> list[tuple[list[dict[str, Any]], dict[str, float]]]:
    """`evaluate` as rows and metrics of each mode; of the seconds a mode has its share of the generated tokens."""
    started = time.monotonic()
    rows = evaluate(*args, **kwargs)
    seconds = time.monotonic() - started
    tokens = sum(row["completion_tokens"] for row in rows)
    found = []
    for mode in dict.fromkeys(row["mode"] for row in rows):
        own = [row for row in rows if row["mode"] == mode]
        share = sum(row["completion_tokens"] for row in own) / tokens
        found.append((own, summarize(own) | throughput(own, seconds * share)))
    return found


def _interval(name: str, interval: stats.Interval) -> dict[str, float]:
    return {f"eval/{name}": interval.mean, f"eval/{name}_low": interval.low, f"eval/{name}_high": interval.high}


def _lengths(answer: Generation) -> dict[str, Any]:
    return {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "clipped": answer.clipped,
    }


def _batches(policy: Policy, token_ids: list[list[int]], modes: Sequence[str], size: int) -> Iterator[list[int]]:
    """Places of prompts of like length; of one mode where the policy's own sampler answers them."""
    order = sorted(range(len(token_ids)), key=lambda i: len(token_ids[i]))
    together = [[i for i in order if modes[i] == mode] for mode in MODES] if policy.sampler else [order]
    for places in together:
        for start in range(0, len(places), size):
            yield places[start : start + size]


def generate_at_once(policy: Policy, token_ids: list[list[int]], settings: Settings) -> list[list[int]]:
    """Answer a batch in one call of the model's `generate`; each answer's new tokens, with what follows their end."""
    import torch

    inputs = _padded(policy, token_ids)
    with torch.inference_mode():
        ids = policy.model.generate(
            **inputs, max_new_tokens=settings.limit, pad_token_id=policy.tokenizer.pad_token_id, **_decoding(settings)
        )
    return ids[:, inputs["input_ids"].shape[1] :].tolist()


def answer(policy: Policy, token_ids: list[list[int]], settings: Settings, chance: Any) -> list[list[int]]:
    """Answer one batch of tokenised prompts: the new tokens of each, up to and with its end token.

    `chance` holds the numbers to draw by, a row a prompt, NaN for a greedy answer; a policy's own sampler goes by the
    settings' mode instead.
    """
    answers = (policy.sampler or functools.partial(_in_rounds, policy, chance))(token_ids, settings)
    ends = set(policy.model.generation_config.eos_token_id)
    stops = (next((i for i, token in enumerate(ids) if token in ends), len(ids)) for ids in answers)
    return [ids[: stop + 1] for ids, stop in zip(answers, stops, strict=True)]


def _in_rounds(policy: Policy, chance: Any, token_ids: list[list[int]], settings: Settings) -> list[list[int]]:
    from helpers.policy.cpu import decoding

    inputs = _padded(policy, token_ids)
    return decoding.answer_in_rounds(policy.model, inputs, settings.limit, chance, settings.temperature)


def _padded(policy: Policy, token_ids: list[list[int]]) -> Any:
    inputs = policy.tokenizer.pad({"input_ids": token_ids}, padding_side="left", return_tensors="pt")
    return inputs.to(policy.model.device)


def _decoding(settings: Settings) -> dict[str, Any]:
    if settings.mode == "greedy":
        return {"do_sample": False, "repetition_penalty": 1.0}
    return {
        "do_sample": True,
        "repetition_penalty": 1.0,
        "temperature": settings.temperature,
        "top_p": 1.0,
        "top_k": 0,
    }


def _read(policy: Policy, new_ids: list[int], prompt_tokens: int) -> Generation:
    clipped = new_ids[-1] not in policy.model.generation_config.eos_token_id
    text = str(policy.tokenizer.decode(new_ids if clipped else new_ids[:-1], skip_special_tokens=True))
    return Generation(text, prompt_tokens, len(new_ids), clipped)


def _cuda_devices() -> list[int]:
    import torch

    return list(range(torch.cuda.device_count()))


@contextmanager
def answering(policy: Policy) -> Iterator[None]:
    """Inference mode for a block; a model that was training goes on training after it.

    LoRA is merged for as long, but for a backend with a sampler of its own, which does what it needs.
    """
    was_training = policy.model.training
    policy.model.eval()
    try:
        with nullcontext() if policy.sampler else merged(policy.model):
            yield
    finally:
        policy.model.train(was_training)
