"""The make targets that come before Python: what `make venv` does, and that its errors are one line."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone whose requirement sets are empty, so that installing them takes no network."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "helpers" / "core").mkdir(parents=True)
    shutil.copy(ROOT / "helpers" / "core" / "gpus.py", tmp_path / "helpers" / "core")
    for name in ("cpu", "cuda12", "cuda13", "dev"):
        (tmp_path / f"requirements-{name}.txt").write_text("# nothing\n")
    return tmp_path


def make(folder: Path, *arguments: str, path: str = "/bin") -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PATH": f"{path}:{os.environ['PATH']}", "MAKEFLAGS": "", "MAKELEVEL": ""}
    command = ["make", "CPU_TORCH_INDEX=", f"PYTHON={sys.executable}", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_venv_is_made_once_and_installed_again_only_when_a_requirement_changed(clone: Path) -> None:
    first = make(clone, "venv")
    assert first.returncode == 0, first.stderr
    assert "creating .venv" in first.stdout
    assert "installing requirements-cpu.txt" in first.stdout

    (clone / "requirements-cpu.txt").touch()
    assert make(clone, "venv").stdout == ""

    (clone / "requirements-cpu.txt").write_text("# still nothing\n")
    third = make(clone, "venv").stdout
    assert "creating" not in third
    assert "installing requirements-cpu.txt" in third


def test_the_set_that_fits_the_driver_is_installed_and_says_why(clone: Path, simulated_driver) -> None:
    done = make(clone, "venv", path=simulated_driver("550.54.14"))

    reason = "driver 550.54.14 of the NVIDIA L4 is older than 580, the first for CUDA 13"
    assert f"installing requirements-cuda12.txt ({reason}) and requirements-dev.txt" in done.stdout


def test_the_set_can_be_asked_for_by_name(clone: Path, simulated_driver) -> None:
    told = make(clone, "-n", "venv", "REQUIREMENTS=requirements-cpu.txt", path=simulated_driver("580.65.06"))

    assert "installing requirements-cpu.txt (asked for)" in told.stdout


def test_a_failed_installation_is_an_error_and_is_tried_again(clone: Path) -> None:
    (clone / "requirements-cpu.txt").write_text("./no-such-package\n")
    failed = make(clone, "venv")
    assert failed.returncode != 0
    assert "no-such-package" in failed.stderr

    (clone / "requirements-cpu.txt").write_text("# nothing\n")
    assert make(clone, "venv").returncode == 0


def test_an_unusable_python_is_one_clear_line(clone: Path) -> None:
    done = make(clone, "venv", "PYTHON=no-such-python")

    assert done.returncode != 0
    line, of_make = done.stderr.splitlines()
    assert line.startswith("error: no Python 3.11 or 3.12 with venv (no-such-python)")
    assert of_make.startswith("make: ***")
    assert not (clone / ".venv").exists()


def test_make_alone_lists_the_targets(clone: Path) -> None:
    listed = [line.split()[1] for line in make(clone).stdout.splitlines()]

    assert {"run", "series", "test", "test-slow", "test-engines", "lint", "bench", "notebooks"} <= set(listed)


def test_continuous_integration_runs_make_test() -> None:
    script = ROOT / ".ci" / "run"

    assert os.access(script, os.X_OK)
    assert "make test" in script.read_text()
