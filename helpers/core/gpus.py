"""Which GPUs this machine has, according to `nvidia-smi`: a fresh machine may have no torch to ask."""

import shutil
import subprocess
from dataclasses import dataclass

_QUERY = ("nvidia-smi", "--query-gpu=name,memory.total,memory.free,driver_version", "--format=csv,noheader,nounits")


@dataclass(frozen=True)
class Gpu:
    """One GPU as `nvidia-smi` lists it; memory in MiB, 0 where it is not reported."""

    name: str
    memory: int
    free: int
    driver: str

    @property
    def gib(self) -> float:
        """Total memory in GiB; torch sees 1 to 3 % less."""
        return self.memory / 1024


def find(seconds: float = 30) -> tuple[list[Gpu], str]:
    """The GPUs that `nvidia-smi` lists within `seconds`, and where there are none, the reason."""
    if shutil.which(_QUERY[0]) is None:
        return [], "no nvidia-smi on this machine"
    try:
        answer = subprocess.run(_QUERY, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return [], "nvidia-smi is there but does not answer"
    gpus = [] if answer.returncode else parse(answer.stdout)
    return gpus, "" if gpus else "nvidia-smi is there but reports no GPU"


def parse(text: str) -> list[Gpu]:
    """Read `nvidia-smi`'s CSV lines; memory that is not reported ("[N/A]") counts as 0.

    >>> parse("NVIDIA L4, 23034, 22563, 580.65.06")
    [Gpu(name='NVIDIA L4', memory=23034, free=22563, driver='580.65.06')]
    """
    gpus = []
    for line in filter(str.strip, text.splitlines()):
        name, total, free, driver = (cell.strip() for cell in line.split(","))
        memory, unused = (int(mib) if mib.isdigit() else 0 for mib in (total, free))
        gpus.append(Gpu(name, memory, unused, driver))
    return gpus
