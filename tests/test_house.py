"""The house stays in order: imports go down, nothing heavy below, pins exact, pages true, notebooks fit to share."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from importlib import metadata
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from helpers.cli.doctor import read_pins

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
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "data").glob("*.md")),
    ROOT / "data" / "runs" / "README.md",
]
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
WRITTEN_LATER = ("runs/", "data/commerce.db", "data/runs/gpu/")
"""What a run, a build or `make gpu-check` writes: pages may name it, a fresh clone does not have it."""


def room_of(path: Path) -> str:
    return path.relative_to(HELPERS).parts[0].removesuffix(".py")


def modules() -> list[Path]:
    return [path for path in sorted(HELPERS.rglob("*.py")) if path != HELPERS / "__init__.py"]


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path, in_functions: bool = True) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every import in a module, but for what runs only when it is started as a program."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if "__main__" not in ast.dump(getattr(node, "test", ast.Pass()))]
    for node in ast.walk(tree) if in_functions else tree.body:
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


def test_no_modules_import_one_another_in_a_circle() -> None:
    names = {dotted(path) for path in modules()}
    sorter: TopologicalSorter[str] = TopologicalSorter()
    for path in modules():
        imported = {name if name in names else name.rpartition(".")[0] for _, name in imports(path)}
        # A room's face imports its modules, and importing a module runs its room's face: not a circle of ideas.
        faces = {dotted(other) for other in modules() if other.name == "__init__.py"}
        sorter.add(dotted(path), *(imported & names - faces - {dotted(path)}))
    sorter.prepare()  # raises CycleError, which names the circle


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


def unpinned(imported: set[tuple[str, str]], *files: str) -> set[tuple[str, str]]:
    """Those of (module, package) whose package is neither ours, nor the standard library's, nor pinned in `files`."""
    pinned = {named.lower().replace("_", "-") for file in files for named in read_pins(ROOT / file)}
    distributions = metadata.packages_distributions()
    return {
        (module, package)
        for module, package in imported
        if package not in ("helpers", *sys.stdlib_module_names)
        and not pinned & {name.lower().replace("_", "-") for name in distributions.get(package, [package])}
    }


def test_every_package_that_helpers_imports_is_pinned() -> None:
    imported = {(dotted(path), name.split(".")[0]) for path in modules() for _, name in imports(path)}
    assert not unpinned(imported, "requirements-cuda13.txt", "requirements-dev.txt")


def test_the_training_set_alone_holds_what_modules_import_when_they_are_loaded() -> None:
    """But for the verbs that run and read notebooks: Colab brings Jupyter, and no training or report needs it."""
    loaded = {(dotted(path), name.split(".")[0]) for path in modules() for _, name in imports(path, in_functions=False)}
    missing = unpinned(loaded, "requirements-cuda13.txt")
    assert {module for module, _ in missing} <= {"helpers.cli.notebooks", "helpers.cli.results"}, missing


def readme_section(heading: str) -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]


def rows(table: str) -> list[list[str]]:
    """The cells of a Markdown table's rows, without its two header lines."""
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]


def test_the_table_of_rooms_has_every_room_in_import_order() -> None:
    named = [cells[0].strip("`") for cells in rows(readme_section("The house").split("###")[0])]
    assert named == [room for floor in ORDER for room in floor if not room.startswith("__")]


def test_the_table_of_rooms_names_modules_that_exist_and_every_inner_package() -> None:
    for room, _, holds in rows(readme_section("The house").split("###")[0]):
        folder = HELPERS / room.strip("`")
        names = [name for name in re.findall(r"`(\w+)`", holds) if name.islower()]
        assert not [name for name in names if not ((folder / name).is_dir() or (folder / f"{name}.py").is_file())]
        packages = {path.parent.name for path in folder.glob("*/__init__.py")}
        assert packages <= set(names), f"{folder.name}: {packages - set(names)}"


def tree() -> list[str]:
    """The paths of the README's file tree: two levels, a folder's entries indented by two spaces."""
    text = readme_section("The house").split("<!-- tree -->")[1].split("<!-- /tree -->")[0]
    paths, folder = [], ""
    for line in text.splitlines():
        if line.strip() and not line.startswith("```"):
            name = line.split()[0]
            folder = folder if line.startswith("  ") else name
            paths.append(f"{folder}{name}" if line.startswith("  ") else name)
    return paths


