"""Which process this is, under `torchrun` or `accelerate launch`: every one trains, the first one alone writes.

Both launchers tell through the environment, so that asking needs no torch.
"""

import os
from collections import Counter


def rank() -> int:
    """This process's number; 0 where there is one process only."""
    return int(os.environ.get("RANK", "0"))


def count() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this process writes the run record and speaks."""
    return rank() == 0


def wait() -> None:
    """Go on when every process has come this far. With one process: at once."""
    if count() > 1:
        from accelerate import PartialState

        PartialState().wait_for_everyone()


def total(counts: Counter[str]) -> Counter[str]:
    """The sum of every process's `counts`; each must ask at the same time.

    >>> total(Counter(push=2))
    Counter({'push': 2})
    """
    if count() == 1:
        return counts
    from accelerate.utils import gather_object

    return sum(gather_object([counts]), Counter())
