"""`python -m helpers audit-rewards`: try to cheat the rewards, and tell what each version lets pass."""

import argparse
from pathlib import Path
from typing import Any

HELP = "score right answers in other dress, wrong ones and cheats under each reward version"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    parser.add_argument("--pairs", type=Path, help="records to audit (default: data/pairs/eval.jsonl)")
    parser.add_argument("--task", help="one task only")
    parser.add_argument("--versions", nargs="+", default=["v4.1", "v4.2"], help="reward versions (default v4.1 v4.2)")
    parser.add_argument("--probes", action="store_true", help="print every probe, not only the kinds")
    parser.add_argument("--out", type=Path, help="a folder for scores.csv and the heat maps")


def run(args: argparse.Namespace) -> int:
    """Audit, print the tables, write what `--out` asks for; 1 where v4.2 breaks a bound or the order."""
    from rich.console import Console

    from helpers.core.errors import require_known
    from helpers.core.progress import Progress
    from helpers.rewards import VERSIONS, audit
    from helpers.tasks import TASKS
    from helpers.tasks.records import PAIRS_DIR, load_records

    for version in args.versions:
        require_known("reward version", version, VERSIONS)
    if args.task:
        require_known("task", args.task, TASKS)
    records = load_records(args.pairs or PAIRS_DIR / "eval.jsonl")
    audited = [record for record in records if args.task in (None, record["task"])]
    line = Progress("reward audit", len(audited))
    scores = audit.audit(audited, args.versions, on_record=line.update, others=records)
    line.close(f"{len(scores)} scores")
    _print(Console(), scores, args)
    if args.out:
        _write(scores, args.out)
    return _verdict(scores, args.versions)


def _print(console: Any, scores: Any, args: argparse.Namespace) -> None:
    """A table a task: the kinds of probes, or every probe."""
    from rich.table import Table

    from helpers.rewards.audit import table

    by = ["kind", "probe"] if args.probes else ["kind"]
    for task in dict.fromkeys(scores["task"]):
        shown = Table(title=f"{task}: mean \\[least, greatest] total", title_justify="left")
        for name in (*by, *args.versions):
            shown.add_column(name, justify="left" if name in by else "right")
        for row in table(scores[scores["task"] == task], by).itertuples():
            labels = row.Index if isinstance(row.Index, tuple) else (row.Index,)
            shown.add_row(*labels, *row[1:])
        console.print(shown)


def _write(scores: Any, folder: Path) -> None:
    """`scores.csv`, `kinds.png` and one heat map a task."""
    from helpers.core.files import replacing, write_text
    from helpers.plots.rewards import kind_heat_map, probe_heat_map

    write_text(folder / "scores.csv", scores.to_csv(index=False))
    figures = {"kinds": kind_heat_map(scores)}
    figures |= {task: probe_heat_map(scores, task) for task in dict.fromkeys(scores["task"])}
    for name, figure in figures.items():
        with replacing(folder / f"{name}.png") as path:
            figure.savefig(path, format="png")
    print(f"wrote scores.csv and {len(figures)} figures to {folder}")


def _verdict(scores: Any, versions: list[str]) -> int:
    """Print v4.2's verdict; v4.1's broken bounds are shown in the tables and are no failure: it measures form."""
    from helpers.rewards.audit import order

    if "v4.2" not in versions:
        return 0
    broken = int((~scores.loc[scores["version"] == "v4.2", "ok"]).sum())
    ladder = order(scores)
    out_of_order = ladder.loc[~ladder["ok"], "record_id"].tolist()
    print(f"v4.2: {broken} totals outside of their bound; order kept for {ladder['ok'].sum()} of {len(ladder)} records")
    if out_of_order:
        print(f"out of order: {', '.join(out_of_order[:10])}{' ...' if len(out_of_order) > 10 else ''}")
    return int(broken > 0 or bool(out_of_order))
