"""docs/scaling.md computes what it says, and its reward function for verl is ours."""

import inspect
import json
import re
import shlex
from pathlib import Path

import pytest
from trl.scripts.vllm_serve import ScriptArguments

from helpers import recipes
from helpers.rewards import score
from helpers.tasks import TASKS
from helpers.tasks.records import load_split

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page():
    """The names that the page's Python blocks define."""
    names = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(compile(block, "docs/scaling.md", "exec"), names)
    return names


def test_the_table_of_computed_speed_ups_is_what_the_pages_code_computes(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    table = page["scaling_table"]()
    assert f"\n{table}\n" in PAGE
    assert table.splitlines()[0].endswith("| 1.00 | 1.00 |")
    phases = page["speed"].phase_seconds(page["load_run"](ROOT / "data/runs/cpu-v4.1-seed0")).mean().drop("eval")
    assert f"mean step is {phases['generation'] / phases.sum():.0%} generation".replace("%", " %") in PAGE


@pytest.mark.parametrize("gpus", [2, 4, 8])
def test_more_gpus_are_faster_by_less_than_their_number(page, gpus):
    run, recipe = page["load_run"](ROOT / "data/runs/cpu-v4.1-seed0"), recipes.V41
    worst, best = page["speed_up"](run, recipe, page["profiles"].get("l4"), gpus)
    assert 1 < worst < best < gpus


@pytest.mark.parametrize("task", TASKS)
def test_verl_gets_our_reward_through_its_own_signature(page, task, commerce_db):
    record = next(record for record in load_split("eval") if record["task"] == task)
    row = page["verl_row"](record)
    assert json.loads(json.dumps(row)) == row
    for completion in (record["reference"]["text"], "Não sei.", ""):
        reward = page["compute_score"](
            data_source=row["data_source"],
            solution_str=completion,
            ground_truth=row["reward_model"]["ground_truth"],
            extra_info=row["extra_info"],
        )
        assert reward == score(task, completion, record, page["VERSION"]).total
    assert list(inspect.signature(page["compute_score"]).parameters)[:4] == [
        "data_source",
        "solution_str",
        "ground_truth",
        "extra_info",
    ]


def test_the_servers_command_has_arguments_that_trl_takes_and_serves_the_recipes_policy():
    (line,) = re.findall(r"trl vllm-serve (.*)", PAGE)[:1]
    words = shlex.split(line)
    given = dict(zip([word.removeprefix("--") for word in words[::2]], words[1::2], strict=True))
    assert set(given) <= set(inspect.signature(ScriptArguments).parameters)
    assert given["model"] == recipes.V41.model_id and given["dtype"] == "float32"
    assert int(given["max_model_len"]) == recipes.V41.max_seq_length
