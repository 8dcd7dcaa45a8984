"""Which process this is under `torchrun` or `accelerate launch`: all of them train, only the first one writes.

Both launchers set environment variables, so this needs no torch.
"""

import os
from collections import Counter
from collections.abc import Sequence
from typing import Any, TypeVar

T = TypeVar("T")


def rank() -> int:
    """This process's number; 0 where there is only one."""
    return int(os.environ.get("RANK", "0"))


def local_rank() -> int:
    """This process's number on its machine, which is that of its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def count() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this process writes the run record and prints."""
    return rank() == 0


def wait() -> None:
    """Wait until every process has reached this line; with one process, return at once."""
    if count() > 1:
        _connected().wait_for_everyone()


def share(items: Sequence[T]) -> Sequence[T]:
    """The items that fall to this process, dealt out one by one: of sorted ones, all get as many and as large ones.

    >>> share(["a", "b"])
    ['a', 'b']
    """
    return items[rank() :: count()]


def from_first(value: T) -> T:
    """The first process's `value`; each process must call this.

    >>> from_first("a")
    'a'
    """
    return gather([value])[0]


def gather(items: list[Any]) -> list[Any]:
    """The items of all processes, in the order of their numbers; each process must call this.

    >>> gather(["a", "b"])
    ['a', 'b']
    """
    if count() == 1:
        return items
    from accelerate.utils import gather_object

    _connected()
    return gather_object(items)


def total(counts: Counter[str]) -> Counter[str]:
    """The sum of `counts` over all processes, each of which must call this.

    >>> total(Counter(push=2))
    Counter({'push': 2})
    """
    return counts if count() == 1 else sum(gather([counts]), Counter())


def anywhere(flag: bool) -> bool:
    """Whether `flag` is true on any process; all of them must call this, and all get the same answer.

    >>> anywhere(False)
    False
    """
    return any(gather([flag]))


def _connected() -> Any:
    """accelerate's state of this launch, with the processes connected."""
    import torch
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    # Without `cpu`, processes on a CPU would not be connected, and each would wait for itself alone.
    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.cuda.is_available())
