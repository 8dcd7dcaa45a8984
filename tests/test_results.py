"""The tables of RESULTS.md, on records whose truth is known: more runs give more rows, none give none."""

from pathlib import Path

import pandas as pd
import pytest

from helpers import recipes
from helpers.cli.results import markdown, table_part
from helpers.core.errors import UserError
from helpers.core.files import write_json, write_text
from helpers.recipes import duration, profiles
from helpers.runs import analysis, results
from helpers.tasks import TASKS
from tests.synthetic_runs import Spec, means, write_run

SIZES = dict.fromkeys(TASKS, 12)


def spec(**changed) -> Spec:
    """A short run whose every task gains 0.2."""
    chosen = {"start": means(0.4), "end": means(0.6), "max_steps": 20, "eval_every": 10, "full": SIZES}
    return Spec(**(chosen | changed))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("records")
    for seed in (2, 0, 1):
        write_run(folder / f"b-{seed}", spec(seed=seed))
    write_run(folder / "c-v4", spec(recipe="v4", end=means(0.4), seed=1))
    write_run(folder / "a-large", spec(recipe="v4.2a", seed=0))
    write_run(folder / "unfinished", spec(seed=3, stopped_at=10))
    write_run(folder / "b-0" / "warmup", spec(seed=9))
    return folder


@pytest.fixture(scope="module")
def runs(root: Path) -> list:
    return results.finished_runs(root)


def test_finished_runs_are_in_order_of_recipe_and_seed_without_what_lies_deeper(runs):
    assert [run.name for run in runs] == ["c-v4", "b-0", "b-1", "b-2", "a-large"]


def test_without_records_every_table_is_empty_and_says_so(tmp_path: Path):
    of_runs = [table([]) for name, table in results.TABLES.items() if name not in ("policies", "habits", "engines")]
    of_files = [table(tmp_path) for table in (results.policies, results.habits, results.engines)]
    assert {table_part(table) for table in of_runs + of_files} == {"No record."}


def test_engines_are_read_from_what_their_tests_left(tmp_path: Path):
    row = {
        "backend": "vllm",
        "steps": 3,
        "step_s": 1.25,
        "gaps": {"engine, trainer": 1.5e-6},
        "greedy_answers": "16 of 16",
    }
    write_json(tmp_path / "tiny.json", {"python": "3.11", "backends": [row]})
    write_json(tmp_path / "served_route.json", {"answers": 4})
    (read,) = results.engines(tmp_path).reset_index().to_dict("records")
    assert (read["model"], read["backend"], read["steps"], read["engine, trainer"]) == ("tiny", "vllm", "3", "1.5e-06")
    assert read["engine, plain"] == "no engine"


def test_policies_and_habits_are_read_from_their_cards(tmp_path: Path):
    (tmp_path / "base").mkdir()
    (tmp_path / "instruct").mkdir()
    counts = {"parameters": 2_000_000, "vocabulary": 2048, "records": {"push": 600, "sql_qa": 400}}
    stages = [{"steps": 600, "tokens": 4_000_000}, {"steps": 300, "tokens": 1_000_000}]
    write_json(tmp_path / "instruct" / "embedded.json", counts | {"stages": stages})
    write_text(tmp_path / "base" / "README.md", "# Embedded policy `base`\n\n## Scores\n\n| a |\n| --- |\n| 1 |\n")
    table = "| Task | Habit | Share of answers |\n| --- | --- | --- |\n| Push | too long | 60% |\n"
    write_text(tmp_path / "instruct" / "README.md", f"# Card\n\n## Habits\n\nTold.\n\n{table}\n## Scores\n\n| a |\n")
    assert results.policies(tmp_path)["records"].tolist() == ["1,000"]
    assert results.habits(tmp_path).reset_index().to_numpy().tolist() == [["Push", "too long", "60%"]]


def test_each_seed_has_a_row_and_several_a_mean(runs):
    v41 = [run for run in runs if run.recipe == "v4.1"]
    assert list(results.gains(v41[:1]).index) == [("v4.1", "sampled", "0")]
    assert list(results.gains(v41).index.get_level_values("seed")) == ["0", "1", "2", "mean of 3"]


def test_the_mean_of_seeds_is_the_mean_of_their_gains(runs):
    v41 = [run for run in runs if run.recipe == "v4.1"]
    together = results.gains_over_seeds(v41, "sample")["push"].difference
    alone = [analysis.gains(run, "eval")["push"].difference for run in v41]
    assert together.mean == pytest.approx(sum(gain.mean for gain in alone) / 3)
    assert together.n == SIZES["push"]
    assert together.high - together.low < max(gain.high - gain.low for gain in alone)


def test_a_run_is_compared_with_the_run_of_its_own_seed_else_with_the_first(runs):
    v4, *v41, larger = runs
    assert results.partner(larger, "v4.1", runs) == v41[:1]
    assert results.partner(v4, "v4.1", runs) == [v41[1]]
    assert [results.partner(run, "v4", runs) for run in v41] == [[v4]] * 3
    assert results.partner(larger, "v4.2b", runs) == []


def test_answers_cut_at_the_limit_are_counted_by_prompt(runs):
    table = results.cut_answers(runs[:1])
    assert table.loc[("v4, seed 1", "sampled"), "push"] == "0 → 0 % [0, 0]"
    assert table.loc[("v4, seed 1", "sampled"), "in training"] == "0, 0, 0 %"


def test_a_number_of_prompts_that_all_rows_share_is_said_once():
    table = pd.DataFrame({"run": ["a", "b"], "n": ["65", "65"], "x": ["1", "2"]}).set_index("run")
    assert table_part(table).startswith("n = 65 prompts\n\n| run | x |")
    table["n"] = ["65", "60"]
    assert table_part(table) == markdown(table)


def test_the_time_plan_is_the_bytes_and_operations_over_the_cards_own():
    recipe, card, weights = recipes.V41, profiles.get("l4"), 490_799_104
    read = weights * 2 + 32 * (200 + 256) * 114_688  # all weights, and 32 sequences half way through their completion
    assert duration.generation_seconds(recipe, card, 200) == pytest.approx(512 * read / 300e9)
    assert duration.training_seconds(recipe, card, 200) == pytest.approx(8 * weights * 32 * 712 / 121e12)
    with pytest.raises(UserError, match="card for a time plan"):
        duration.step_seconds(recipe, profiles.get("t4"), 200)
