"""`python -m helpers pairs`: more records of one task, from a part of the orders."""

import argparse
from pathlib import Path

from helpers.cli.common import require_names, require_positive, require_seed
from helpers.core.files import database_path
from helpers.tasks import TASKS
from helpers.tasks.pairs.build import write_extra_pairs
from helpers.tasks.records import PAIRS_DIR
from helpers.tasks.shop.schema import DEFAULT_SEED


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    parser.add_argument("--task", required=True, help=f"one of: {', '.join(TASKS)}")
    parser.add_argument("--add", type=int, required=True, metavar="N", help="how many new records")
    parser.add_argument(
        "--where", default="1", help="an SQL condition on orders_enriched, e.g. \"sentiment='negative'\""
    )
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED, help="another seed, other records (%(default)s)")
    parser.add_argument("--db", type=Path, default=database_path(), help="the database to read (%(default)s)")
    parser.add_argument(
        "--pairs", type=Path, default=PAIRS_DIR, metavar="DIR", help="the splits not to repeat (%(default)s)"
    )
    parser.add_argument("--out", type=Path, help="the file to write (data/pairs/extra-<task>.jsonl)")


def run(args: argparse.Namespace) -> int:
    """Write the new records; no record of the three splits is repeated or, for eval and test, nearly repeated."""
    require_names("task", args.task, TASKS)
    require_positive("--add", args.add, "record")
    require_seed(args.seed)
    path = args.out or args.pairs / f"extra-{args.task}.jsonl"
    rows = write_extra_pairs(path, args.db, args.task, args.add, args.where, args.seed, args.pairs)
    print(f"{path}: {len(rows)} new {args.task} records from orders where {args.where}")
    return 0
