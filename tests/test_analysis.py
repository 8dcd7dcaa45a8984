import json
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.core.errors import UserError
from helpers.runs import analysis, load
from helpers.runs.load import evaluated_steps, find_runs, latest_run, load_run
from tests.synthetic_runs import Spec, means, write_run

START, END = means(0.40), means(0.55)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_run(tmp_path / "v4.1", Spec(START, END, max_steps=60, eval_every=20))


def edit(path: Path, line: int, change) -> None:
    rows = path.read_text(encoding="utf-8").split("\n")
    rows[line - 1] = change(rows[line - 1])
    path.write_text("\n".join(rows), encoding="utf-8")


def with_values(**values):
    return lambda text: json.dumps(json.loads(text) | values)


def test_answers_cut_at_the_limit_are_counted_at_both_ends(folder: Path) -> None:
    run = load_run(folder)
    evals = run.evals.copy()
    evals.loc[(evals["step"] == 60) & (evals["task"] == "insights"), "clipped"] = True
    run = replace(run, evals=evals)
    shares = analysis.cut_shares(run)
    assert (shares["insights"][0].mean, shares["insights"][1].mean, shares["push"][1].mean) == (0, 1, 0)


def test_a_sound_record_is_loaded_without_a_warning(folder: Path) -> None:
    run = load_run(folder)
    assert run.warnings == []
    assert (run.recipe, run.max_steps, run.last_step, run.reward_version) == ("v4.1", 60, 60, "v4.1")
    assert list(run.series("train/reward").index) == list(range(1, 61))
    assert evaluated_steps(run, "eval_subset") == [0, 20, 40, 60]


@pytest.mark.parametrize("name", ["metrics.jsonl", "eval.jsonl", "events.jsonl"])
def test_a_line_cut_in_the_middle_is_left_out_and_named(folder: Path, name: str) -> None:
    path = folder / name
    content = path.read_text(encoding="utf-8")
    path.write_text(content[: len(content) - 12], encoding="utf-8")
    last = content.count("\n")
    run = load_run(folder)
    assert f"{name}, line {last}: cut off in the middle; left out" in run.warnings


def test_a_cut_within_a_character_does_not_stop_the_reading(folder: Path) -> None:
    with (folder / "eval.jsonl").open("ab") as file:
        file.write('{"step": 60, "completion": "promoção'.encode()[:-4])
    assert any("cut off in the middle" in warning for warning in load_run(folder).warnings)


def test_not_a_number_is_kept_as_such_and_named(folder: Path) -> None:
    edit(folder / "metrics.jsonl", 7, with_values(**{"train/grad_norm": "NaN"}))
    run = load_run(folder)
    assert any(warning.startswith("metrics.jsonl, line 7: train/grad_norm is 'NaN'") for warning in run.warnings)
    assert len(run.series("train/grad_norm")) == 59


@pytest.mark.parametrize("total", ["NaN", None, 1.5, "high", True])
def test_a_reward_that_is_none_is_left_out_and_named(folder: Path, total: object) -> None:
    edit(folder / "eval.jsonl", 3, with_values(total=total))
    run = load_run(folder)
    assert run.warnings == [f"eval.jsonl, line 3: total is {total!r}, not a number from 0 to 1; left out"]
    assert 3 not in set(run.evals["line"])


READERS = [
    analysis.curve,
    analysis.gains,
    analysis.coverage,
    analysis.repairs_by_step,
    analysis.best_step,
    lambda run: analysis.part_shares(run, "extraction"),
    lambda run: analysis.before_after(run, "extraction"),
]


@pytest.mark.parametrize("bad", [None, "x", -3, 0.5, [], {}, {"a": None}, True], ids=repr)
def test_no_value_in_a_scored_completion_breaks_what_reads_it(folder: Path, bad: object) -> None:
    path = folder / "eval.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for index, key in enumerate(rows[0]):
        rows[index] |= {key: bad}
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    run = load_run(folder)
    assert run.warnings
    for read in READERS:
        read(run)


def test_steps_that_are_missing_are_counted(folder: Path) -> None:
    path = folder / "metrics.jsonl"
    rows = [line for line in path.read_text().splitlines() if json.loads(line)["step"] not in (11, 12, 13)]
    path.write_text("\n".join(rows) + "\n")
    assert "metrics.jsonl: no training row for 3 steps, the first is 11" in load_run(folder).warnings


def test_an_evaluation_that_is_missing_is_named(folder: Path) -> None:
    path = folder / "eval.jsonl"
    path.write_text("".join(line for line in path.open() if '"step": 20,' not in line))
    assert "eval.jsonl: no evaluation at step 20 (expected every 20)" in load_run(folder).warnings


def test_rows_of_another_reward_version_are_told_and_left_out_of_every_mean(folder: Path) -> None:
    before = analysis.curve(load_run(folder))
    path = folder / "eval.jsonl"
    lines = path.read_text().splitlines()
    other = [json.dumps(json.loads(line) | {"version": "v4.2", "total": 1.0}) for line in lines[:65]]
    path.write_text("\n".join([*lines, *other]) + "\n")
    run = load_run(folder)
    place = f"eval.jsonl, line {len(lines) + 1}: 65 rows from here on are scored by v4.2 with the tolerant parser"
    assert any(warning.startswith(place) for warning in run.warnings)
    assert analysis.curve(run).equals(before)


