"""The rewards on trial: every probe of every record under every version, against what v4.2 owes to its kind."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from helpers.rewards.base import VERSIONS
from helpers.rewards.probes.base import KINDS
from helpers.rewards.probes.catalog import probes_of
from helpers.rewards.scoring import score

Record = Mapping[str, Any]

AT_LEAST = {"reference": 0.95, "harmless": 0.90}
AT_MOST = {"lazy": 0.30, "cheat": 0.30}
"""What a total must reach, or may not exceed, by kind of probe."""


def audit(
    records: Sequence[Record],
    versions: Iterable[str] = VERSIONS,
    on_record: Callable[[int], object] | None = None,
    others: Sequence[Record] | None = None,
) -> pd.DataFrame:
    """One row per record, probe and version: `task`, `record_id`, `kind`, `probe`, `version`, `total`, `ok`.

    `ok` is whether the total keeps its kind's bound (always true for kinds without one). `on_record(done)` is called
    after each record. `others` (default: `records`) are where another record's reference and other tasks' come from.
    Raises `UserError` where v4.2 needs the database and it is missing.
    """
    versions = list(versions)
    rows: list[dict[str, Any]] = []
    for done, record in enumerate(records, 1):
        rows += _record_rows(record, others or records, versions)
        if on_record:
            on_record(done)
    return pd.DataFrame(rows)


def _record_rows(record: Record, others: Sequence[Record], versions: list[str]) -> list[dict[str, Any]]:
    rows = []
    for probe in probes_of(record, others):
        for version in versions:
            total = score(record["task"], probe.text, record, version).total
            row = {"task": record["task"], "record_id": record["id"], "kind": probe.kind, "probe": probe.name}
            rows.append({**row, "version": version, "total": total, "ok": keeps_bound(probe.kind, total)})
    return rows


def keeps_bound(kind: str, total: float) -> bool:
    """Whether a total is what v4.2 owes to a kind of probe.

    >>> keeps_bound("cheat", 0.2), keeps_bound("harmless", 0.85), keeps_bound("wrong_fact", 0.99)
    (True, False, True)
    """
    return AT_LEAST.get(kind, 0.0) <= total <= AT_MOST.get(kind, 1.0)


def table(scores: pd.DataFrame, by: Sequence[str] = ("kind", "probe")) -> pd.DataFrame:
    """Totals as `mean [least, greatest]`, a column a version, `!` where a bound is broken; kinds in order."""
    grouped = scores.groupby([*by, "version"], sort=False)
    numbers = grouped.agg(mean=("total", "mean"), least=("total", "min"), most=("total", "max"), ok=("ok", "min"))
    texts = numbers.apply(
        lambda row: f"{'' if row['ok'] else '! '}{row['mean']:.2f} [{row['least']:.2f}, {row['most']:.2f}]", axis=1
    )
    wide = texts.unstack("version")[list(dict.fromkeys(scores["version"]))]
    order_of_kinds = [KINDS.index(index[0] if isinstance(index, tuple) else index) for index in wide.index]
    return wide.iloc[pd.Series(order_of_kinds).argsort(kind="stable")]


def order(scores: pd.DataFrame, version: str = "v4.2") -> pd.DataFrame:
    """One row per record: the total of each step of the ladder, and whether each step is above the next.

    The ladder: the reference, the reference with one wrong fact (the best and the worst of them), another record's
    reference, the best cheat.
    """
    chosen = scores[scores["version"] == version]
    totals = chosen.groupby(["task", "record_id", "kind"], sort=False)["total"]
    least, most = totals.min().unstack(), totals.max().unstack()
    ladder = pd.DataFrame(
        {
            "reference": least["reference"],
            "best_wrong_fact": most["wrong_fact"],
            "worst_wrong_fact": least["wrong_fact"],
            "other_record": most["other_record"],
            "best_cheat": most["cheat"],
        }
    )
    ladder["ok"] = (
        (ladder["reference"] > ladder["best_wrong_fact"])
        & (ladder["worst_wrong_fact"] > ladder["other_record"])
        & (ladder["other_record"] > ladder["best_cheat"])
    )
    return ladder.reset_index()


def fixed_answer_floor(records: Sequence[Record], version: str = "v4.2") -> dict[str, float]:
    """By task, the best mean total that one fixed completion reaches over all records: what is won without reading.

    The candidates are the records' own references, so that time grows with the square of the records.
    """
    tasks = dict.fromkeys(record["task"] for record in records)
    return {task: _best_fixed([record for record in records if record["task"] == task], version) for task in tasks}


def _best_fixed(records: Sequence[Record], version: str) -> float:
    texts = {record["reference"]["text"] for record in records}
    means = [sum(score(r["task"], text, r, version).total for r in records) / len(records) for text in texts]
    return max(means)
