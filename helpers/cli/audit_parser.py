"""`python -m helpers audit-parser`: what each parser makes of the quirk corpus, and of your own completions."""

import argparse
from pathlib import Path
from typing import Any

HELP = "compare JSON parsers on the quirk corpus, and on your own completions"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    parser.add_argument("--completions", type=Path, help="a JSON-lines file with a 'completion' or 'text' in each line")
    parser.add_argument("--parsers", nargs="+", help="parsers to compare (default: every one installed)")
    parser.add_argument("--limit", type=float, default=2.0, help="seconds a text (default 2)")
    parser.add_argument("--out", type=Path, help="a folder for outcomes.csv and the figures")


def run(args: argparse.Namespace) -> int:
    """Audit, print the tables, write what `--out` asks for; 1 where our own parser is wrong on the quirk corpus."""
    from rich.console import Console

    from helpers.core.errors import UserError, require_known
    from helpers.parsing import audit
    from helpers.parsing.trials import PARSER_NAMES

    parsers = tuple(args.parsers or PARSER_NAMES)
    for name in parsers:
        require_known("parser", name, PARSER_NAMES)
    if args.limit <= 0:
        raise UserError(f"--limit {args.limit:g}: the seconds allowed a text must be more than 0")
    console = Console()
    texts = audit.load_completions(args.completions) if args.completions else []
    results = _audit(console, "quirk corpus", audit.quirk_cases(), parsers, args.limit)
    if args.completions:
        own = _audit(console, str(args.completions), audit.completion_cases(texts), parsers, args.limit)
        _tell_own(console, own, texts)
    if args.out:
        _write(results, args.out)
    return int(bool(((results["parser"] == "tolerant") & (results["outcome"] != "right")).any()))


def _audit(console: Any, title: str, cases: list[Any], parsers: tuple[str, ...], limit: float) -> Any:
    from helpers.parsing.audit import audit, summary

    results = audit(
        cases, parsers, limit, on_parser=lambda name: console.print(f"{title}: {name} ...", highlight=False)
    )
    _table(console, f"{title}: {len(cases)} texts", summary(results))
    return results


def _tell_own(console: Any, results: Any, texts: list[str]) -> None:
    """How many completions only our parser reads, and the repairs that took."""
    from helpers.parsing.audit import newly_parsed, repairs_seen

    if {"regex", "tolerant"} <= set(results["parser"]):
        console.print(f"{len(newly_parsed(results))} of {len(texts)} completions: read by tolerant, not by regex")
    _table(console, "repairs", repairs_seen(texts).set_index("repair"))


def _table(console: Any, title: str, frame: Any) -> None:
    from rich.table import Table

    shown = Table(title=title, title_justify="left")
    for column in (frame.index.name or "", *frame.columns):
        shown.add_column(str(column), justify="right" if column in frame.columns else "left")
    for row in frame.itertuples():
        shown.add_row(*map(str, row))
    console.print(shown)


def _write(results: Any, folder: Path) -> None:
    """`outcomes.csv`, `families.png` and `outcomes.png`."""
    from helpers.core.files import replacing, write_text
    from helpers.plots.parser import family_map, outcome_bars

    write_text(folder / "outcomes.csv", results.to_csv(index=False))
    for name, figure in {"families": family_map(results), "outcomes": outcome_bars(results)}.items():
        with replacing(folder / f"{name}.png") as path:
            figure.savefig(path, format="png")
    print(f"wrote outcomes.csv and 2 figures to {folder}")
