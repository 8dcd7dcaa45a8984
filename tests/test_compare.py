"""What the branch notebooks conclude follows from the records, by rule."""

import json
import math
import shutil
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from helpers import recipes, training
from helpers.recipes import profiles
from helpers.rewards import score
from helpers.runs import analysis, compare
from helpers.runs.decision import Decision
from helpers.runs.load import Run, load_run
from helpers.tasks import TASKS
from helpers.tasks.records import PAIRS_DIR, load_split
from helpers.training import fix
from tests.synthetic_runs import Spec, means, write_run

BASE = means(0.36, extraction=0.17)


def made(folder: Path, end: dict[str, float], **settings) -> Run:
    spec = Spec(BASE, end, **{"max_steps": 60, "eval_every": 10, "spread": math.inf} | settings)
    return load_run(write_run(folder, spec))


def undecided() -> Decision:
    return Decision("undecided", "", [], "", "")


@pytest.mark.parametrize(
    ("extraction", "holds", "said"),
    [(0.25, True, "stay at 0.5B"), (0.249, False, "go to 3.7B-Instruct"), (0.60, True, "stay at 0.5B")],
)
def test_the_conclusion_after_the_warm_up_turns_at_extractions_floor(tmp_path, extraction, holds, said):
    told, fact = compare.after_warm_up(made(tmp_path / "run", means(0.5, extraction=extraction)))
    assert fact.holds is holds and said in told


def test_an_interval_across_the_floor_concludes_nothing(tmp_path):
    told, fact = compare.after_warm_up(made(tmp_path / "run", means(0.5, extraction=0.25), spread=3.0))
    assert fact.holds is None and told.startswith("undecided")


def test_the_decisions_own_task_is_the_one_that_is_fixed(tmp_path):
    run = made(tmp_path / "run", means(0.5, push=0.1))
    task, why = compare.weakest_task(run, replace(undecided(), scenario="C", task="insights"))
    assert task == "insights" and "03's decision" in why


def test_without_a_lagging_task_the_lowest_is_taken_and_ties_are_said(tmp_path):
    task, why = compare.weakest_task(made(tmp_path / "sure", means(0.5, push=0.1)), undecided())
    assert task == "push" and "cannot be told apart" not in why
    _, why = compare.weakest_task(made(tmp_path / "noisy", means(0.5, push=0.48), spread=3.0), undecided())
    assert "cannot be told apart" in why


def rows(run: Path, texts: dict[str, str], version: str) -> None:
    """Replace the run's end answers by `texts`, a text a task, scored with `version`."""
    kept = [line for line in (run / "eval.jsonl").read_text().splitlines() if json.loads(line)["step"] == 0]
    where = {"step": 60, "split": "eval", "mode": "sample", "sample": 0, "version": version, "parser": "tolerant"}
    lengths = {"prompt_tokens": 10, "completion_tokens": 10, "clipped": False, "flags": [], "repairs": []}
    for record in load_split("eval"):
        text = texts[record["task"]]
        found = score(record["task"], text, record, version)
        answer = {"record_id": record["id"], "task": record["task"], "completion": text}
        kept.append(json.dumps(where | lengths | answer | {"total": found.total, "parts": dict(found.parts)}))
    (run / "eval.jsonl").write_text("\n".join(kept) + "\n")
    config = json.loads((run / "config.json").read_text())
    config["data"] = {"eval.jsonl": sha256((PAIRS_DIR / "eval.jsonl").read_bytes()).hexdigest()}
    (run / "config.json").write_text(json.dumps(config))


def test_a_reward_change_alone_is_no_difference_under_either_version(tmp_path):
    texts = {task: next(r["reference"]["text"] for r in load_split("eval") if r["task"] == task) for task in TASKS}
    runs = [made(tmp_path / "a", means(0.5)), made(tmp_path / "b", means(0.5))]
    for run, version in zip(runs, ("v4.1", "v4.2-extraction"), strict=True):
        rows(run.path, texts, version)
    found = compare.ends(*(load_run(run.path) for run in runs))
    assert {comparison.difference.mean for comparison in found} == {0.0}
    assert {comparison.verdict for comparison in found} == {"no difference shown"}
    by_version = {c.version: c.first.mean for c in found if c.task == "extraction"}
    assert by_version["v4.1"] > by_version["v4.2"]


def test_a_stage_counts_prompts_however_often_each_was_answered(tmp_path):
    run = made(tmp_path / "a", means(0.5))
    rows(run.path, dict.fromkeys(TASKS, "") | {"extraction": '{"sentiment": "positive"}'}, "v4.1")
    once = compare.stage(load_run(run.path), "once", 60)
    lines = (run.path / "eval.jsonl").read_text().splitlines()
    failed = {"sample": 1, "total": 0.0, "parts": {"parsed": 0.0}}
    again = [json.dumps(json.loads(line) | failed) for line in lines]
    (run.path / "eval.jsonl").write_text("\n".join([*lines, *again]) + "\n")
    twice = compare.stage(load_run(run.path), "twice", 60)
    assert twice.reward.n == once.reward.n == sum(r["task"] == "extraction" for r in load_split("eval"))
    assert twice.parsed.mean == once.parsed.mean / 2 == 0.5
    assert twice.reward.mean == pytest.approx(once.reward.mean / 2)


