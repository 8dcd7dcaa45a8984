"""A training in a process of its own: its record is watched from here, its result and its errors arrive here."""

import functools
import os
import time
from pathlib import Path

import pytest

from helpers import apart
from helpers.errors import UserError
from helpers.run_record import RunRecorder


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
    assert apart.train_apart(functools.partial(train, tmp_path), tmp_path, 2, drawn.append) == tmp_path
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
        apart.train_apart(functools.partial(fail, tmp_path), tmp_path, 2)
