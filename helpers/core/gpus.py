"""Which GPUs this machine has, as `nvidia-smi` tells: nothing is imported that a fresh machine may lack."""

import shutil
import subprocess
from dataclasses import dataclass

_QUERY = ("nvidia-smi", "--query-gpu=name,memory.total,memory.free,driver_version", "--format=csv,noheader,nounits")


@dataclass(frozen=True)
class Gpu:
    """One line of `nvidia-smi`; memory in MiB, 0 where it does not say."""

    name: str
    memory: int
    free: int
    driver: str

    @property
    def gib(self) -> float:
        """All of its memory; torch sees 1 to 3 % less."""
        return self.memory / 1024


def find(seconds: float = 30) -> tuple[list[Gpu], str]:
    """The GPUs that `nvidia-smi` names within `seconds`; where there are none, why not."""
    if shutil.which(_QUERY[0]) is None:
        return [], "no nvidia-smi on this machine"
    try:
        answer = subprocess.run(_QUERY, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return [], "nvidia-smi is there but does not answer"
    gpus = [] if answer.returncode else parse(answer.stdout)
    return gpus, "" if gpus else "nvidia-smi is there but reports no GPU"


def parse(text: str) -> list[Gpu]:
    """Read `nvidia-smi`'s CSV lines; memory that it does not report ("[N/A]") counts as 0.

    >>> parse("NVIDIA L4, 23034, 22563, 580.65.06")
    [Gpu(name='NVIDIA L4', memory=23034, free=22563, driver='580.65.06')]
    """
    rows = [[cell.strip() for cell in line.split(",")] for line in text.splitlines() if line.strip()]
    return [Gpu(name, _mebibytes(total), _mebibytes(free), driver) for name, total, free, driver in rows]


def _mebibytes(text: str) -> int:
    return int(text) if text.isdigit() else 0
