"""`python -m helpers audit-rewards`: try to cheat the rewards, and report what each version lets pass."""

import argparse
from pathlib import Path

import pandas as pd

from helpers.cli.common import print_frame, require_names, write_results
from helpers.core.progress import Progress
from helpers.plots.audits import kind_heat_map, probe_heat_map
from helpers.rewards import VERSIONS, audit
from helpers.tasks import TASKS
from helpers.tasks.records import PAIRS_DIR, load_records


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    parser.add_argument("--pairs", type=Path, help="records to audit (default: data/pairs/eval.jsonl)")
    parser.add_argument("--task", help="one task only")
    parser.add_argument("--versions", nargs="+", default=["v4.1", "v4.2"], help="reward versions (default v4.1 v4.2)")
    parser.add_argument("--probes", action="store_true", help="print every probe, not only the kinds")
    parser.add_argument("--out", type=Path, help="a folder for scores.csv and the heat maps")


def run(args: argparse.Namespace) -> int:
    """Audit, print a table per task, write what `--out` asks for; 1 where v4.2 breaks a bound or the order."""
    require_names("reward version", args.versions, VERSIONS)
    require_names("task", args.task, TASKS)
    records = load_records(args.pairs or PAIRS_DIR / "eval.jsonl")
    audited = [record for record in records if args.task in (None, record["task"])]
    line = Progress("reward audit", len(audited))
    scores = audit.audit(audited, args.versions, on_record=line.update, others=records)
    line.close(f"{len(scores)} scores")
    by = ["kind", "probe"] if args.probes else ["kind"]
    tasks = list(dict.fromkeys(scores["task"]))
    for task in tasks:
        print_frame(f"{task}: mean [least, greatest] total", audit.table(scores[scores["task"] == task], by))
    if args.out:
        figures = {"kinds": kind_heat_map(scores)} | {task: probe_heat_map(scores, task) for task in tasks}
        write_results(args.out, "scores", scores, figures)
    return _verdict(scores) if "v4.2" in args.versions else 0


def _verdict(scores: pd.DataFrame) -> int:
    """Print v4.2's verdict; v4.1's broken bounds are shown in the tables and are no failure: it measures form."""
    broken = int((~scores.loc[scores["version"] == "v4.2", "ok"]).sum())
    ladder = audit.order(scores)
    out_of_order = ladder.loc[~ladder["ok"], "record_id"].tolist()
    print(f"v4.2: {broken} totals outside of their bound; order kept for {ladder['ok'].sum()} of {len(ladder)} records")
    if out_of_order:
        print(f"out of order: {', '.join(out_of_order[:10])}{' ...' if len(out_of_order) > 10 else ''}")
    return int(broken > 0 or bool(out_of_order))
