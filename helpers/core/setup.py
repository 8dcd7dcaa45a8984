"""What a notebook's first cell does once the project is there: the packages that fit this machine, and the database.

Standard library only: nothing is installed yet.
"""

import importlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from urllib.request import urlopen

from helpers.core import gpus
from helpers.core.errors import UserError
from helpers.core.files import database_path

CPU_TORCH = "https://download.pytorch.org/whl/cpu"
"""Linux wheels of torch on PyPI bring 2 GB of CUDA; this index has the same versions without."""
COLABS_OWN = ("ipython", "ipykernel", "ipywidgets", "notebook", "jupyterlab", "jupyter_client", "tornado", "traitlets")
"""What runs the notebook itself stays as it is: Colab's front end needs its own, older versions."""
_replaced: list[str] = []
"""What was loaded when another version of it was installed; a restart forgets the packages, and this list."""
_MODULES = {"pillow": "PIL", "scikit-learn": "sklearn", "Jinja2": "jinja2"}


def prepare(root: Path, drive: str = "") -> None:
    """Make the notebook's Python fit for the project in `root`; `drive` is a Google Drive folder for run records.

    Packages are installed where one is missing, and in Colab where one has another version; elsewhere another version
    is a note. Raises `SystemExit` of one line where the kernel has to be restarted, or where installing fails.
    """
    if drive:
        os.environ["HELPERS_RUN_DIR"] = str(_drive(drive))
    requirements, reason = gpus.requirement_set(gpus.find()[0])
    pins = read_pins(root / requirements)
    missing, other = compare(pins)
    if missing or (other and in_colab()):
        print(f"installing {requirements} ({reason}); the first time this takes minutes")
        replaced = loaded(other)
        install(root / requirements, pins)
        importlib.invalidate_caches()
        _replaced.extend(replaced)
        missing, other = compare(pins)
    if _replaced:
        were = f"{', '.join(_replaced)} {'was' if len(_replaced) == 1 else 'were'} loaded"
        raise SystemExit(f"Restart the kernel and run this cell again: {were} before the right version was there")
    if not database_path(root).is_file():
        _call([sys.executable, "-m", "helpers", "data", "--db-only"], root, "the shop's database cannot be built")
    note = f"; not at their pins: {', '.join(sorted(other))}" if other else ""
    print(f"{requirements}: {reason}{note}")


def read_pins(path: Path) -> dict[str, str]:
    """Package to version, from a requirements file and the files that its `-r` lines name.

    Raises `UserError` naming file and line where a requirement is not pinned exactly (`name==version`).
    """
    pins: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        requirement = line.split("#")[0].strip()
        if requirement.startswith("-r"):
            pins |= read_pins(path.parent / requirement[2:].strip())
        elif requirement:
            name, equals, version = requirement.partition("==")
            if not equals or "*" in version:
                raise UserError(f"{path}, line {number}: {requirement!r} is not pinned; write name==version")
            pins[name.strip()] = version.strip()
    return pins


def compare(pins: dict[str, str]) -> tuple[set[str], set[str]]:
    """The packages that are missing, and those that are there in another version."""
    installed = {name: _installed(name) for name in pins}
    missing = {name for name, version in installed.items() if version is None}
    return missing, {name for name, version in installed.items() if version not in (None, pins[name])}


def install(requirements: Path, pins: dict[str, str]) -> None:
    """`pip install -r` of the file; what runs the notebook keeps its version. `SystemExit` where pip fails."""
    kept = [f"{name}=={version}" for name in COLABS_OWN if name not in pins and (version := _installed(name))]
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / "kept.txt"
        constraints.write_text("\n".join(kept), encoding="utf-8")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]
        command += ["--requirement", str(requirements), "--constraint", str(constraints)]
        if "cpu" in requirements.name and _answers(f"{CPU_TORCH}/"):
            command += ["--extra-index-url", CPU_TORCH]
        _call(
            command, requirements.parent, f"{requirements.name} cannot be installed; check the network, then try again"
        )


def loaded(packages: Iterable[str]) -> list[str]:
    """Those of the packages that this process has imported, with the version that it got."""
    names = {name: _MODULES.get(name, name.replace("-", "_")) for name in packages}
    return [f"{name} {_installed(name)}" for name, module in sorted(names.items()) if module in sys.modules]


def in_colab() -> bool:
    """Whether this is a Colab kernel."""
    return "google.colab" in sys.modules


def _installed(name: str) -> str | None:
    """A package's version on the disk, without a build's suffix such as `+cpu`."""
    try:
        return _public(metadata.version(name))
    except metadata.PackageNotFoundError:
        return None


def _public(version: str) -> str:
    return version.split("+")[0]


def _call(command: list[str], folder: Path, fault: str) -> None:
    """Run a command; `SystemExit` with `fault` and the last line that it said where it fails."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        said = re.sub(r"\s+", " ", (done.stderr.strip().splitlines() or ["no message"])[-1])
        raise SystemExit(f"{fault} ({said})")


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=5):
            return True
    except OSError:
        return False


def _drive(folder: str) -> Path:
    """A folder of Google Drive, which is mounted first where this is Colab; Colab asks its user for leave then."""
    mount = Path("/") / "content" / "drive"
    if in_colab() and not mount.is_dir():
        importlib.import_module("google.colab.drive").mount(str(mount))
    path = (mount if mount.is_dir() else Path.home()) / folder
    path.mkdir(parents=True, exist_ok=True)
    return path
