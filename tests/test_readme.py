"""What README, RESULTS.md and the reference say of code and records is what code and records say."""

import re
from pathlib import Path

import pytest

from helpers import recipes
from helpers.cli import VERBS, main, results
from helpers.cli.common import put_between_markers
from helpers.core.errors import UserError
from helpers.core.files import PROJECT_ROOT
from helpers.recipes import profiles
from helpers.rewards import WEIGHTS
from helpers.tasks import TASKS

README, RESULTS, REFERENCE = (
    (PROJECT_ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "RESULTS.md", "docs/reference.md")
)


@pytest.mark.parametrize("version", ["v4.1", "v4.2"])
@pytest.mark.parametrize("task", TASKS)
def test_the_weights_are_those_of_the_rewards(task, version):
    weights = ", ".join(f"{weight:.2f} {part}" for part, weight in WEIGHTS[version][task].items())
    assert f"| {task} | {version} | {weights} |" in REFERENCE


def test_the_recipes_are_those_that_run():
    fitted, _ = profiles.fit(recipes.V41, profiles.get("cpu"))
    assert f"| steps | {recipes.V4.max_steps} | {recipes.V41.max_steps} | {fitted.max_steps} |" in REFERENCE
    assert f"| completion limit, tokens | 512 | 512 | {fitted.max_completion_length} |" in REFERENCE


def test_every_verb_that_is_shown_exists():
    lines = "\n".join((README, RESULTS, REFERENCE)).splitlines()
    shown = [line.split()[3] for line in lines if line.startswith("    python -m helpers ")]
    assert shown and set(shown) <= set(VERBS)


def test_every_interval_of_the_readme_is_one_of_the_results():
    plain = [re.sub(r"\s+", " ", text.replace("*", "")) for text in (README, RESULTS)]
    intervals = re.findall(r"[+-]?\d\.\d+ \[[^\]]+\]", plain[0])
    assert intervals and not [interval for interval in intervals if interval not in plain[1]]


def test_every_notebook_opens_in_colab_from_the_one_repository():
    opened = re.findall(r"\]\((https://colab\.research\.google\.com/github/[^)]+)\)", README)
    address = results.REPOSITORY.removeprefix("https://github.com/")
    assert [url.split(f"/github/{address}/blob/main/notebooks/")[1] for url in opened] == sorted(
        path.name for path in (PROJECT_ROOT / "notebooks").glob("*.ipynb")
    )


def test_a_notebook_that_names_the_repository_names_this_one():
    text = "".join(path.read_text(encoding="utf-8") for path in sorted((PROJECT_ROOT / "notebooks").glob("*.ipynb")))
    named = re.findall(r"https://(?:github\.com|colab\.research\.google\.com/github)/([\w.-]+/[\w.-]+)", text)
    assert set(named) <= {results.REPOSITORY.removeprefix("https://github.com/")}


def test_the_generated_parts_are_what_the_shipped_records_gave():
    assert results.broken_seals() == []  # else: python -m helpers results


@pytest.mark.slow
def test_the_command_would_write_the_generated_parts_as_they_are():
    assert main(["results", "--check"]) == 0


def test_a_number_changed_by_hand_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    page = tmp_path / "RESULTS.md"
    page.write_text(re.sub(r"(<!-- gains -->.*?)\+0\.", r"\1+1.", RESULTS, count=1, flags=re.DOTALL), encoding="utf-8")
    monkeypatch.setattr(results, "RESULTS", page)
    assert results.broken_seals() == [f"{page}, gains"]


def test_a_lost_marker_is_named():
    with pytest.raises(UserError, match="lost its markers <!-- gains -->"):
        put_between_markers(RESULTS.replace("<!-- /gains -->", ""), "gains", "a table")
