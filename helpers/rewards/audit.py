"""The rewards on trial: every probe of every record under every version, against what v4.2 owes to its kind."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from helpers.rewards.base import VERSIONS
from helpers.rewards.probes import KINDS, probes_of
from helpers.rewards.scoring import score

Record = Mapping[str, Any]

AT_LEAST = {"reference": 0.95, "harmless": 0.90}
AT_MOST = {"lazy": 0.30, "cheat": 0.30}
"""What a total must reach, or may not exceed, by kind of probe."""


def audit(
    records: Sequence[Record], versions: Iterable[str] = VERSIONS, progress: Callable[[int, int], None] | None = None
) -> pd.DataFrame:
    """One row a record, probe and version: `task`, `record_id`, `kind`, `probe`, `version`, `total`, `ok`.

    `ok` is whether the total keeps its kind's bound (always true for kinds without one). `progress(done, all)` is
    called after each record. Raises `UserError` where v4.2 needs the database and it is missing.
    """
    versions = list(versions)
    rows: list[dict[str, Any]] = []
    for number, record in enumerate(records, 1):
        rows += _record_rows(record, records, versions)
        if progress:
            progress(number, len(records))
    return pd.DataFrame(rows)


def _record_rows(record: Record, records: Sequence[Record], versions: list[str]) -> list[dict[str, Any]]:
    rows = []
    for probe in probes_of(record, records):
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


def table(scores: pd.DataFrame) -> pd.DataFrame:
    """One row a task and probe: how many records, and for each version the mean, least and greatest total and failures.

    Columns are (version, statistic); rows are ordered by task, kind and the order in which probes are made.
    """
    grouped = scores.groupby(["task", "kind", "probe", "version"], sort=False)
    numbers = grouped.agg(
        records=("total", "size"),
        mean=("total", "mean"),
        least=("total", "min"),
        greatest=("total", "max"),
        failures=("ok", lambda column: int((~column).sum())),
    )
    wide = numbers.unstack("version").swaplevel(axis=1).sort_index(axis=1, level=0, sort_remaining=False)
    return wide.sort_index(level="kind", key=lambda kinds: kinds.map(KINDS.index), sort_remaining=False, kind="stable")


def order(scores: pd.DataFrame, version: str = "v4.2") -> pd.DataFrame:
    """One row a record: the total of each step of the ladder, and whether each step is above the next.

    The ladder: the reference, the reference with one wrong fact (the best and the worst of them), another record's
    reference, the best cheat.
    """
    chosen = scores[scores["version"] == version]
    by_kind = chosen.pivot_table(index=["task", "record_id"], columns="kind", values="total", aggfunc=["min", "max"])
    ladder = pd.DataFrame(
        {
            "reference": by_kind["min"]["reference"],
            "best_wrong_fact": by_kind["max"]["wrong_fact"],
            "worst_wrong_fact": by_kind["min"]["wrong_fact"],
            "other_record": by_kind["max"]["other_record"],
            "best_cheat": by_kind["max"]["cheat"],
        }
    )
    ladder["ok"] = (
        (ladder["reference"] > ladder["best_wrong_fact"])
        & (ladder["worst_wrong_fact"] > ladder["other_record"])
        & (ladder["other_record"] > ladder["best_cheat"])
    )
    return ladder.reset_index()


def fixed_answer_floor(records: Sequence[Record], version: str = "v4.2") -> dict[str, float]:
    """The best mean total of one fixed completion over all records of a task: what a policy wins without reading.

    The candidates are the records' own references.
    """
    return {
        task: _best_fixed([record for record in records if record["task"] == task], version) for task in _tasks(records)
    }


def _tasks(records: Sequence[Record]) -> list[str]:
    return list(dict.fromkeys(record["task"] for record in records))


def _best_fixed(records: Sequence[Record], version: str) -> float:
    texts = {record["reference"]["text"] for record in records}
    means = [sum(score(r["task"], text, r, version).total for r in records) / len(records) for text in texts]
    return max(means)
