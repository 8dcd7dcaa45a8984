"""Every probe of a record."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from helpers.rewards.probes import common
from helpers.rewards.probes.base import Probe

Record = Mapping[str, Any]


def probes_of(record: Record, records: Sequence[Record]) -> list[Probe]:
    """Every probe of a record: those of `helpers.rewards.probes.<task>`, then the cheats that any task may meet.

    `records` are those from which another record's reference and other tasks' are taken.
    """
    same_task = [other for other in records if other["task"] == record["task"]]
    own = import_module(f"helpers.rewards.probes.{record['task']}").probes(record, same_task)
    return [*own, *common.dressed(record["reference"]["text"]), *common.probes(record, records)]
