"""`python -m helpers doctor`: what this machine is and whether the project can run on it, one `Check` per question.

Nothing that has to be installed is needed: the doctor must answer where nothing is installed yet.
"""

import argparse
import json
import os
import platform
import shutil
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from helpers.core import gpus, tracking
from helpers.core.checks import GIB, Check
from helpers.core.errors import UserError
from helpers.core.files import PROJECT_ROOT, database_path
from helpers.core.gpus import Gpu
from helpers.core.setup import read_pins

try:
    from helpers.recipes import profiles
except ModuleNotFoundError:  # nothing is installed yet: `check_packages` names every package
    profiles = None  # type: ignore[assignment]

SUPPORTED_PYTHONS = ((3, 11), (3, 12))
DEV_REQUIREMENTS = "requirements-dev.txt"
HUB_SECONDS = 5.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    parser.add_argument("--json", action="store_true", help="print the checks as JSON")


def run(args: argparse.Namespace) -> int:
    """Print every check; 1 where something essential is off."""
    checks = examine()
    off = [check.name for check in checks if check.state == "off"]
    if args.json:
        print(as_json(checks))
        return int(bool(off))
    for check in checks:
        remedy = f" -> {check.remedy}" if check.remedy else ""
        print(f"{check.state:<5} {check.name:<13} {check.value}{remedy}")
    print(f"off: {', '.join(off)}" if off else "nothing essential is off")
    return int(bool(off))


def examine(root: Path = PROJECT_ROOT) -> list[Check]:
    """Every check, machine first."""
    cards, _ = gpus.find()
    profile = check_profile()
    embedded = profiles is None or profile.state == "off" or profiles.get("auto").embedded
    requirements, reason = gpus.requirement_set(cards)
    return [
        check_python(),
        *check_hardware(cards, root),
        profile,
        check_hub(needed=not embedded),
        Check("W&B", ": ".join(tracking.wandb_mode())),
        check_data(root),
        Check("Packages", f"{requirements}: {reason}"),
        *check_packages(read_pins(root / requirements), bool(cards)),
        check_dev_packages(read_pins(root / DEV_REQUIREMENTS)),
    ]


def check_python(version: tuple[int, ...] = sys.version_info[:3]) -> Check:
    """Python 3.11 or 3.12.

    >>> check_python((3, 13, 0)).state
    'off'
    """
    value = ".".join(map(str, version))
    if version[:2] in SUPPORTED_PYTHONS:
        return Check("Python", f"{value} ({sys.executable})")
    return Check("Python", value, "off", "use 3.11 or 3.12: make run PYTHON=/path/to/python3.12")


def check_packages(pins: dict[str, str], gpu: bool = False) -> Iterator[Check]:
    """One check per pinned package: installed, at its pin, and not a CPU build on a machine with a GPU."""
    for name, pin in pins.items():
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield Check(name, f"missing (pin {pin})", "off", "make run or make test installs it")
            continue
        public, _, build = installed.partition("+")
        if public != pin:
            yield Check(name, f"{installed} (pin {pin})", "off", "make run or make test installs the pin")
        elif gpu and build == "cpu":
            yield Check(name, f"{installed}, a CPU build on a GPU machine", "off", "remove .venv, then make run")
        else:
            yield Check(name, installed)


def check_dev_packages(pins: dict[str, str]) -> Check:
    """What notebooks and tests need, in one check; a note where it differs, as in Colab, whose Jupyter is its own."""
    differing = [check.name for check in check_packages(pins) if check.state != "ok"]
    if not differing:
        return Check("Notebooks", f"{DEV_REQUIREMENTS}: {len(pins)} packages at their pins")
    return Check("Notebooks", f"{DEV_REQUIREMENTS}: {', '.join(differing)} not at the pin", "note", "make needs them")


def check_hardware(cards: list[Gpu], root: Path) -> Iterator[Check]:
    """Cores, memory, disk and GPUs."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    yield Check("Machine", f"{platform.system()} {platform.machine()}, {cores} cores")
    disk = shutil.disk_usage(root)
    for name, value, size, least in (
        ("Memory", f"{memory / GIB:.1f} GiB", memory, 4),
        ("Disk", f"{disk.free / GIB:.1f} of {disk.total / GIB:.1f} GiB free", disk.free, 3),
    ):
        if size < least * GIB:
            yield Check(name, value, "note", f"less than {least} GiB may not be enough")
        else:
            yield Check(name, value)
    if not cards:
        yield Check("GPU", "none (nvidia-smi does not answer): the embedded policy trains on the CPU")
    yield from map(check_gpu, cards)


def check_gpu(gpu: Gpu) -> Check:
    """A GPU's name, memory and driver; the older of the two sets needs a driver for CUDA 12."""
    value = f"{gpu.name}, {gpu.free / 1024:.1f} of {gpu.gib:.1f} GiB free, driver {gpu.driver}"
    if gpu.driver_branch < gpus.CUDA_12_DRIVER:
        return Check(
            "GPU", value, "off", f"the pins are for CUDA 12 and 13: update the driver to {gpus.CUDA_12_DRIVER}+"
        )
    return Check("GPU", value)


def check_profile() -> Check:
    """The profile that `auto` stands for here, and why."""
    if profiles is None:
        return Check("Profile", "not known before the packages are installed", "off", "make run or make test does that")
    chosen = os.environ.get("HELPERS_PROFILE")
    try:
        name = profiles.get("auto").name
    except UserError as error:
        return Check("Profile", str(error), "off", "unset HELPERS_PROFILE or set it to one of these")
    return Check("Profile", f"{name}: {'HELPERS_PROFILE names it' if chosen else profiles.detect()[1]}")


def check_hub(needed: bool) -> Check:
    """Whether the model hub answers within a few seconds; `needed` where the profile loads its policy from there."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return Check("Model hub", "not asked: HF_HUB_OFFLINE is set", "note" if needed else "ok")
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    problem = probe(f"{endpoint}/api/models?limit=1")
    if problem is None:
        return Check("Model hub", f"{endpoint} answers")
    remedy = "HELPERS_PROFILE=cpu needs no hub" if needed else "not needed: the policy is embedded"
    return Check("Model hub", f"{endpoint} does not answer ({problem})", "note", remedy)


def probe(url: str, seconds: float = HUB_SECONDS) -> str | None:
    """None where `url` answers within `seconds`, else why not. In a thread, because name lookups know no timeout."""
    outcome: list[str | None] = []

    def ask() -> None:
        try:
            with urllib.request.urlopen(url, timeout=seconds):
                outcome.append(None)
        except urllib.error.URLError as error:
            outcome.append(" ".join(str(error.reason).split()))
        except (OSError, ValueError) as error:
            outcome.append(" ".join(str(error).split()))

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(seconds)
    return outcome[0] if outcome else f"no answer in {seconds:g} s"


def check_data(root: Path) -> Check:
    """The pairs are shipped and essential; the database is built on demand."""
    pairs = [root / "data" / "pairs" / f"{split}.jsonl" for split in ("train", "eval", "test")]
    missing = [path.name for path in pairs if not path.is_file()]
    if missing:
        return Check("Data", f"data/pairs lacks {', '.join(missing)}", "off", "python -m helpers data")
    database = database_path(root)
    if not database.is_file():
        return Check("Data", f"pairs are there; {database.name} is not built", "note", "python -m helpers data")
    return Check("Data", f"pairs and {database.name} are there")


def as_json(checks: list[Check]) -> str:
    """The checks as one JSON array, for a bug report."""
    return json.dumps([vars(check) for check in checks], ensure_ascii=False, indent=2)
