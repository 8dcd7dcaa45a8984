"""The kinds of probes and what v4.2 owes to each."""

from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["reference", "harmless", "wrong_fact", "partial", "other_record", "lazy", "cheat", "limit"]

KINDS: tuple[Kind, ...] = get_args(Kind)
"""reference: the record's own answer (at least 0.95) · harmless: the same answer in other dress (at least 0.90) ·
wrong_fact: the reference with one thing wrong (below the reference) · partial: half of a right answer ·
other_record: a good answer to another record ·
lazy: a fixed or useless answer that reads like one (at most 0.30) · cheat: text made to score (at most 0.30, and below
another record's reference) · limit: what v4.2 is known not to see, shown without a bound."""


@dataclass(frozen=True)
class Probe:
    """One completion to be scored against a record."""

    name: str
    kind: Kind
    text: str
