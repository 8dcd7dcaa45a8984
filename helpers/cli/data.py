"""`python -m helpers data`: the shop's database, the pairs, and the generated parts of the data card (data/README.md),
from the simulator or from real Olist files."""

import argparse
import time
from contextlib import closing
from pathlib import Path

import pandas as pd

from helpers.cli.common import put_between_markers, require_positive, require_seed
from helpers.core.errors import UserError
from helpers.core.files import PROJECT_ROOT, database_path, replacing, write_text
from helpers.plots.data import plot_shop
from helpers.plots.style import save_png
from helpers.tasks import TASKS
from helpers.tasks.pairs.build import build_pairs, write_pairs
from helpers.tasks.records import PAIRS_DIR, SPLITS, count_by_task, load_split
from helpers.tasks.shop.database import build_db, connect
from helpers.tasks.shop.describe import compare_with_facts, comparison_table, describe
from helpers.tasks.shop.import_olist import read_csv_folder, write_csv_folder
from helpers.tasks.shop.schema import DEFAULT_ORDERS, DEFAULT_SEED
from helpers.tasks.shop.simulate import Tables, simulate

CARD = PROJECT_ROOT / "data" / "README.md"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED, help="of the simulator and the pairs (%(default)s)")
    parser.add_argument("--orders", type=int, default=DEFAULT_ORDERS, help="orders to simulate (%(default)s)")
    parser.add_argument("--olist-csv", type=Path, metavar="DIR", help="import these nine files, simulate nothing")
    parser.add_argument(
        "--write-csv", type=Path, metavar="DIR", help="also write the simulated tables as Olist's files"
    )
    parser.add_argument("--db", type=Path, default=database_path(), help="the database to write (%(default)s)")
    parser.add_argument("--pairs", type=Path, default=PAIRS_DIR, metavar="DIR", help="where the pairs go (%(default)s)")
    parser.add_argument("--db-only", action="store_true", help="leave the pairs as they are")
    parser.add_argument(
        "--card", action="store_true", help="build nothing: renew the tables and figure of data/README.md"
    )
    parser.add_argument("--describe", action="store_true", help="build nothing: compare with the facts, show samples")


def run(args: argparse.Namespace) -> int:
    """Build the database, then the pairs, printing how long each step took; where either is refused, both stay as they
    were."""
    if args.describe:
        print(describe(args.db, args.pairs))
        return 0
    if args.card:
        print(f"renewed: {', '.join(str(path) for path in renew_card(args.db, args.pairs))}")
        return 0
    started = time.monotonic()
    tables = _tables(args)
    with replacing(args.db) as database:
        build_db(tables, database)
        source = f"imported from {args.olist_csv}" if args.olist_csv else f"simulated with seed {args.seed}"
        print(f"{args.db}: {len(tables['orders']):,} orders {source} [{time.monotonic() - started:.1f} s]")
        if args.db_only:
            return 0
        print(f"drawing the pairs from {args.db} ...", flush=True)
        started = time.monotonic()
        splits = build_pairs(database, args.seed)
        write_pairs(splits, args.pairs)
    for name, rows in splits.items():
        print(f"{args.pairs / name}.jsonl: {len(rows)} records {count_by_task(rows)}")
    print(f"no leak between the splits [{time.monotonic() - started:.1f} s]")
    return 0


def _tables(args: argparse.Namespace) -> Tables:
    """The shop's tables, simulated or imported; the import prints what it mended."""
    require_positive("--orders", args.orders, "order")
    require_seed(args.seed)
    if args.olist_csv and args.write_csv:
        raise UserError("--write-csv writes simulated tables, and --olist-csv simulates none: choose one of them")
    tables = read_csv_folder(args.olist_csv) if args.olist_csv else simulate(args.orders, args.seed)
    if args.write_csv:
        write_csv_folder(tables, args.write_csv)
    return tables


def renew_card(db_path: Path, pairs_dir: Path, card: Path = CARD) -> list[Path]:
    """Rewrite the generated tables of the data card and its figure; the files written."""
    text = card.read_text(encoding="utf-8")
    text = put_between_markers(text, "counts", counts_table(pairs_dir))
    text = put_between_markers(text, "comparison", comparison_table(compare_with_facts(db_path)))
    image = card.parent / "figures" / "shop.png"
    with closing(connect(db_path)) as db:
        save_png(plot_shop(pd.read_sql("SELECT * FROM orders_enriched", db)), image)
    write_text(card, text)
    return [card, image]


def counts_table(pairs_dir: Path = PAIRS_DIR) -> str:
    """How many records each split and task have, as a Markdown table."""
    lines = [f"| split | {' | '.join(TASKS)} | all |", "|---|" + "---:|" * (len(TASKS) + 1)]
    for name in SPLITS:
        counts = count_by_task(load_split(name, pairs_dir))
        lines.append(f"| {name} | {' | '.join(str(counts[task]) for task in TASKS)} | {sum(counts.values())} |")
    return "\n".join(lines)
