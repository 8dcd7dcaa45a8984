"""docs/add_a_task.md, followed to the letter on a copy of the package: the test fails where the page is wrong."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "add_a_task.md"
BLOCK = re.compile(r"^### `(?P<path>[^`]+)`\n\n```\w+\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
SPEC = "helpers/tasks/spec.py"
END_OF_ROWS = "\n)\n\nTASKS:"

USE_THE_COPY = """
import pickle
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import helpers
from helpers import plots, recipes, training
from helpers.core.files import database_path
from helpers.recipes import profiles
from helpers.rewards import WEIGHTS, audit, reward_functions, score
from helpers.runs import load_run
from helpers.tasks import TASKS, classify_task, user_text
from helpers.tasks.pairs.build import build_pairs, write_pairs
from helpers.tasks.records import load_split
from helpers.tasks.shop.schema import DEFAULT_SEED

assert Path(helpers.__file__).is_relative_to(Path.cwd()), helpers.__file__
assert TASKS == ("extraction", "sql_qa", "insights", "push", "title")

write_pairs(build_pairs(database_path(), DEFAULT_SEED))
records = load_split("eval")
titles = [record for record in records if record["task"] == "title"]
assert len(titles) == 65 and {classify_task(user_text(record["prompt"])) for record in titles} == {"title"}

good, bad = titles[0]["reference"]["text"], "Produto em oferta"
assert sum(WEIGHTS["v4.1"]["title"].values()) == sum(WEIGHTS["v4.2"]["title"].values()) == 1
for version in ("v4.1", "v4.2", "v4.2-title"):
    assert score("title", good, titles[0], version).total == 1.0
    function = pickle.loads(pickle.dumps(reward_functions(version)[-1]))
    assert function.__name__ == "title"
    rows = {"task": ["title", "title", "push"], "record": [titles[0], titles[0], {}]}
    first, second, other = function(["", "", ""], [good, bad, good], **rows)
    assert first == 1.0 > 0.5 > second and other is None
scores = audit.audit(titles[:10], others=records)
assert scores.loc[scores["version"] == "v4.2", "ok"].all() and audit.order(scores)["ok"].all()

profile = replace(profiles.get("smallest"), step_share=1 / 300)
run = load_run(training.train_grpo(training.plan_run(recipes.V41, profile, Path("runs/title"), seed=1)))
assert run.last_step == run.max_steps == 2 and run.warnings == []
assert set(run.evals["task"]) == set(TASKS) and "eval/title" in run.metrics

for draw, panels in (
    (lambda run: plots.eval_curves([run]), 7),
    (plots.gain_bars, 1),
    (plots.reward_curve, 2),
    (plots.reward_parts, 5),
    (plots.coverage_bars, 1),
    (plots.reward_distributions, 5),
):
    figure = draw(run)
    figure.savefig(BytesIO(), format="png")
    shown = [axis for axis in figure.axes if axis.axison or axis.get_legend()]
    words = [text.get_text() for axis in shown for text in axis.get_yticklabels()]
    words += [axis.get_title(loc="left") for axis in shown]
    words += [text.get_text() for axis in shown if axis.get_legend() for text in axis.get_legend().get_texts()]
    assert len(shown) == panels and "Product titles" in words, (draw, len(shown), words)
print("done")
"""


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=test", "-c", "user.email=test@localhost")
    return subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory, commerce_db: Path) -> Path:
    """A repository with the package and the shop's database, changed as the page says."""
    folder = tmp_path_factory.mktemp("five-tasks")
    shutil.copytree(ROOT / "helpers", folder / "helpers", ignore=shutil.ignore_patterns("__pycache__"))
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "before")
    for block in BLOCK.finditer(PAGE.read_text(encoding="utf-8")):
        path = folder / block["path"]
        if block["path"] == SPEC:
            before, end, after = path.read_text(encoding="utf-8").partition(END_OF_ROWS)
            path.write_text(f"{before}\n{block['code'].rstrip()}{end}{after}", encoding="utf-8")
        else:
            path.write_text(block["code"], encoding="utf-8")
    return folder


def test_a_fifth_task_changes_one_file_and_adds_four(copy: Path) -> None:
    changes = git(copy, "status", "--porcelain", "--untracked-files=all").splitlines()
    new = [line[3:] for line in changes if line.startswith("??")]
    assert [line[3:] for line in changes if line[3:] not in new] == [SPEC]
    assert sorted(new) == [
        "helpers/rewards/probes/title.py",
        "helpers/rewards/title.py",
        "helpers/tasks/pairs/text/title.toml",
        "helpers/tasks/pairs/title.py",
    ]


def test_the_pages_code_passes_the_linter(copy: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", copy)
    command = [sys.executable, "-m", "ruff"]
    for check in (["check", "helpers"], ["format", "--check", "helpers"]):
        done = subprocess.run([*command, *check], cwd=copy, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_five_tasks_are_built_scored_trained_and_drawn(copy: Path, commerce_db: Path) -> None:
    (copy / "data").mkdir()
    (copy / "data" / "commerce.db").symlink_to(commerce_db)
    environment = os.environ | {"PYTHONPATH": str(copy)}
    environment.pop("HELPERS_RUN_DIR", None)
    command = [sys.executable, "-c", USE_THE_COPY]
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.endswith("done\n"), done.stdout[-2000:] + done.stderr[-4000:]
