"""What runs in the notebooks' cells is what the command line runs, and their first cell works where nothing is."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest
from nbformat import NotebookNode

from helpers.core.files import read_jsonl
from helpers.rewards import Score

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(notebook: Path) -> list[NotebookNode]:
    return [cell for cell in nbformat.read(notebook, as_version=4).cells if cell.cell_type == "code"]


SETUP = code_cells(NOTEBOOKS[0])[0].source


def run_cells(
    notebook: str, folder: Path, monkeypatch: pytest.MonkeyPatch, seed: int = 0, last: str = ""
) -> dict[str, Any]:
    """Run the cells of a notebook that make its run, tagged `run`, up to the one called `last`; their variables."""
    monkeypatch.setenv("HELPERS_RUN_DIR", str(folder))
    monkeypatch.setattr("IPython.display.display", lambda *_, **__: SimpleNamespace(update=lambda _: None))
    variables: dict[str, Any] = {}
    for cell in code_cells(ROOT / "notebooks" / f"{notebook}.ipynb"):
        if "run" in cell.metadata.get("tags", []):
            exec(compile(cell.source.replace("SEED = 0", f"SEED = {seed}"), cell.id, "exec"), variables)
        if cell.id == last:
            break
    return variables


def config(folder: Path) -> dict[str, Any]:
    whole = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return {key: value for key, value in whole.items() if key not in ("started", "command")}


def metrics(folder: Path) -> list[dict[str, Any]]:
    rows = [row for _, row in read_jsonl(folder / "metrics.jsonl")]
    return [{key: value for key, value in row.items() if not key.startswith("time/")} for row in rows]


def test_the_cells_of_02_make_the_run_that_the_command_line_makes(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a step by hand on the same trainer before: it leaves no trace."""
    run_cells("02_grpo_v41", tmp_path, monkeypatch, seed=3)
    assert config(tmp_path / "v4.1") == config(tiny_run)
    assert metrics(tmp_path / "v4.1") == metrics(tiny_run)
    assert (tmp_path / "v4.1" / "eval.jsonl").read_bytes() == (tiny_run / "eval.jsonl").read_bytes()


def test_after_a_kill_the_cells_go_on_from_the_checkpoint_and_a_finished_run_is_used_as_it_is(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "v4.1"
    shutil.copytree(tiny_run, folder)
    shutil.rmtree(folder / "checkpoints" / "checkpoint-4")
    shutil.rmtree(folder / "adapter")
    run_cells("02_grpo_v41", tmp_path, monkeypatch, seed=3)
    assert metrics(folder) == metrics(tiny_run)
    assert (folder / "eval.jsonl").read_bytes() == (tiny_run / "eval.jsonl").read_bytes()
    assert (folder / "adapter" / "adapter_model.safetensors").is_file()
    events = (folder / "events.jsonl").read_bytes()
    run_cells("02_grpo_v41", tmp_path, monkeypatch, seed=3)
    assert (folder / "events.jsonl").read_bytes() == events


def test_the_step_by_hand_is_the_trainers_where_rewards_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest policy's answers are all worth the same; here an answer's length stands for its reward."""

    def by_length(task: str, text: str, *_: Any, **__: Any) -> Score:
        return Score(len(text) % 17 / 17, {"length": len(text) % 17 / 17})

    monkeypatch.setattr("helpers.rewards.score", by_length)
    monkeypatch.setattr("helpers.rewards.trl.score", by_length)
    hand = run_cells("02_grpo_v41", tmp_path, monkeypatch, last="02-hand-same-code")
    assert float(hand["advantages"].abs().max()) > 0.05 and float(hand["gradient"].norm()) > 0
    assert hand["advantages"].sum().item() == pytest.approx(0, abs=1e-6)


def test_the_training_of_02_is_in_sight() -> None:
    source = "\n".join(cell.source for cell in code_cells(ROOT / "notebooks" / "02_grpo_v41.ipynb"))
    calls = "FastLanguageModel GRPOConfig( GRPOTrainer( EvalRewardCallback( reward_functions( trainer.train( .adopt("
    assert [call for call in calls.split() if call not in source] == []


# The first cell


@each_notebook
def test_every_notebook_begins_with_the_same_cell_and_opens_in_colab(notebook: Path) -> None:
    first = nbformat.read(notebook, as_version=4).cells[0].source
    assert code_cells(notebook)[0].source == SETUP
    repository = SETUP.split('"REPO_URL", "https://github.com/')[1].split('"')[0]
    assert f"colab.research.google.com/github/{repository}/blob/main/notebooks/{notebook.name})" in first


def wheel(folder: Path, name: str, version: str, needs: str = "") -> None:
    """A wheel of one module that knows its version."""
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as file:
        file.writestr(f"{name}.py", f"__version__ = {version!r}\n")
        needed = f"Requires-Dist: {needs}\n" if needs else ""
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needed}")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")


class Fresh:
    """An empty Python and a repository to clone: this project's package, with a requirement of a few bytes."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.repository, self.wheels = folder, folder / "repository", folder / "wheels"
        self.python = folder / "venv" / "bin" / "python"
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
        self.wheels.mkdir()
        wheel(self.wheels, "probe", "1.0")
        wheel(self.wheels, "probe", "2.0")
        wheel(self.wheels, "ipykernel", "6.0")
        wheel(self.wheels, "ipykernel", "7.0")
        wheel(self.wheels, "needy", "1.0", needs="ipykernel>=7")
        shutil.copytree(ROOT / "helpers", self.repository / "helpers", ignore=shutil.ignore_patterns("__pycache__"))
        (self.repository / "data").mkdir()
        (self.repository / "data" / "commerce.db").touch()
        self.require("probe==2.0")

    def require(self, pin: str) -> None:
        for machine in ("cpu", "cuda12", "cuda13"):
            (self.repository / f"requirements-{machine}.txt").write_text(f"# of a test\n{pin}\n")
        git = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost"]
        subprocess.run([*git, "init", "--quiet"], cwd=self.repository, check=True)
        subprocess.run([*git, "add", "--all"], cwd=self.repository, check=True)
        subprocess.run([*git, "commit", "--quiet", "--message", pin], cwd=self.repository, check=True)

    def pip(self, *arguments: str) -> str:
        command = [self.python, "-m", "pip", *arguments]
        return subprocess.run(command, env=self.environment(), check=True, capture_output=True, text=True).stdout

    def environment(self, repository: str = "") -> dict[str, str]:
        offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.wheels), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        known = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        return known | offline | {"REPO_URL": repository or str(self.repository)}

    def run(self, name: str, before: str = "", after: str = "", repository: str = "") -> tuple[int, list[str]]:
        """Run the first cell in an empty folder; the exit code, and the lines that were printed."""
        folder = self.folder / name
        folder.mkdir()
        code = "\n".join([before, SETUP, after])
        command = [self.python, "-c", code]
        done = subprocess.run(
            command, cwd=folder, env=self.environment(repository), capture_output=True, text=True, check=False
        )
        return done.returncode, (done.stdout + done.stderr).strip().splitlines()


