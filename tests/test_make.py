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
    (tmp_path / "requirements-cpu.txt").write_text("# nothing\n")
    (tmp_path / "requirements.txt").write_text("-r requirements-cpu.txt\n")
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


def test_the_gpu_set_is_taken_where_nvidia_smi_answers(clone: Path) -> None:
    (clone / "nvidia-smi").write_text("#!/bin/sh\necho 'GPU 0: NVIDIA L4'\n")
    (clone / "nvidia-smi").chmod(0o755)

    assert "installing requirements.txt" in make(clone, "venv", path=str(clone)).stdout


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

    assert {"run", "series", "test", "test-slow", "lint", "bench", "notebooks"} <= set(listed)


def test_continuous_integration_runs_make_test() -> None:
    script = ROOT / ".ci" / "run"

    assert os.access(script, os.X_OK)
    assert "make test" in script.read_text()
