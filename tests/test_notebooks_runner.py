"""The notebook runner: what it leaves behind, and how it tells a failure."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from helpers.cli import main, notebooks
from helpers.core.errors import UserError
from helpers.core.files import write_json
from helpers.runs import summary
from tests.synthetic_runs import Spec, means, write_run

PROGRESS = """
import time
from IPython.display import display
line = display({"text/plain": "starting"}, raw=True, display_id=True)
line.update({"text/plain": "step 1 of 2"}, raw=True)
"""


def write_notebook(path: Path, *sources: str) -> Path:
    cells = [cell for source in sources for cell in (new_markdown_cell("Look at this."), new_code_cell(source))]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=cells, metadata=kernel), path)
    return path


def streamed(path: Path) -> list[str]:
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    return [output.text.strip() for cell in cells for output in cell.outputs if output.output_type == "stream"]


@pytest.fixture
def series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of its own: two sound notebooks, and folders for them and their runs."""
    folder = tmp_path / "notebooks"
    write_notebook(
        folder / "01_first.ipynb",
        "import os, sys\nprint(sys.executable)\nprint(os.getcwd())",
        "from helpers.runs import summary\nsummary.add({'gain': '+0.17 [0.15, 0.19]'})",
    )
    write_notebook(folder / "02_second.ipynb", "print('second')")
    monkeypatch.setattr(notebooks, "FOLDER", folder)
    monkeypatch.setattr(notebooks, "RUNS", tmp_path / "runs")
    return folder


def test_a_run_leaves_executed_copies_html_and_the_main_numbers(
    series: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["notebooks", "--all"]) == 0

    (folder,) = (tmp_path / "runs").iterdir()
    names = {path.name for path in folder.iterdir()}
    assert {"01_first.ipynb", "01_first.html", "02_second.ipynb", "02_second.html", "summary.json"} <= names
    assert streamed(folder / "01_first.ipynb") == [f"{sys.executable}\n{series}"]
    told = capsys.readouterr().out
    assert "gain: +0.17 [0.15, 0.19]" in told
    assert str(folder / "02_second.html") in told


def test_in_place_takes_over_outputs_and_the_time_they_took_and_nothing_else(series: Path) -> None:
    before = nbformat.read(series / "02_second.ipynb", as_version=4)

    assert main(["notebooks", "--notebooks", "02", "--in-place"]) == 0

    after = nbformat.read(series / "02_second.ipynb", as_version=4)
    assert streamed(series / "02_second.ipynb") == ["second"]
    assert [cell.metadata for cell in after.cells] == [cell.metadata for cell in before.cells]
    measured = after.metadata.pop("measured")
    assert measured["seconds"] >= 0 and measured["profile"] == "smallest"
    assert after.metadata == before.metadata
    assert "second" not in (series / "01_first.ipynb").read_text().replace("02_second", "")


def test_a_failing_cell_is_named_what_ran_is_kept_and_later_notebooks_wait(
    series: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_notebook(series / "01_first.ipynb", "print('before')", "1 / 0", "print('never')")
    untouched = (series / "01_first.ipynb").read_bytes()

    assert main(["notebooks", "--all", "--in-place"]) == 1

    (folder,) = (tmp_path / "runs").iterdir()
    assert streamed(folder / "01_first.ipynb") == ["before"]
    assert not (folder / "02_second.ipynb").exists()
    assert (series / "01_first.ipynb").read_bytes() == untouched
    told = capsys.readouterr().err
    assert "01_first failed in code cell 2: ZeroDivisionError: division by zero" in told
    assert "Traceback" not in told


def test_a_dead_kernel_is_told_in_two_lines(series: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_notebook(series / "01_first.ipynb", "import os\nos._exit(9)")

    assert main(["notebooks", "--notebooks", "01"]) == 1

    assert "01_first: its kernel died" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ([sys.executable, "-c", "raise SystemExit(3)"], "Kernel died before replying"),
        (["/no/such/python"], "No such file"),
    ],
)
def test_a_kernel_that_does_not_start_is_told_in_one_line(
    command: list[str],
    reason: str,
    series: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    kernel = tmp_path / "jupyter" / "kernels" / "python3" / "kernel.json"
    write_json(kernel, {"argv": command, "display_name": "Python 3", "language": "python"})
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))

    assert main(["notebooks", "--notebooks", "01"]) == 1

    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "01_first: its kernel did not start" in line and reason in line and "kernels.log" in line


