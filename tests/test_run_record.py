import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers import recipes
from helpers.core.errors import UserError
from helpers.core.files import PROJECT_ROOT, write_json
from helpers.recipes import profiles
from helpers.runs.record import RunRecorder, identity, require_same_run, rows_so_far


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


def test_a_row_that_is_still_being_written_is_left_for_later_whatever_characters_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    assert rows_so_far(path) == []
    row = json.dumps({"message": "a\u2028b\u0085c ç"}, ensure_ascii=False).encode() + b"\n"
    path.write_bytes(row + row[: row.index("ç".encode()) + 1])
    assert rows_so_far(path) == [{"message": "a\u2028b\u0085c ç"}]


def test_a_value_added_to_the_config_leaves_the_others(tmp_path: Path) -> None:
    recorder = RunRecorder(tmp_path)
    recorder.write_config({"name": "a", "seed": 0})
    recorder.update_config({"seed": 1})
    assert json.loads((tmp_path / "config.json").read_text()) == {"name": "a", "seed": 1}


# Which run a folder holds


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    folder = tmp_path / "pairs"
    folder.mkdir()
    for split in ("train", "eval", "test"):
        (folder / f"{split}.jsonl").write_text(split)
    return folder


def recorded(tmp_path: Path, pairs: Path, extra: Path | None = None, **changes) -> Path:
    write_json(tmp_path / "run" / "config.json", identity(recipes.V41, profiles.CPU, 0, pairs, extra) | changes)
    return tmp_path / "run"


def test_pairs_added_beside_the_splits_leave_a_run_the_same(tmp_path: Path, pairs: Path) -> None:
    run = recorded(tmp_path, pairs)
    (pairs / "extra-insights.jsonl").write_text("more")
    require_same_run(run, identity(recipes.V41, profiles.CPU, 0, pairs))


@pytest.mark.parametrize("split", ["train", "eval", "test"])
def test_a_changed_split_makes_another_run(tmp_path: Path, pairs: Path, split: str) -> None:
    run = recorded(tmp_path, pairs)
    (pairs / f"{split}.jsonl").write_text("changed")
    with pytest.raises(UserError, match="another data"):
        require_same_run(run, identity(recipes.V41, profiles.CPU, 0, pairs))


def test_extra_pairs_that_are_named_like_a_split_do_not_stand_for_it(tmp_path: Path, pairs: Path) -> None:
    extra = tmp_path / "elsewhere" / "train.jsonl"
    extra.parent.mkdir()
    extra.write_text("extra")
    run = recorded(tmp_path, pairs, extra)
    require_same_run(run, identity(recipes.V41, profiles.CPU, 0, pairs, extra))
    (pairs / "train.jsonl").write_text("changed")
    with pytest.raises(UserError, match="another data"):
        require_same_run(run, identity(recipes.V41, profiles.CPU, 0, pairs, extra))


def test_other_extra_pairs_make_another_run(tmp_path: Path, pairs: Path) -> None:
    extra = tmp_path / "extra.jsonl"
    extra.write_text("extra")
    run = recorded(tmp_path, pairs, extra)
    extra.write_text("other")
    with pytest.raises(UserError, match="another data"):
        require_same_run(run, identity(recipes.V41, profiles.CPU, 0, pairs, extra))


def test_an_older_record_that_names_extra_pairs_by_their_file_is_the_same_run(tmp_path: Path, pairs: Path) -> None:
    extra = tmp_path / "extra-insights.jsonl"
    extra.write_text("extra")
    wanted = identity(recipes.V41, profiles.CPU, 0, pairs, extra)
    data = dict(wanted["data"])
    data[extra.name] = data.pop("extra")
    require_same_run(recorded(tmp_path, pairs, data=data | {"drafts.jsonl": "of another file"}), wanted)


def test_every_shipped_run_is_of_the_pairs_that_are_here() -> None:
    for config in sorted((PROJECT_ROOT / "data" / "runs").glob("*/config.json")):
        held = json.loads(config.read_text(encoding="utf-8"))["data"]
        data = identity(recipes.V41, profiles.CPU, 0, PROJECT_ROOT / "data" / "pairs")["data"]
        require_same_run(config.parent, {"data": data | ({"extra": list(held.values())[3]} if len(held) > 3 else {})})


def test_a_profile_that_is_reworded_or_priced_anew_leaves_a_run_the_same(tmp_path: Path, pairs: Path) -> None:
    run = recorded(tmp_path, pairs)
    reworded = replace(profiles.CPU, reasons="in other words", usd_per_hour=1.0)
    require_same_run(run, identity(recipes.V41, reworded, 0, pairs))
    with pytest.raises(UserError, match="another profile"):
        require_same_run(run, identity(recipes.V41, replace(reworded, micro_batch=8), 0, pairs))
