import json
import math
from pathlib import Path

import numpy as np
import pytest

from helpers.runs.record import RunRecorder


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_each_call_appends_whole_lines(tmp_path: Path) -> None:
    recorder = RunRecorder(tmp_path / "run")
    recorder.log_metrics(1, {"train/reward": 0.4})
    recorder.log_metrics(2, {"train/reward": 0.5})
    recorder.log_eval([{"step": 0, "completion": "Olá\n"}, {"step": 0, "completion": "ção"}])
    assert [row["step"] for row in lines(tmp_path / "run/metrics.jsonl")] == [1, 2]
    assert [row["completion"] for row in lines(tmp_path / "run/eval.jsonl")] == ["Olá\n", "ção"]


def test_not_a_number_and_infinity_come_back_through_float(tmp_path: Path) -> None:
    RunRecorder(tmp_path).log_metrics(1, {"train/loss": math.nan, "train/grad_norm": np.float32("inf")})
    row = lines(tmp_path / "metrics.jsonl")[0]
    assert math.isnan(float(row["train/loss"]))
    assert float(row["train/grad_norm"]) == math.inf


def test_the_config_is_written_whole_and_can_be_replaced(tmp_path: Path) -> None:
    recorder = RunRecorder(tmp_path)
    recorder.write_config({"name": "a", "out": Path("runs/a"), "tasks": ("push",)})
    recorder.write_config({"name": "b"})
    assert json.loads((tmp_path / "config.json").read_text()) == {"name": "b"}


def test_an_event_holds_time_step_kind_message_and_its_values(tmp_path: Path) -> None:
    RunRecorder(tmp_path).log_event("stop", 40, "grad_norm above 2.0", rule="grad_norm", value=3.2)
    event = lines(tmp_path / "events.jsonl")[0]
    assert (event["step"], event["kind"], event["rule"], event["value"]) == (40, "stop", "grad_norm", 3.2)
    assert event["time"].endswith("+00:00")


def test_an_unknown_kind_of_event_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="explosion"):
        RunRecorder(tmp_path).log_event("explosion", 1, "boom")


def test_truncating_drops_what_a_resumed_run_will_write_again(tmp_path: Path) -> None:
    recorder = RunRecorder(tmp_path)
    for step in range(6):
        recorder.log_metrics(step, {"train/reward": 0.1})
        recorder.log_eval([{"step": step, "total": 0.5}])
        recorder.log_event("eval", step, "evaluated")
    recorder.truncate_after(3)
    for name in ("metrics.jsonl", "eval.jsonl", "events.jsonl"):
        assert [row["step"] for row in lines(tmp_path / name)] == [0, 1, 2, 3]


def test_a_half_line_left_by_a_killed_process_does_not_spoil_the_next_row(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2, "train/rew', encoding="utf-8")
    RunRecorder(tmp_path).log_metrics(2, {})
    assert [row["step"] for row in lines(path)] == [1, 2]