def test_the_file_tree_of_the_readme_is_the_tree_on_disk() -> None:
    shown = tree()
    assert not [path for path in shown if not (ROOT / path).exists()]
    assert not [path for path in shown if path.endswith("/") != (ROOT / path).is_dir()]
    for folder, pattern in (("helpers", "*/__init__.py"), ("notebooks", "*.ipynb"), ("docs", "*.md")):
        entries = {
            f"{path.parent.relative_to(ROOT)}/" if path.name == "__init__.py" else str(path.relative_to(ROOT))
            for path in (ROOT / folder).glob(pattern)
        }
        assert entries <= set(shown), f"the README's tree lacks {sorted(entries - set(shown))}"


def test_where_to_change_what_names_what_is_there() -> None:
    places = re.findall(r"`([A-Z_]+)` in `([\w./]+)`", readme_section("The house"))
    assert places
    missing = [
        f"{name} in {path}"
        for name, path in places
        if not re.search(rf"^{name}\b", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert not missing


def named_paths(text: str) -> Iterator[str]:
    """What stands in a code span and looks like a path from the root; a placeholder such as `<task>` is none."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    for span in re.findall(r"(?<!`)`([\w./*-]+)`(?!`)", prose):
        first, slash, _ = span.partition("/")
        if (slash and (ROOT / first).is_dir()) or (not slash and span.endswith((".md", ".toml", ".txt", ".yaml"))):
            yield span


@each_page
def test_every_path_that_a_page_names_exists(page: Path) -> None:
    if page.name == "add_a_task.md":
        return  # it names files that its reader writes; a test of its own does what it says
    missing = [
        path
        for path in named_paths(page.read_text(encoding="utf-8"))
        if not path.startswith(WRITTEN_LATER) and not any(ROOT.glob(path)) and not (page.parent / path).exists()
    ]
    assert not missing


def missing_links(text: str, folder: Path) -> list[str]:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
    return [link for link in links if "://" not in link and not (folder / link).exists()]


@each_page
def test_every_relative_link_of_a_page_resolves(page: Path) -> None:
    assert not missing_links(page.read_text(encoding="utf-8"), page.parent)


@each_page
def test_every_make_target_that_a_page_names_exists(page: Path) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    named = re.findall(r"(?:`|^    )make ([a-z][a-z-]+)(?![\w/-])", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(named) <= set(targets)


def test_the_table_of_moved_modules_leads_to_modules_that_exist() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    moved = re.findall(r"^\| `(helpers\.[\w.]+)` \| `(helpers\.[\w.]+)` \|$", text, re.MULTILINE)
    existing = {dotted(path) for path in modules()}
    assert moved
    assert not [new for _, new in moved if new not in existing]


def test_the_workflow_runs_what_the_continuous_integration_script_runs() -> None:
    assert "make test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    workflow = (ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8")
    assert re.search(r"run: make PYTHON=\S+ test$", workflow.replace("${{ matrix.python }}", ""), re.MULTILINE)


def read(notebook: Path) -> NotebookNode:
    return nbformat.read(notebook, as_version=4)


def code_cells(notebook: Path) -> list[NotebookNode]:
    return [cell for cell in read(notebook).cells if cell.cell_type == "code"]


@each_notebook
def test_a_notebooks_code_cell_has_at_most_40_lines_and_markdown_before_it(notebook: Path) -> None:
    cells = read(notebook).cells
    for number, cell in enumerate(cells):
        if cell.cell_type == "code":
            lines = [line for line in cell.source.splitlines() if line.strip()]
            assert len(lines) <= 40, f"cell {number} has {len(lines)} lines: {lines[0]}"
            assert number and cells[number - 1].cell_type == "markdown", f"no Markdown before cell {number}: {lines[0]}"


@each_notebook
def test_a_notebook_is_shipped_as_executed_from_top_to_bottom_without_an_error(notebook: Path) -> None:
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [output for cell in cells for output in cell.outputs if output.output_type == "error"]


@each_notebook
def test_a_notebooks_cells_hold_no_control_characters(notebook: Path) -> None:
    """A `\\b` of a regular expression that became a backspace on the way to the file matches nothing."""
    assert not [cell.source for cell in read(notebook).cells if re.search(r"[\x00-\x08\x0b-\x1f\x7f]", cell.source)]


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


@each_notebook
def test_every_relative_link_of_a_notebook_resolves(notebook: Path) -> None:
    text = "\n".join(cell.source for cell in read(notebook).cells if cell.cell_type == "markdown")
    assert not missing_links(text, notebook.parent)


@each_notebook
def test_a_notebook_that_names_the_handoff_links_to_it_where_it_is_first_named(notebook: Path) -> None:
    cells = [cell.source for cell in read(notebook).cells if cell.cell_type == "markdown" and "handoff" in cell.source]
    assert not cells or "[handoff](../docs/handoff.md)" in cells[0]
