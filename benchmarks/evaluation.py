"""How much faster a batched evaluation is than one prompt at a time, and whether it says the same.

    python benchmarks/evaluation.py [prompts]

Both answer the eval split greedily with the profile's base policy, in one process, so that the ratio holds whatever
else the machine does. The one-at-a-time loop is the handoff's: a chat template, a `generate`, a decode for each prompt.
"""

import sys
import time
from dataclasses import replace

from helpers import evaluation, models, profiles, recipes
from helpers.records import load_split


def main(count: int) -> None:
    """Print both times, their ratio and the number of equal texts."""
    profile = profiles.get("auto")
    recipe, _ = profiles.fit(recipes.V41, profile)
    policy = models.load_base(recipe, profile)
    prompts = [record["prompt"] for record in load_split("eval")][:count]
    settings = evaluation.settings_for(recipe, profile, mode="greedy")

    started = time.monotonic()
    alone = [evaluation.generate(policy, [prompt], replace(settings, batch=1))[0].text for prompt in prompts]
    one_by_one = time.monotonic() - started
    started = time.monotonic()
    batched = [answer.text for answer in evaluation.generate(policy, prompts, settings)]
    together = time.monotonic() - started

    same = sum(one == other for one, other in zip(alone, batched, strict=True))
    print(f"{len(prompts)} prompts, greedy, {policy.name}")
    print(f"  one at a time  {one_by_one:6.1f} s")
    print(f"  batches of {settings.batch:<3} {together:6.1f} s  ({one_by_one / together:.1f} times as fast)")
    print(f"  same text      {same} of {len(prompts)}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 260)
