"""Which process this is under `torchrun` or `accelerate launch`: all of them train, only the first one writes.

Both launchers set environment variables, so this needs no torch.
"""

import os
from collections import Counter


def rank() -> int:
    """This process's number; 0 where there is only one."""
    return int(os.environ.get("RANK", "0"))


def count() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this process writes the run record and prints."""
    return rank() == 0


def wait() -> None:
    """Wait until every process has reached this line; with one process, return at once."""
    if count() > 1:
        from accelerate import PartialState

        PartialState().wait_for_everyone()


def total(counts: Counter[str]) -> Counter[str]:
    """The sum of `counts` over all processes, each of which must call this.

    >>> total(Counter(push=2))
    Counter({'push': 2})
    """
    if count() == 1:
        return counts
    from accelerate.utils import gather_object

    return sum(gather_object([counts]), Counter())
