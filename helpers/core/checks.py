"""One question about a machine or a run, and its answer."""

from dataclasses import dataclass
from typing import Literal

GIB = 2**30


@dataclass(frozen=True)
class Check:
    """One answer. `off` means that the project cannot run as it should; `note` is worth reading; `ok` is neither."""

    name: str
    value: str
    state: Literal["ok", "note", "off"] = "ok"
    remedy: str = ""