IN_COLAB = "import sys, types; sys.modules['google.colab'] = types.ModuleType('google.colab')\n"


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Fresh:
    return Fresh(tmp_path_factory.mktemp("fresh"))


def test_from_an_empty_folder_and_an_empty_python_the_first_cell_ends_with_the_package_at_hand(fresh: Fresh) -> None:
    code, lines = fresh.run("empty", after="import helpers, probe; print(helpers.__file__, probe.__version__)")
    assert (code, len(lines)) == (0, 3), lines
    assert lines[0].startswith("installing requirements-")
    assert lines[2] == f"{fresh.folder / 'empty' / 'grpo-ecommerce-pt' / 'helpers' / '__init__.py'} 2.0"


def test_a_package_that_was_loaded_in_another_version_asks_for_a_restart_in_one_line(fresh: Fresh) -> None:
    fresh.pip("install", "--quiet", "probe==1.0")
    code, lines = fresh.run("restart", before=f"{IN_COLAB}import probe")
    assert code == 1 and lines[-1] == (
        "Restart the kernel and run this cell again: probe 1.0 was loaded before the right version was there"
    )
    assert "probe 2.0" in " ".join(fresh.pip("list").split())


def test_outside_of_colab_another_version_is_left_and_named(fresh: Fresh) -> None:
    fresh.pip("install", "--quiet", "probe==1.0")
    code, lines = fresh.run("noted")
    assert code == 0 and lines[-1].endswith("; not at their pins: probe")


def test_what_runs_the_notebook_is_never_replaced(fresh: Fresh) -> None:
    fresh.pip("install", "--quiet", "ipykernel==6.0")
    fresh.require("needy==1.0")
    try:
        code, lines = fresh.run("kept", before=IN_COLAB)
    finally:
        fresh.require("probe==2.0")
    assert code == 1 and "cannot be installed" in lines[-1]
    assert "ipykernel 6.0" in " ".join(fresh.pip("list").split())


def test_without_network_and_repository_one_line_says_what_to_do(fresh: Fresh) -> None:
    code, lines = fresh.run("nothing", repository=str(fresh.folder / "nowhere"))
    assert code == 1 and len(lines) == 1 and "check the network, or put this notebook into the project" in lines[0]
