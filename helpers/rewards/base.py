"""What every reward is made of: reward versions, named parts, and the score that they add up to."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from helpers.core.errors import require_known
from helpers.parsing import ParsedCompletion
from helpers.tasks import TASKS

Parser = Callable[[str], ParsedCompletion]

VERSIONS: tuple[str, ...] = ("v4", "v4.1", "v4.2")

ONE_TASK_VERSIONS: dict[str, str] = {f"v4.2-{task}": task for task in TASKS}
"""`v4.2-<task>` is v4.2 for that task and v4.1 for the others: one fix, nothing else changed."""

REPAIR_FLAG = "repair:"


def parser_of(version: str) -> str:
    """The JSON parser that a reward version reads completions with (`helpers.parsing.baselines.PARSERS`).

    >>> parser_of("v4"), parser_of("v4.2-extraction")
    ('regex', 'tolerant')
    """
    return "regex" if version == "v4" else "tolerant"


def version_for(task: str, version: str) -> str:
    """The plain version that `task` is scored with under `version`.

    >>> version_for("push", "v4.2-push"), version_for("insights", "v4.2-push"), version_for("push", "v4")
    ('v4.2', 'v4.1', 'v4')
    """
    if version in ONE_TASK_VERSIONS:
        return "v4.2" if ONE_TASK_VERSIONS[version] == task else "v4.1"
    require_known("reward version", version, (*VERSIONS, *ONE_TASK_VERSIONS))
    return version


@dataclass(frozen=True)
class Parts:
    """A completion's parts, each a share in [0, 1], and what was noticed on the way."""

    shares: dict[str, float]
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Score:
    """A completion's reward: `total` in [0, 1], each part's share in [0, 1], flags such as `repair:code_fence`.

    `total` is the sum of weight x share over `WEIGHTS[version][task]`, clipped to [0, 1].
    """

    total: float
    parts: dict[str, float] = field(default_factory=dict)
    flags: tuple[str, ...] = ()

    @property
    def repairs(self) -> tuple[str, ...]:
        """The names of the parser's repairs, in the order in which the parser reports them."""
        return tuple(flag.removeprefix(REPAIR_FLAG) for flag in self.flags if flag.startswith(REPAIR_FLAG))


TaskReward = Callable[[str, Mapping[str, Any], Parser], Parts]
"""(completion text, record, parser) -> parts."""


def total_of(shares: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """The weighted sum of the shares, clipped to [0, 1]; rounding keeps a full score exactly 1.

    >>> total_of({"a": 1.0, "b": 0.5}, {"a": 0.8, "b": 0.2})
    0.9
    """
    return min(1.0, max(0.0, round(sum(weight * shares[part] for part, weight in weights.items()), 6)))
