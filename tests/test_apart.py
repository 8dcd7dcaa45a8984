"""A training in a process of its own: its record is watched from here, its result and its errors arrive here."""

import functools
import os
import time
from pathlib import Path

import pytest

from helpers import recipes, training
from helpers.core.errors import UserError
from helpers.recipes import profiles
from helpers.runs.load import load_run
from helpers.runs.record import RunRecorder
from helpers.training import apart

PROFILE = profiles.get("smallest")


def train(folder: Path) -> Path:
    """What a training leaves in its record, slowly enough to be watched."""
    recorder = RunRecorder(folder)
    for step in (0, 1, 2):
        recorder.log_event("eval", step, "mean reward 0.5")
        recorder.log_metrics(step, {"train/reward": 0.5, "pid": os.getpid()})
        time.sleep(0.2)
    return folder


def fail(folder: Path) -> Path:
    raise UserError(f"{folder.name}: already holds a run")


@pytest.fixture(autouse=True)
def _look_often(monkeypatch):
    monkeypatch.setattr(apart, "LOOK_EVERY_S", 0.1)


def test_a_training_apart_returns_its_folder_and_is_drawn_after_each_evaluation(tmp_path):
    drawn = []
    assert apart.Pending(functools.partial(train, tmp_path), tmp_path, 2).result(drawn.append) == tmp_path
    assert drawn and set(drawn) == {tmp_path}
    assert RunRecorder(tmp_path).read_metrics()[-1]["pid"] != os.getpid()


def test_a_half_written_row_is_left_for_the_next_look(tmp_path):
    train(tmp_path)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "train/rew')
    drawn = []
    watcher = apart.Watcher(tmp_path, 3, drawn.append)
    watcher.look()
    watcher.look()
    assert drawn == [tmp_path]


def test_what_a_training_apart_raises_is_raised_here(tmp_path):
    with pytest.raises(UserError, match="already holds a run"):
        apart.Pending(functools.partial(fail, tmp_path), tmp_path, 2).result()


def test_a_training_left_for_later_is_not_begun_before_its_result_is_asked_for(tmp_path):
    begun = []

    def train(on_eval=None):
        begun.append(on_eval)
        return tmp_path

    pending = apart.Pending(train, tmp_path, 2, now=False)
    assert not begun
    assert pending.result(print) == tmp_path
    assert begun == [print]


def test_a_run_trained_beside_another_is_the_run_it_would_have_been_alone(tmp_path):
    beside = training.train_beside(recipes.V41, PROFILE, tmp_path / "beside", seed=3)
    alone = training.train_grpo(training.plan_run(recipes.V41, PROFILE, tmp_path / "alone", seed=3))
    answers = [load_run(folder).evals["completion"].tolist() for folder in (beside.result(), alone)]
    assert answers[0] == answers[1]


def chatter(folder: Path) -> Path:
    """A training that talks, and is warned by the stop table."""
    print("to standard output", flush=True)
    os.system("echo from a program of its own >&2")
    recorder = RunRecorder(folder)
    recorder.log_metrics(3, {"train/reward": 0.5})
    recorder.log_event("warning", 3, "completions cut at the limit")
    return folder


def test_what_a_training_apart_prints_goes_to_its_log_and_its_warnings_are_told_here(tmp_path, capfd):
    apart.Pending(functools.partial(chatter, tmp_path / "v4.1"), tmp_path / "v4.1", 4).result()
    log = (tmp_path / "v4.1" / apart.LOG).read_text()
    assert "to standard output" in log and "from a program of its own" in log
    said = capfd.readouterr()
    assert "to standard output" not in said.out and "from a program" not in said.err
    assert said.out.count("v4.1, step 3, warning: completions cut at the limit") == 1


def test_a_call_apart_returns_the_answer_of_another_process():
    assert apart.call_apart(os.getpid) != os.getpid()