def test_a_fix_is_compared_with_the_v41_run_beside_it(tmp_path):
    texts = {task: next(r["reference"]["text"] for r in load_split("eval") if r["task"] == task) for task in TASKS}
    elsewhere = made(tmp_path / "mine" / "v4.1", means(0.5))
    beside, fixed = (made(tmp_path / "theirs" / name, means(0.5)) for name in ("v4.1", "v4.2c-push"))
    recipe = json.loads((fixed.path / "config.json").read_text())
    (fixed.path / "config.json").write_text(json.dumps(recipe | {"recipe": recipe["recipe"] | {"name": "v4.2c-push"}}))
    for run, answers in ((elsewhere, dict.fromkeys(TASKS, "")), (beside, texts), (fixed, texts)):
        rows(run.path, answers, "v4.1")

    def verdicts(v41) -> list[str | None]:
        found = compare.fix_rows(v41, {"v4.2c-push": load_run(fixed.path)})
        assert {row["recipe"] for row in found if row["run"] == "not run"} > {"v4.2c", "v4.2c-push-on-push"}
        return [row["verdict"] for row in found if row["recipe"] == "v4.2c-push"]

    assert verdicts(elsewhere) == ["no difference shown"] * 2
    shutil.rmtree(beside.path)
    assert verdicts(load_run(elsewhere.path)) == ["better"] * 2


def test_a_fix_is_held_against_v41_on_the_same_prompts(tmp_path):
    names = ("v4.1-on-push", "v4.2c-push-on-push")
    control, fixed = (made(tmp_path / name, means(0.5)) for name in names)
    texts = {task: next(r["reference"]["text"] for r in load_split("eval") if r["task"] == task) for task in TASKS}
    rows(control.path, texts | {"push": ""}, "v4.1")
    rows(fixed.path, texts, "v4.1")
    tried = {name: load_run(run.path) for name, run in zip(names, (control, fixed), strict=True)}
    assert [(c.task, c.verdict) for c in compare.beside_control(tried)] == [("push", "better")] * 2
    assert compare.beside_control({"v4.2c-push-on-push": tried["v4.2c-push-on-push"]}) == []


def test_a_run_is_held_against_its_own_start_under_both_versions(tmp_path):
    run = made(tmp_path / "a", means(0.5))
    right = {task: next(r["reference"]["text"] for r in load_split("eval") if r["task"] == task) for task in TASKS}
    rows(run.path, right, "v4.1")
    evals = run.path / "eval.jsonl"
    ends = [answer for line in evals.read_text().splitlines() if (answer := json.loads(line))["step"] == 60]
    starts = [answer | {"step": 0, "completion": "", "total": 0.0} for answer in ends]
    evals.write_text("".join(json.dumps(answer) + "\n" for answer in starts + ends))
    found = compare.start_and_end(load_run(run.path))
    assert [c.verdict for c in found if c.task == analysis.ALL] == ["better", "better"]
    assert {c.first.mean for c in found} == {0.0}


def test_a_better_answer_is_better_under_both_versions(tmp_path):
    worse, better = dict.fromkeys(TASKS, ""), {}
    for task in TASKS:
        better[task] = next(r["reference"]["text"] for r in load_split("eval") if r["task"] == task)
    runs = [made(tmp_path / "a", means(0.5)), made(tmp_path / "b", means(0.5))]
    for run, texts in zip(runs, (worse, better), strict=True):
        rows(run.path, texts, "v4.1")
    found = compare.ends(*(load_run(run.path) for run in runs))
    assert [c.verdict for c in found if c.task == analysis.ALL] == ["better", "better"]
    table = compare.table(found, "before", "after")
    assert table.loc[("push", "v4.1"), "verdict"] == "better"


def test_each_fix_changes_one_thing_about_v41():
    changed = {
        task: [change.field for change in recipes.diff(recipes.V41, recipe)]
        for task, recipe in recipes.FIXES.items()
        if recipe is not None
    }
    assert changed == {"extraction": ["version"], "insights": ["extra_pairs"], "push": ["version"]}
    assert set(recipes.FIXES) == set(TASKS)


def test_a_fix_is_tried_on_all_prompts_and_on_its_task_alone_with_v41_beside_it():
    first, control, alone = recipes.fix_trials("push")
    assert first is recipes.FIXES["push"] and recipes.fix_trials("sql_qa") == ()
    assert [change.field for change in recipes.diff(recipes.V41, control)] == ["only_task"]
    assert [change.field for change in recipes.diff(control, alone)] == ["version"]


def test_sql_qa_is_accepted_without_training_and_only_insights_gets_more_pairs(tmp_path):
    assert recipes.FIXES["sql_qa"] is None
    assert [fix.extra_pairs(recipes.FIXES[task], tmp_path) for task in ("extraction", "push")] == [None, None]
    assert not list(tmp_path.iterdir())


def test_the_insights_fix_trains_on_two_hundred_more_pairs_from_the_same_base_policy(tmp_path, commerce_db):
    profile = replace(profiles.get("smallest"), step_share=2 / 600)
    recipe = recipes.FIXES["insights"]
    extra = fix.extra_pairs(recipe, tmp_path)
    config = load_run(training.train_or_reuse(recipe, profile, tmp_path / recipe.name, seed=1, extra=extra)).config
    plain = load_run(training.train_or_reuse(recipes.V41, profile, tmp_path / "v4.1", seed=1)).config
    more = {task: config["coverage"][task]["records"] - plain["coverage"][task]["records"] for task in TASKS}
    assert more == {"extraction": 0, "sql_qa": 0, "insights": 200, "push": 0}
    assert config["base_policy"] == plain["base_policy"]
