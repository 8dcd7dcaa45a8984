"""Which GPUs this machine has, according to `nvidia-smi`, and which packages fit their driver.

A fresh machine may have no torch to ask. `make` runs this file before anything is installed: it prints the set and why.
"""

import re
import shutil
import subprocess
from dataclasses import dataclass

CUDA_13_DRIVER, CUDA_12_DRIVER = 580, 525
"""The oldest drivers that run CUDA 13 and CUDA 12 (NVIDIA, "CUDA compatibility", minor version compatibility)."""
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

    @property
    def driver_branch(self) -> int:
        """The driver's first number, 580 of "580.65.06"; 0 where it is not reported."""
        digits = re.match(r"\d+", self.driver)
        return int(digits.group()) if digits else 0


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


def requirement_set(cards: list[Gpu]) -> tuple[str, str]:
    """The file of the training set that fits this machine, and why it is that one.

    >>> requirement_set([])
    ('requirements-cpu.txt', 'no GPU')
    >>> requirement_set([Gpu("NVIDIA L4", 23034, 22563, "580.65.06")])
    ('requirements-cuda13.txt', 'driver 580.65.06 of the NVIDIA L4 runs CUDA 13')
    >>> requirement_set([Gpu("Tesla T4", 15360, 15000, "550.54.14")])
    ('requirements-cuda12.txt', 'driver 550.54.14 of the Tesla T4 is older than 580, the first for CUDA 13')
    """
    if not cards:
        return "requirements-cpu.txt", "no GPU"
    oldest = min(cards, key=lambda card: card.driver_branch)
    driver = f"driver {oldest.driver} of the {oldest.name}"
    if oldest.driver_branch >= CUDA_13_DRIVER:
        return "requirements-cuda13.txt", f"{driver} runs CUDA 13"
    return "requirements-cuda12.txt", f"{driver} is older than {CUDA_13_DRIVER}, the first for CUDA 13"


if __name__ == "__main__":
    print(*requirement_set(find()[0]))
