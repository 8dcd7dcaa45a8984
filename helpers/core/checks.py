"""The answer to one question about a machine or a run."""

from dataclasses import dataclass
from typing import Literal

GIB = 2**30


@dataclass(frozen=True)
class Check:
    """One answer. `off`: the project cannot run as it should; `note`: worth reading."""

    name: str
    value: str
    state: Literal["ok", "note", "off"] = "ok"
    remedy: str = ""
