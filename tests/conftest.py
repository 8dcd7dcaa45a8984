"""What every test, doctest and notebook of a test session shares.

The environment is set when this file is read, before anything of ours is imported; kernels started by nbval inherit it.
"""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest

# The same examples in every run, so that a commit is judged by what it changes; HYPOTHESIS=new looks for others.
hypothesis.settings.register_profile("same", derandomize=True)
hypothesis.settings.register_profile("new")
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS", "same"))

ROOT = Path(__file__).resolve().parent.parent
collect_ignore = ["engines"]  # `make test-engines`, which has an environment of its own
RUN_DIR = tempfile.mkdtemp(prefix="helpers-tests-")

os.environ |= {
    "HELPERS_PROFILE": "smallest",
    "HELPERS_RUN_DIR": RUN_DIR,
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "PYTHONPATH": str(ROOT),
    "TOKENIZERS_PARALLELISM": "false",
    "WANDB_MODE": "disabled",
}


def pytest_unconfigure() -> None:
    """Remove what the session's runs wrote."""
    shutil.rmtree(RUN_DIR, ignore_errors=True)


@pytest.fixture
def simulated_driver(tmp_path: Path) -> Callable[[str | None], str]:
    """Makes a folder to put first on PATH, whose `nvidia-smi` tells of one L4 with a driver, or of no GPU."""

    def make(driver: str | None) -> str:
        answer = "exit 9" if driver is None else f"echo 'NVIDIA L4, 23034, 22563, {driver}'"
        folder = tmp_path / "smi"
        folder.mkdir()
        (folder / "nvidia-smi").write_text(f"#!/bin/sh\n{answer}\n")
        (folder / "nvidia-smi").chmod(0o755)
        return str(folder)

    return make


@pytest.fixture(scope="session")
def commerce_db() -> Path:
    """The shop's database, built by `python -m helpers data` where it is missing."""
    path = ROOT / "data" / "commerce.db"
    if not path.is_file():
        from helpers.cli import main

        assert main(["data"]) == 0
    return path


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the tests' profile with its adapter; tests read it and copy it, and leave it as it is."""
    from helpers import recipes, training
    from helpers.recipes import profiles

    folder = tmp_path_factory.mktemp("tiny") / "v4.1-tiny"
    return training.train_grpo(training.plan_run(recipes.V41, profiles.get("smallest"), folder, seed=3))
