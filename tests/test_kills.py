"""Trainings of one and of two processes: what two do as one does, and what a kill leaves of either."""

import json
import random
import shutil
import time
from pathlib import Path

import pytest
import torch
from launches import Launch, start
from safetensors.torch import load_file

from helpers.core import files, processes
from helpers.core.files import read_jsonl
from helpers.training import checkpoints

SEED = 20
KILLS = 20
MOMENTS = ("any time", "in a checkpoint", "in the final evaluation")
LAST = "checkpoint-4"
WRITTEN_BY_A_RESUME = ("start", "resume", "error")


class Whole:
    """An uninterrupted run of `count` processes, and how long its parts took: what killed ones are compared with."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.count = folder, count
        begun = time.time()
        assert Launch(folder, count=count).wait() == [0] * count, folder.with_suffix(".log").read_text()
        self.seconds = time.time() - begun
        marked = (folder / "checkpoints" / LAST / checkpoints.MARK).stat().st_mtime
        self.final_seconds = (folder / "events.jsonl").stat().st_mtime - marked


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    return Whole(tmp_path_factory.mktemp("whole") / "one", 1)


@pytest.fixture(scope="module")
def two(one, tmp_path_factory):  # one process makes the embedded policy
    return Whole(tmp_path_factory.mktemp("whole") / "two", 2)


def rows(folder, name):
    kept = [row for _, row in read_jsonl(folder / name)]
    return [{key: value for key, value in row.items() if not key.startswith("time")} for row in kept]


def seen(folder):
    """The prompts per task that were seen up to each step."""
    return [
        {key: value for key, value in row.items() if key == "step" or "prompts_seen" in key}
        for row in rows(folder, "metrics.jsonl")
        if "train/reward" in row
    ]


def what(row):
    """What a row of the record is about; rows of metrics are told apart by their keys."""
    about = {key: row[key] for key in ("step", "kind", "split", "mode", "sample", "record_id") if key in row}
    return about | {"keys": sorted(row)}


def of_chance(row):
    """Whether a row is there or not by what the completions happened to be."""
    return row.get("kind") == "warning" or row.get("message", "").startswith("best of")


def kill(folder, whole, moment, chance):
    """Start a run like `whole` and kill it at a `moment`; `chance` draws when exactly, and of two processes which."""
    which = slice(None)
    if whole.count == 2:
        which = chance.choice([slice(None), slice(0, 1), slice(1, 2)])
    delay = {
        "any time": chance.uniform(0, whole.seconds),
        "in a checkpoint": chance.uniform(0, 0.1),
        "in the final evaluation": chance.uniform(0, whole.final_seconds),
    }[moment]
    saved = folder / "checkpoints" / chance.choice(["checkpoint-2", LAST])
    begins = {
        "any time": lambda: True,
        "in a checkpoint": saved.is_dir,
        "in the final evaluation": (folder / "checkpoints" / LAST / checkpoints.MARK).is_file,
    }[moment]
    while not Launch(folder, count=whole.count).kill(begins, delay, which):
        shutil.rmtree(folder)  # this one was faster
        delay /= 2


def assert_same(folder, whole):
    """Nothing is lost, doubled or other than in the uninterrupted run."""
    assert rows(folder, "metrics.jsonl") == rows(whole.folder, "metrics.jsonl")
    assert (folder / "eval.jsonl").read_bytes() == (whole.folder / "eval.jsonl").read_bytes()
    events, expected = (
        [row for row in rows(path, "events.jsonl") if row["kind"] not in WRITTEN_BY_A_RESUME]
        for path in (folder, whole.folder)
    )
    assert events == expected
    trained, again = (load_file(path / "adapter" / "adapter_model.safetensors") for path in (whole.folder, folder))
    assert all(torch.equal(trained[name], again[name]) for name in trained)


def kill_after_the_first_checkpoint(folder, count):
    assert Launch(folder, count=count).kill((folder / "checkpoints" / "checkpoint-2" / checkpoints.MARK).is_file, 0)


def left(folder):
    """What a kill left: the checkpoints, and the last event."""
    if not (folder / "events.jsonl").is_file():
        return "no record"
    names = [
        path.name + ("" if (path / checkpoints.MARK).is_file() else " without mark")
        for path in checkpoints.numbered(folder)
    ]
    return f"{', '.join(names) or 'no checkpoint'}, last event {rows(folder, 'events.jsonl')[-1]}"


def resume(folder, count):
    codes = Launch(folder, "--resume", count=count).wait()
    assert codes == [0] * count, folder.with_suffix(".log").read_text()


def gather_before_training(folder):
    files.write_json(folder / f"{processes.rank()}.json", processes.gather([processes.rank()]))


def test_two_processes_are_connected_before_a_trainer_is_there(tmp_path):
    """They agree on what a folder holds, and a warm-up's evaluation is shared, before there is one."""
    for process in start(2, gather_before_training, tmp_path):
        process.join()
    assert [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)] == [[0, 1], [0, 1]]


def test_two_processes_see_the_prompts_that_one_sees_and_write_each_row_once(one, two):
    assert seen(two.folder) == seen(one.folder)
    assert json.loads((two.folder / "config.json").read_text())["effective_args"]["world_size"] == 2
    for name in ("metrics.jsonl", "eval.jsonl", "events.jsonl"):
        first, second = ([what(row) for row in rows(whole.folder, name) if not of_chance(row)] for whole in (one, two))
        assert first == second


def test_two_processes_answer_as_one_does_in_the_same_order(one, two):
    """With the base policy's weights: once trained, theirs differ."""
    first, second = ([row for row in rows(whole.folder, "eval.jsonl") if not row["step"]] for whole in (one, two))
    assert {row["mode"] for row in first} == {"sample", "greedy"} and first == second


def test_a_killed_training_resumes_to_the_same_bytes(one, tmp_path):
    kill(tmp_path / "run", one, "in a checkpoint", random.Random(SEED))
    resume(tmp_path / "run", 1)
    assert_same(tmp_path / "run", one)


def test_two_killed_processes_resume_as_two_or_as_one(one, two, tmp_path):
    kill_after_the_first_checkpoint(tmp_path / "run", 2)
    shutil.copytree(tmp_path / "run", tmp_path / "alone")
    resume(tmp_path / "run", 2)
    assert_same(tmp_path / "run", two)
    resume(tmp_path / "alone", 1)
    assert "saved by 2 process(es), now 1 go on" in (tmp_path / "alone.log").read_text()
    assert seen(tmp_path / "alone") == seen(one.folder)
    assert [what(row) for row in rows(tmp_path / "alone", "eval.jsonl")] == [
        what(row) for row in rows(one.folder, "eval.jsonl")
    ]


@pytest.mark.slow
def test_one_killed_process_resumes_as_two(one, tmp_path):
    kill_after_the_first_checkpoint(tmp_path / "run", 1)
    resume(tmp_path / "run", 2)
    assert "saved by 1 process(es), now 2 go on" in (tmp_path / "run.log").read_text()
    assert seen(tmp_path / "run") == seen(one.folder)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(KILLS))
def test_twenty_trainings_killed_at_random_moments_resume_to_the_same_bytes(number, request, tmp_path):
    whole = request.getfixturevalue("two" if number % 2 else "one")
    moment = MOMENTS[number // 2 % len(MOMENTS)]
    kill(tmp_path / "run", whole, moment, random.Random(SEED + number))
    print(f"kill {number}: {whole.count} process(es), {moment}, {left(tmp_path / 'run')}")
    resume(tmp_path / "run", whole.count)
    assert_same(tmp_path / "run", whole)
