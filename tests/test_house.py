"""The house stays in order: imports go down, nothing heavy below, pins exact, notebooks fit to read and to share."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from helpers.cli.doctor import read_pins
from helpers.core.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
HELPERS = ROOT / "helpers"

# A room may import itself and the rooms on the lines before its own; two rooms on one line know nothing of each other.
ORDER = (
    ("core",),
    ("parsing", "tasks"),
    ("rewards",),
    ("recipes",),
    ("runs",),
    ("policy", "plots"),
    ("training",),
    ("cli",),
    ("__main__",),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(ORDER) for room in rooms}
WITH_TORCH = ("policy", "training")
HEAVY = ("torch", "trl", "transformers", "peft", "accelerate", "datasets", "unsloth", "vllm")
MACHINE_PATH = re.compile(r"/(?:root|home|tmp|work|Users|mnt|content)/|[A-Z]:\\\\")
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)


def room_of(path: Path) -> str:
    return path.relative_to(HELPERS).parts[0].removesuffix(".py")


def modules() -> list[Path]:
    return [path for path in sorted(HELPERS.rglob("*.py")) if path != HELPERS / "__init__.py"]


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every import in a module, but for what runs only when it is started as a program."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if "__main__" not in ast.dump(getattr(node, "test", ast.Pass()))]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}, line {node.lineno}: imports are absolute here"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def test_helpers_is_the_ten_rooms_of_the_table_and_nothing_else() -> None:
    assert {room_of(path) for path in modules()} == set(FLOOR_OF)


def test_no_room_imports_from_a_later_one() -> None:
    upwards = [
        f"{path.relative_to(ROOT)}, line {line}: {name}"
        for path in modules()
        for line, name in imports(path)
        if name.startswith("helpers.")
        and (other := name.split(".")[1]) != room_of(path)
        and FLOOR_OF.get(other, 0) >= FLOOR_OF[room_of(path)]
    ]
    assert not upwards, "\n".join(upwards)


def test_only_policy_and_training_load_torch_when_they_are_imported() -> None:
    light = [dotted(path) for path in modules() if room_of(path) not in WITH_TORCH and path.name != "__main__.py"]
    script = (
        "import importlib, sys\n"
        f"for name in {light!r}:\n"
        "    importlib.import_module(name)\n"
        f"    heavy = [package for package in {HEAVY!r} if package in sys.modules]\n"
        "    assert not heavy, f'{name} imports {heavy}'\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_gpu_set_is_the_cpu_set_and_more() -> None:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert next(line for line in lines if line and not line.startswith("#")) == "-r requirements-cpu.txt"


def test_every_pin_is_exact_and_in_one_place() -> None:
    read_pins(ROOT / "requirements.txt")
    names = [
        match.group(1).lower().replace("_", "-")
        for path in ROOT.glob("requirements*.txt")
        for match in re.finditer(r"^([\w.-]+)==", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("requirement", ["torch", "torch>=2.13", "torch==2.13.*"])
def test_a_loose_pin_is_named_with_its_file_and_line(tmp_path: Path, requirement: str) -> None:
    (tmp_path / "requirements.txt").write_text(f"# comment\n{requirement}\n")

    with pytest.raises(UserError, match=r"requirements\.txt, line 2: .* is not pinned"):
        read_pins(tmp_path / "requirements.txt")


def test_every_package_that_helpers_imports_is_pinned() -> None:
    pinned = {name.lower().replace("_", "-") for name in read_pins(ROOT / "requirements.txt")}
    distributions = metadata.packages_distributions()
    unpinned = {
        f"{path.relative_to(ROOT)}: {package}"
        for path in modules()
        for _, name in imports(path)
        if (package := name.split(".")[0]) not in ("helpers", *sys.stdlib_module_names)
        and not pinned & {dist.lower().replace("_", "-") for dist in distributions.get(package, [package])}
    }
    assert not unpinned


def read(notebook: Path) -> NotebookNode:
    return nbformat.read(notebook, as_version=4)


def code_cells(notebook: Path) -> list[NotebookNode]:
    return [cell for cell in read(notebook).cells if cell.cell_type == "code"]


@each_notebook
def test_a_code_cell_has_at_most_15_lines_and_markdown_before_it(notebook: Path) -> None:
    cells = read(notebook).cells
    for number, cell in enumerate(cells):
        if cell.cell_type == "code":
            lines = [line for line in cell.source.splitlines() if line.strip()]
            assert len(lines) <= 15, f"cell {number} has {len(lines)} lines: {lines[0]}"
            assert number and cells[number - 1].cell_type == "markdown", f"no Markdown before cell {number}: {lines[0]}"


@each_notebook
def test_a_notebook_is_shipped_as_executed_from_top_to_bottom_without_an_error(notebook: Path) -> None:
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [output for cell in cells for output in cell.outputs if output.output_type == "error"]


@each_notebook
def test_a_notebook_weighs_less_than_400_kb(notebook: Path) -> None:
    assert notebook.stat().st_size < 400_000


@each_notebook
def test_a_notebook_names_no_path_of_the_machine_that_ran_it(notebook: Path) -> None:
    content = json.loads(notebook.read_text(encoding="utf-8"))
    for cell in content["cells"]:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop("image/png", None)
    found = MACHINE_PATH.search(json.dumps(content))
    assert found is None, f"{found and found.string[found.start() - 60 : found.end() + 60]}"


@each_notebook
def test_a_notebook_keeps_no_trace_of_the_runner(notebook: Path) -> None:
    content = read(notebook)
    traces = {"papermill", "execution"}
    assert not traces & set(content.metadata)
    assert not [cell.id for cell in content.cells if traces & set(cell.metadata)]
