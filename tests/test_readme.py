"""What the README says of the code is what the code says, and what it says of results stands in RESULTS.md."""

import re

import pytest

from helpers import recipes
from helpers.cli import VERBS
from helpers.core.files import PROJECT_ROOT
from helpers.recipes import profiles
from helpers.rewards import WEIGHTS
from helpers.tasks import TASKS

README = (PROJECT_ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("version", ["v4.1", "v4.2"])
@pytest.mark.parametrize("task", TASKS)
def test_the_weights_are_those_of_the_rewards(task, version):
    weights = ", ".join(f"{weight:.2f} {part}" for part, weight in WEIGHTS[version][task].items())
    assert f"| {task} | {version} | {weights} |" in README


def test_the_recipes_are_those_that_run():
    fitted, _ = profiles.fit(recipes.V41, profiles.get("cpu"))
    assert f"| steps | {recipes.V4.max_steps} | {recipes.V41.max_steps} | {fitted.max_steps} |" in README
    assert f"| completion limit, tokens | 512 | 512 | {fitted.max_completion_length} |" in README


def test_every_verb_that_it_shows_exists():
    shown = [line.split()[3] for line in README.splitlines() if line.startswith("    python -m helpers ")]
    assert shown and set(shown) <= set(VERBS)


def test_every_file_it_links_to_is_there():
    links = [part.split(")")[0] for part in README.split("](")[1:]]
    assert links and all((PROJECT_ROOT / link).exists() for link in links)


def test_every_interval_that_it_gives_is_one_of_the_results():
    intervals = re.findall(r"[+-]?\d\.\d+ \[[^\]]+\]", README.replace("\n", " "))
    results = (PROJECT_ROOT / "RESULTS.md").read_text(encoding="utf-8").replace("\n", " ")
    assert intervals and not [interval for interval in intervals if interval not in results]
