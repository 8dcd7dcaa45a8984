"""`python -m helpers evaluate`: answer a split with the base policy or a trained run, and score it."""

import argparse
from dataclasses import replace
from pathlib import Path

from helpers.core import processes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    parser.add_argument("--run", type=Path, help="a run folder whose adapter answers (default: the base policy)")
    parser.add_argument("--best", action="store_true", help="the adapter of the run's best evaluation, not its last")
    parser.add_argument("--profile", help="the base policy's: cpu, smallest, l4, or auto (default); a run has its own")
    parser.add_argument("--recipe", help="the base policy's: its length and reward (default v4.1); a run has its own")
    parser.add_argument("--version", help="another reward version: v4, v4.1 or v4.2 (default: the recipe's)")
    parser.add_argument("--parser", help="another JSON parser: regex, handoff or tolerant (default: the version's)")
    parser.add_argument("--split", default="eval", help="train, eval (default) or test")
    parser.add_argument("--mode", default="sample", help="sample (temperature 1, default) or greedy")
    parser.add_argument("--samples", type=int, default=1, help="completions per prompt (default 1)")
    parser.add_argument("--seed", type=int, default=1_000, help="sampling seed (default 1000, a run's own)")
    parser.add_argument("--out", type=Path, help="also write the scored completions there, as JSON lines")


def run(args: argparse.Namespace) -> int:
    """Evaluate, print each task's mean with its interval, and write the rows where `--out` says."""
    from helpers.cli.common import require_positive, require_seed
    from helpers.core.errors import require_known
    from helpers.core.files import write_jsonl
    from helpers.core.progress import Progress
    from helpers.parsing.baselines import PARSERS
    from helpers.policy import MODES, evaluation, find_policy, settings_for
    from helpers.rewards import VERSIONS
    from helpers.tasks.records import SPLITS, load_split

    require_known("split", args.split, SPLITS)
    require_known("mode", args.mode, MODES)
    require_known("reward version", args.version or "v4.1", VERSIONS)
    require_known("parser", args.parser or "tolerant", tuple(PARSERS))
    require_positive("--samples", args.samples, "completion")
    require_seed(args.seed)
    records = load_split(args.split)
    run_policy = find_policy(args.run, args.best, args.recipe, args.profile)
    policy = run_policy.policy
    settings = settings_for(run_policy.recipe, run_policy.profile, args.mode, args.samples, args.seed)
    settings = replace(settings, version=args.version or settings.version, parser=args.parser)
    line = Progress(f"{policy.name}, {args.split}", len(records) * args.samples)
    rows, metrics = evaluation.timed_evaluate(policy, records, settings, split=args.split, on_batch=line.update)
    line.close(f"{len(rows)} completions")
    if not processes.is_first():
        return 0
    if args.out:
        write_jsonl(args.out, rows)
    print(evaluation.report(metrics, settings))
    return 0
