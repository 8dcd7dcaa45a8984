"""The audit on every eval record: what v4.2 owes to each kind of probe, and what v4.1 lets pass."""

from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure

from helpers.cli import main
from helpers.core.files import write_jsonl
from helpers.plots import kind_heat_map, probe_heat_map
from helpers.rewards.audit import audit, fixed_answer_floor, order, table
from helpers.tasks import TASKS
from helpers.tasks.records import load_split


@pytest.fixture(scope="module")
def scores(commerce_db: Path) -> pd.DataFrame:
    return audit(load_split("eval"), ["v4.1", "v4.2"])


@pytest.fixture(scope="module")
def correctness(scores: pd.DataFrame) -> pd.DataFrame:
    return scores[scores["version"] == "v4.2"]


def worst(scores: pd.DataFrame, ascending: bool) -> str:
    return scores.sort_values("total", ascending=ascending).head(5)[["record_id", "probe", "total"]].to_string()


def test_every_reference_scores_at_least_95_hundredths(correctness: pd.DataFrame) -> None:
    chosen = correctness[correctness["kind"] == "reference"]
    assert len(chosen) == 260 and chosen["total"].min() >= 0.95, worst(chosen, ascending=True)


def test_every_harmless_variant_scores_at_least_90_hundredths(correctness: pd.DataFrame) -> None:
    chosen = correctness[correctness["kind"] == "harmless"]
    assert chosen["total"].min() >= 0.90, worst(chosen, ascending=True)


@pytest.mark.parametrize("kind", ["cheat", "lazy"])
def test_no_cheat_scores_more_than_30_hundredths(correctness: pd.DataFrame, kind: str) -> None:
    chosen = correctness[correctness["kind"] == kind]
    assert chosen["total"].max() <= 0.30, worst(chosen, ascending=False)


def test_the_ladder_holds_for_every_record(scores: pd.DataFrame) -> None:
    ladder = order(scores)
    assert len(ladder) == 260
    assert ladder["ok"].all(), ladder[~ladder["ok"]].to_string()


def test_every_record_has_a_wrong_fact_and_another_records_reference(correctness: pd.DataFrame) -> None:
    kinds = correctness.groupby("record_id")["kind"].agg(set)
    assert all({"reference", "harmless", "wrong_fact", "other_record", "lazy", "cheat"} <= found for found in kinds)


@pytest.mark.parametrize("task", TASKS)
def test_a_task_is_probed_in_at_least_25_ways(scores: pd.DataFrame, task: str) -> None:
    assert scores.loc[scores["task"] == task, "probe"].nunique() >= 25


def test_v41_pays_for_answers_to_another_record(scores: pd.DataFrame) -> None:
    form = scores[(scores["version"] == "v4.1") & (scores["kind"] == "other_record")]
    assert form["total"].mean() > 0.85


def test_the_table_marks_broken_bounds(scores: pd.DataFrame) -> None:
    kinds = table(scores[scores["task"] == "push"], ["kind"])
    assert kinds.loc["cheat", "v4.1"].startswith("!") and not kinds.loc["cheat", "v4.2"].startswith("!")
    assert next(iter(kinds.index)) == "reference"


def test_one_fixed_answer_wins_less_under_v42() -> None:
    records = [record for record in load_split("eval") if record["task"] in ("extraction", "push")][::4]
    form, correct = fixed_answer_floor(records, "v4.1"), fixed_answer_floor(records, "v4.2")
    assert all(correct[task] < form[task] for task in form)


def test_heat_maps_hold_a_row_a_probe_and_a_kind(scores: pd.DataFrame) -> None:
    figure = probe_heat_map(scores, "push")
    assert isinstance(figure, Figure)
    assert len(figure.axes[0].get_yticks()) == scores.loc[scores["task"] == "push", "probe"].nunique()
    assert len(kind_heat_map(scores).axes[0].get_yticks()) == scores["kind"].nunique()


def test_the_verb_prints_a_verdict_and_writes_what_is_asked(
    commerce_db: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    push = [record for record in load_split("eval") if record["task"] == "push"][:4]
    write_jsonl(tmp_path / "few.jsonl", push)
    code = main(["audit-rewards", "--pairs", str(tmp_path / "few.jsonl"), "--out", str(tmp_path / "out")])
    assert code == 0
    assert "order kept for 4 of 4 records" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"scores.csv", "kinds.png", "push.png"}


def test_the_verb_tells_an_unknown_version_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit-rewards", "--versions", "v9"]) == 2
    assert "v4.2" in capsys.readouterr().err
