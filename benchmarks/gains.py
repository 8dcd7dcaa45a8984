"""What runs gained over the base policy that they started from, with several answers per prompt instead of one.

    python -m benchmarks.gains [--samples 4] [RUN ...]

A run's own record answers each prompt of the eval split once, which leaves much of a task's 65 prompts to chance. Here
the base policy and each run's last adapter answer every prompt `--samples` times at temperature 1; the paired gain is
over the prompts' means, under the run's own reward version. Without RUN, your own V4.1 runs are taken; those shipped
have no adapters.
"""

import argparse
from pathlib import Path

from helpers.core.errors import UserError
from helpers.core.progress import Progress
from helpers.policy import evaluation, generation
from helpers.policy.loading import load_run_policy
from helpers.runs import analysis
from helpers.runs.analysis import Rewards
from helpers.runs.load import OWN_RUNS, read_config
from helpers.runs.record import CONFIG
from helpers.tasks.records import load_split


def main(runs: list[Path], samples: int) -> None:
    """Print a line per run and task: mean before, mean after, paired gain."""
    if not runs:
        print("no V4.1 run of your own has an adapter; `python -m helpers train` makes one")
    bases: dict[tuple[str, str], Rewards] = {}
    for run in runs:
        config = read_config(run)
        start = (str(config.get("base_policy")), str(config.get("reward_version")))
        if start not in bases:
            bases[start] = rewards(run, None, samples)
        gains = analysis.paired_gains(bases[start], rewards(run, "adapter", samples))
        print(f"{run}: {samples} answers per prompt, reward {start[1]}")
        for task, gain in gains.items():
            print(f"  {task:<10} {gain.before} -> {gain.after}, paired gain {gain.difference.signed()}", flush=True)


def own_runs() -> list[Path]:
    """The reader's own V4.1 runs that left an adapter."""
    trained = (folder.parent for folder in OWN_RUNS.glob("**/adapter") if (folder.parent / CONFIG).is_file())
    return sorted(run for run in trained if read_config(run)["recipe"]["name"] == "v4.1")


def rewards(run: Path, adapter: str | None, samples: int) -> Rewards:
    """Task -> record id -> mean reward of the answers of a run's adapter, or of its base policy."""
    run_policy = load_run_policy(run, adapter)
    records = load_split("eval")
    line = Progress(f"{run.name}, {adapter or 'base policy'}", samples * len(records))
    settings = generation.settings_for(run_policy.recipe, run_policy.profile, samples=samples)
    rows = evaluation.evaluate(run_policy.policy, records, settings, on_batch=line.update)
    line.close(f"{len(rows)} answers")
    return analysis.rewards_by_prompt(rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="paired gains with several answers per prompt", allow_abbrev=False)
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", default=own_runs())
    parser.add_argument("--samples", type=int, default=4)
    arguments = parser.parse_args()
    try:
        main(arguments.runs, arguments.samples)
    except UserError as error:
        raise SystemExit(f"error: {error}") from error
