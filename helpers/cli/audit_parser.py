"""`python -m helpers audit-parser`: what each parser makes of the quirk corpus, and of your own completions."""

import argparse
from pathlib import Path

import pandas as pd

from helpers.cli.common import print_frame, require_names, require_positive, write_results
from helpers.parsing import audit
from helpers.parsing.trials import PARSER_NAMES
from helpers.plots.audits import family_map, outcome_bars


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    parser.add_argument("--completions", type=Path, help="a JSON-lines file with a 'completion' or 'text' in each line")
    parser.add_argument("--parsers", nargs="+", help="parsers to compare (default: every one installed)")
    parser.add_argument("--limit", type=float, default=2.0, help="seconds per text (default 2)")
    parser.add_argument("--out", type=Path, help="a folder for outcomes.csv and the figures")


def run(args: argparse.Namespace) -> int:
    """Audit, print the tables, write what `--out` asks for; 1 where our own parser is wrong on the quirk corpus."""
    require_names("parser", args.parsers, PARSER_NAMES)
    require_positive("--limit", args.limit, "seconds per text")
    texts = audit.load_completions(args.completions) if args.completions else []
    results = _audit("quirk corpus", audit.quirk_cases(), args)
    if args.completions:
        own = _audit(str(args.completions), audit.completion_cases(texts), args)
        if {"regex", "tolerant"} <= set(own["parser"]):
            print(f"{len(audit.newly_parsed(own))} of {len(texts)} completions: read by tolerant, not by regex")
        print_frame("repairs", audit.repairs_seen(texts).set_index("repair"))
    if args.out:
        figures = {"families": family_map(results), "outcomes": outcome_bars(results)}
        write_results(args.out, "outcomes", results, figures)
    return int(bool(((results["parser"] == "tolerant") & (results["outcome"] != "right")).any()))


def _audit(title: str, cases: list[audit.Case], args: argparse.Namespace) -> pd.DataFrame:
    """Run the parsers on `cases` and print one row per parser."""
    parsers = args.parsers or PARSER_NAMES
    results = audit.audit(cases, parsers, args.limit, on_parser=lambda name: print(f"{title}: {name} ..."))
    print_frame(f"{title}: {len(cases)} texts", audit.summary(results))
    return results