def test_rows_written_twice_count_once(folder: Path) -> None:
    path = folder / "eval.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[0]]) + "\n")
    run = load_run(folder)
    assert run.warnings == ["eval.jsonl, line 1: scored again later, as 1 in all; the later one counts"]
    assert len(run.evals) == len(lines)


def test_many_faults_of_a_file_are_summed_up(folder: Path) -> None:
    path = folder / "metrics.jsonl"
    path.write_text(path.read_text() + "garbage\n" * 40)
    warnings = load_run(folder).warnings
    assert len(warnings) == 6 and warnings[-1] == "metrics.jsonl: 35 more lines like these"


def test_an_unfinished_run_says_where_it_ends(tmp_path: Path) -> None:
    run = load_run(write_run(tmp_path / "r", Spec(START, END, max_steps=60, eval_every=20, stopped_at=40)))
    assert "metrics.jsonl: ends at step 40 of 60; the run was not finished" in run.warnings


def test_without_scored_completions_the_logged_means_make_the_curve(folder: Path) -> None:
    (folder / "eval.jsonl").unlink()
    run = load_run(folder)
    assert "eval.jsonl: missing; what it would show is left out" in run.warnings
    assert analysis.curve(run, "push")["mean"].loc[0] == pytest.approx(START["push"])
    assert analysis.gains(run) == {}


@pytest.mark.parametrize("content", [None, "{", "[]", '{"recipe": "v4.1"}'])
def test_what_is_no_run_folder_is_refused_in_one_line(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError) as error:
        load_run(tmp_path)
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        load_run(tmp_path / "nowhere")


def test_gains_pair_the_same_prompts_of_the_full_split(folder: Path) -> None:
    run = load_run(folder)
    gain = analysis.gains(run)
    assert set(gain) == {"all", "extraction", "sql_qa", "insights", "push"}
    assert gain["all"].difference.n == 260
    assert gain["all"].difference.mean == pytest.approx(gain["all"].after.mean - gain["all"].before.mean)
    assert gain["all"].difference.low < 0.15 < gain["all"].difference.high


def test_only_prompts_scored_at_both_ends_are_paired() -> None:
    gain = analysis.paired_gains({"push": {"a": 0.1, "b": 0.9, "c": 0.2}}, {"push": {"a": 0.3, "c": 0.4}})
    assert gain["push"].difference.mean == pytest.approx(0.2)
    assert gain["push"].difference.n == 2


def test_samples_of_one_prompt_are_one_value(folder: Path) -> None:
    path = folder / "eval.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    again = [row | {"sample": 1} for row in rows]
    path.write_text("\n".join(json.dumps(row) for row in rows + again) + "\n")
    assert analysis.gains(load_run(folder))["all"].difference.n == 260


def test_coverage_sets_the_plan_beside_what_was_seen(folder: Path) -> None:
    table = analysis.coverage(load_run(folder))
    assert table.loc["push"].to_dict() == {"records": 148, "expected": 12.0, "seen": 12.0}


def test_repairs_are_shares_of_the_extraction_completions(folder: Path) -> None:
    path = folder / "eval.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    base = [row for row in rows if row["step"] == 0 and row["split"] == "eval_subset"]
    needed = sum("decimal_comma" in row["repairs"] for row in base)
    table = analysis.repairs_by_step(load_run(folder))
    assert table.loc[0, "decimal_comma"] == pytest.approx(needed / 20)


def test_before_and_after_run_from_the_largest_loss_to_the_largest_gain(folder: Path) -> None:
    table = analysis.before_after(load_run(folder), "push", n=5)
    changes = table["reward_after"] - table["reward_before"]
    assert len(table) == 5 and changes.is_monotonic_increasing
    assert "passo 0" in table["before"][0] and "passo 60" in table["after"][0]


def test_the_readers_own_run_comes_before_a_shipped_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, shipped = tmp_path / "runs", tmp_path / "shipped"
    monkeypatch.setattr(load, "SHIPPED_RUNS", shipped)
    monkeypatch.setattr(load, "OWN_RUNS", tmp_path / "none")
    monkeypatch.setenv("HELPERS_RUN_DIR", str(own))
    spec = Spec(START, END, max_steps=20, eval_every=20)
    write_run(shipped / "cpu-v4.1-seed0", spec)
    assert "shipped with the project" in latest_run()[1]
    write_run(own / "now" / "v4.1", spec)
    write_run(own / "now" / "v4", Spec(START, END, max_steps=20, eval_every=20, recipe="v4"))
    run, told = latest_run()
    assert run.name == "v4.1" and "your own" in told and "not finished" not in told


def test_a_run_that_did_not_come_to_its_end_is_taken_and_told(folder: Path) -> None:
    events = folder / "events.jsonl"
    events.write_text("".join(line for line in events.open() if '"kind": "end"' not in line))
    run, told = latest_run(folder.parent, recipe=None)
    assert told.endswith(f"; not finished: step {run.last_step} of {run.max_steps}")


def test_no_run_at_all_is_told_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="python -m helpers train"):
        latest_run(tmp_path)


def test_a_model_folder_is_not_taken_for_a_run(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text("{}")
    assert find_runs(tmp_path) == []


def test_a_damaged_config_and_a_warm_up_are_passed_over_for_the_next_run(folder: Path, capsys) -> None:
    for name in ("broken", "v4.2b/warmup"):
        write_run(folder.parent / name, Spec(START, END, max_steps=20, eval_every=20))
    (folder.parent / "broken" / "config.json").write_text('{"recipe": [')
    assert latest_run(folder.parent)[0].path == folder
    assert "broken" in capsys.readouterr().out