def test_branches_that_need_nothing_of_one_another_run_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each waits for the file that the other writes: one after the other, neither would end."""
    wait = (
        "import time; from pathlib import Path; from helpers.runs import summary\n"
        "here = summary.run_folder()\n(here / {own!r}).touch()\n"
        "while not (here / {other!r}).exists(): time.sleep(0.1)\n"
        "summary.add({{{own!r}: 'done'}})"
    )
    for name, own, other in (("04a_scale", "a", "c"), ("04c_fix", "c", "a")):
        write_notebook(tmp_path / f"{name}.ipynb", wait.format(own=own, other=other))
    write_notebook(tmp_path / "04b_base.ipynb", "print('afterwards')")
    write_notebook(tmp_path / "01_first.ipynb", "print('alone')")
    monkeypatch.setenv("HELPERS_PROFILE", "cpu")
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr(notebooks, "FOLDER", tmp_path)
    monkeypatch.setattr(notebooks, "RUNS", tmp_path / "runs")

    assert main(["notebooks", "--all", "--in-place"]) == 0

    (folder,) = (tmp_path / "runs").iterdir()
    assert {path.stem for path in folder.glob("*.html")} == {"01_first", "04a_scale", "04b_base", "04c_fix"}
    assert summary.read(folder) == {"a": "done", "c": "done"}
    assert streamed(tmp_path / "04b_base.ipynb") == ["afterwards"]
    begun = [line.split()[1] for line in capfd.readouterr().out.splitlines() if line[:4] == "==> " and ":" not in line]
    assert begun[0] == "01_first" and begun[-1] == "04b_base"


@pytest.mark.parametrize(("profile", "cores"), [("l4", 8), ("cpu", 1)])
def test_on_one_gpu_or_one_core_notebooks_run_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch, profile: str, cores: int
) -> None:
    monkeypatch.setenv("HELPERS_PROFILE", profile)
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    found = notebooks.find((), notebooks.FOLDER)
    assert notebooks.groups(found) == [[path] for path in found]


@pytest.mark.parametrize(("second", "told"), [("print('whole')", ["04a_scale"]), ("2 / 0", ["04a_scale", "04c_fix"])])
def test_every_failure_side_by_side_is_told_when_all_are_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], second: str, told: list[str]
) -> None:
    write_notebook(tmp_path / "04a_scale.ipynb", "1 / 0")
    write_notebook(tmp_path / "04c_fix.ipynb", f"import time; time.sleep(1)\n{second}", "print('last')")
    monkeypatch.setenv("HELPERS_PROFILE", "cpu")
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr(notebooks, "FOLDER", tmp_path)
    monkeypatch.setattr(notebooks, "RUNS", tmp_path / "runs")

    assert main(["notebooks", "--all"]) == 1

    (folder,) = (tmp_path / "runs").iterdir()
    assert streamed(folder / "04c_fix.ipynb") == (["whole", "last"] if len(told) == 1 else [])
    errors = capsys.readouterr().err
    assert [
        line.split(" failed in")[0].removeprefix("error: ") for line in errors.splitlines() if "failed" in line
    ] == told


def test_an_unknown_notebook_is_answered_with_the_ones_there_are(series: Path) -> None:
    with pytest.raises(UserError, match=r"no notebook '07' in .*; there are: 01_first, 02_second"):
        notebooks.find(["07"], series)


def test_notebooks_are_found_by_number_or_name_in_the_order_asked_for(series: Path) -> None:
    assert [path.stem for path in notebooks.find(["02", "01_first"], series)] == ["02_second", "01_first"]


def test_a_progress_line_inside_a_cell_shows_on_the_terminal(
    series: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(notebooks, "SECONDS_BETWEEN_NOTES", 0.0)
    notebook = write_notebook(series / "03_third.ipynb", PROGRESS)

    notebooks.execute(notebook, notebooks.new_folder(tmp_path / "runs"))

    assert "cell 1/1  step 1 of 2" in capsys.readouterr().out


def test_a_kernel_asks_neither_for_a_login_nor_for_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_MODE", "WANDB_API_KEY", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HELPERS_PROFILE", "cpu")

    environment = notebooks.environment(tmp_path)

    assert environment["WANDB_MODE"] == "offline"
    assert environment["HF_HUB_OFFLINE"] == "1"
    assert environment["HELPERS_RUN_DIR"] == str(tmp_path)


def test_what_the_user_set_wins_over_the_runners_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")

    environment = notebooks.environment(tmp_path)

    assert environment["WANDB_MODE"] == "disabled"
    assert environment["HF_HUB_OFFLINE"] == "0"


def test_an_interrupted_run_keeps_what_ran_and_exits_with_130(tmp_path: Path) -> None:
    notebook = write_notebook(tmp_path / "01_long.ipynb", "print('before')", "import time\ntime.sleep(600)")
    script = (  # a background job, as CI may be one, inherits SIGINT switched off
        "import signal, sys; from pathlib import Path; from helpers import cli; from helpers.cli import notebooks\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"notebooks.FOLDER, notebooks.RUNS = Path({str(tmp_path)!r}), Path({str(tmp_path / 'runs')!r})\n"
        "sys.exit(cli.main(['notebooks', '--all']))"
    )
    root = Path(__file__).parent.parent
    running = subprocess.Popen(
        [sys.executable, "-c", script], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert running.stdout is not None
    for line in running.stdout:
        if "cell 2/2" in line:
            break
    time.sleep(1.0)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=60)

    assert running.returncode == 130, errors
    (folder,) = (tmp_path / "runs").iterdir()
    assert streamed(folder / notebook.name) == ["before"]
    assert "Traceback" not in errors
    assert "error: interrupted" in errors


def test_summary_keeps_the_order_and_takes_the_newest_value(tmp_path: Path) -> None:
    summary.add({"first": 1, "second": 2}, tmp_path)
    summary.add({"first": 3}, tmp_path)

    assert list(summary.read(tmp_path).items()) == [("first", 3), ("second", 2)]


@pytest.mark.parametrize("content", ["{", "[1]"])
def test_a_broken_summary_is_a_user_error_naming_the_file(tmp_path: Path, content: str) -> None:
    (tmp_path / summary.FILE).write_text(content)

    with pytest.raises(UserError, match=r"summary\.json"):
        summary.read(tmp_path)


def test_run_records_go_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELPERS_RUN_DIR", str(tmp_path))
    assert summary.run_folder() == tmp_path
    monkeypatch.delenv("HELPERS_RUN_DIR")
    assert summary.run_folder().name == "runs"


def test_a_summary_holds_accents_as_they_are(tmp_path: Path) -> None:
    summary.add({"ganho médio": 0.17}, tmp_path)

    assert json.loads((tmp_path / summary.FILE).read_text(encoding="utf-8")) == {"ganho médio": 0.17}
    assert "médio" in (tmp_path / summary.FILE).read_text(encoding="utf-8")


@pytest.mark.parametrize(("mean", "branch"), [(0.60, "04a_scale"), (0.545, None)])
def test_the_main_job_goes_on_with_the_branch_that_the_decision_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mean: float, branch: str | None
) -> None:
    for name in ("01_audit", "02_train", "03_read", "04a_scale", "04b_base", "04c_fix"):
        write_notebook(tmp_path / f"{name}.ipynb", "print('ran')")
    spec = Spec(means(0.36), means(mean), spread=5.0, max_steps=60, eval_every=10)
    monkeypatch.setattr(notebooks, "FOLDER", tmp_path)
    monkeypatch.setattr(notebooks, "RUNS", tmp_path / "runs")
    execute = notebooks.execute

    def trained(notebook: Path, folder: Path) -> Path:
        if notebook.stem == "02_train":
            write_run(folder / "v4.1", spec)
        return execute(notebook, folder)

    monkeypatch.setattr(notebooks, "execute", trained)
    assert main(["notebooks"]) == 0
    (folder,) = (tmp_path / "runs").iterdir()
    ran = {path.stem for path in folder.glob("*.ipynb")}
    assert ran == {"01_audit", "02_train", "03_read"} | ({branch} if branch else set())
