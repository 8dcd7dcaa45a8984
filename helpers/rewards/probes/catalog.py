"""Every probe of a record."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from helpers.rewards.probes import common, extraction, insights, push, sql_qa
from helpers.rewards.probes.base import Probe

Record = Mapping[str, Any]

_PROBES: dict[str, Callable[[Record, Sequence[Record]], list[Probe]]] = {
    "extraction": extraction.probes,
    "sql_qa": sql_qa.probes,
    "insights": insights.probes,
    "push": push.probes,
}


def probes_of(record: Record, records: Sequence[Record]) -> list[Probe]:
    """Every probe of a record; `records` are those from which another record's reference and other tasks' are taken."""
    same_task = [other for other in records if other["task"] == record["task"]]
    own = _PROBES[record["task"]](record, same_task)
    return [*own, *common.dressed(record["reference"]["text"]), *common.probes(record, records)]
