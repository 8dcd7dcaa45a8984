"""How much faster our evaluation is than the handoff's loop, and whether it says the same.

    python -m benchmarks.evaluation [prompts per task]

The handoff's callback answers one prompt at a time: a chat template, a `generate`, a decode. Ours answers in batches of
like lengths, lets ended completions leave, and merges LoRA. Both answer the eval split greedily in one process, once
with the base policy and once as during training, with LoRA layers that are no longer zero. Each time is given by the
clock and in CPU seconds, which other processes disturb less.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from peft import get_peft_model

from helpers import recipes
from helpers.core.progress import Progress
from helpers.policy import Policy, generation, loading, lora
from helpers.recipes import Recipe, profiles
from helpers.tasks import TASKS
from helpers.tasks.records import load_split

Prompts = list[list[dict[str, str]]]


def main(a_task: int) -> None:
    """Print for both policies the two times, their ratio and the number of equal texts."""
    profile = profiles.get("auto")
    recipe, _ = profiles.fit(recipes.V41, profile)
    base = loading.load_base(recipe, profile)
    records = load_split("eval")
    chosen = [[record["prompt"] for record in records if record["task"] == task][:a_task] for task in TASKS]
    prompts = [prompt for task in chosen for prompt in task]
    settings = generation.settings_for(recipe, profile, mode="greedy")
    compare(f"{base.name}, the base policy", base, prompts, settings)
    compare(f"{base.name} as during training, with LoRA layers", with_lora(base, recipe), prompts, settings)


def with_lora(base: Policy, recipe: Recipe, seed: int = 0) -> Policy:
    """`base` under LoRA layers whose B matrices are small and random, as after some training, instead of zero."""
    torch.manual_seed(seed)
    model = get_peft_model(base.model, lora.lora_config(recipe))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.01)
    return replace(base, model=model)


def compare(title: str, policy: Policy, prompts: Prompts, settings: generation.Settings) -> None:
    """Print how both ways did."""
    alone, loop = timed(lambda: one_at_a_time(policy, prompts, settings.limit))
    ours, batched = timed(lambda: [answer.text for answer in generation.generate(policy, prompts, settings)])
    same = sum(one == other for one, other in zip(alone, ours, strict=True))
    print(f"{title}: {len(prompts)} prompts, greedy, batches of {settings.batch}, same text {same} of {len(prompts)}")
    for clock, slow, fast in zip(("by the clock", "CPU seconds"), loop, batched, strict=True):
        print(f"  {clock}: one at a time {slow:.1f} s, ours {fast:.1f} s, {slow / fast:.1f} times as fast")


def one_at_a_time(policy: Policy, prompts: Prompts, limit: int) -> list[str]:
    """The handoff's loop: the greedy answer of each prompt on its own, with the model's layers as they are."""
    policy.model.eval()
    line, answers = Progress("one at a time", len(prompts)), []
    for done, prompt in enumerate(prompts, 1):
        text = policy.tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
        inputs = policy.tokenizer(text, add_special_tokens=False, return_tensors="pt").to(policy.model.device)
        with torch.no_grad():
            ids = policy.model.generate(**inputs, max_new_tokens=limit, do_sample=False)
        answers.append(policy.tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
        line.update(done)
    line.close(f"{len(prompts)} prompts")
    return answers


def timed(work: Callable[[], list[str]]) -> tuple[list[str], tuple[float, float]]:
    """What `work` returns, and its seconds by the clock and of the CPU."""
    clock, cpu = time.perf_counter(), time.process_time()
    answers = work()
    return answers, (time.perf_counter() - clock, time.process_time() - cpu)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 65)
