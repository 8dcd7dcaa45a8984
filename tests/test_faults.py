"""Nothing is lost: kills, damaged files, failing rewards, numbers that are not finite, two processes, W&B, full disks.

Most tests damage a copy of one finished run, or use a stand-in for what fails.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from helpers import cli, recipes, training
from helpers.core import interrupts, locks, processes, tracking
from helpers.core.errors import RunError, UserError
from helpers.core.files import read_jsonl, write_jsonl
from helpers.recipes import profiles
from helpers.runs.record import RunRecorder
from helpers.training import Track, checkpoints, failures, guards, resume
from helpers.training.callbacks import RunRecordCallback, StopRuleCallback

ROOT = Path(__file__).resolve().parent.parent
PROFILE = profiles.get("smallest")
RECIPE, _ = profiles.fit(recipes.V41, PROFILE)
FILES = ("trainer_state.json", "adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth")
DAMAGES = {
    "emptied": lambda content: b"",
    "halved": lambda content: content[: len(content) // 2],
    "nulled": lambda content: bytes(len(content)),
    "half nulled": lambda content: content[: len(content) // 2] + bytes(len(content) - len(content) // 2),
}


@pytest.fixture
def run(tiny_run, tmp_path):
    """A copy of a finished run of four steps, with checkpoints of steps 2 and 4, to be damaged."""
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))


def rows(folder, name="metrics.jsonl"):
    kept = [row for _, row in read_jsonl(folder / name)]
    return [{key: value for key, value in row.items() if not key.startswith("time/")} for row in kept]


def kinds(folder):
    return [row["kind"] for row in rows(folder, "events.jsonl")]


def edit(folder, name, keep):
    """Keep the rows of a file of the record that `keep` says yes to."""
    write_jsonl(folder / name, [row for _, row in read_jsonl(folder / name) if keep(row)])


def kill_after_training(folder):
    """What a kill leaves that comes after the last step: no adapter, and no event that says the end."""
    shutil.rmtree(folder / "adapter")
    edit(folder, "events.jsonl", lambda row: row["kind"] != "end")


def kill_at_step_2(folder):
    """What a kill leaves that comes after step 3, when checkpoint-2 is the newest."""
    kill_after_training(folder)
    shutil.rmtree(folder / "checkpoints" / "checkpoint-4")
    for name in ("metrics.jsonl", "eval.jsonl", "events.jsonl"):
        edit(folder, name, lambda row: row["step"] <= 3)


def train(folder, *options):
    """The exit code of `helpers train` for the run that the copies are of."""
    arguments = ["train", "--recipe", "v4.1", "--profile", "smallest", "--seed", "3", "--out", str(folder)]
    return cli.main([*arguments, *options])


def damage(path, how):
    path.write_bytes(DAMAGES[how](path.read_bytes()))


# 1. Resuming


def test_a_finished_run_that_is_resumed_is_left_as_it_is(run, capsys):
    before = {path: path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}
    assert train(run, "--resume") == 0
    assert capsys.readouterr().out.splitlines() == [f"{run}: finished, nothing to do"]
    assert {path: path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()} == before


def test_a_finished_run_whose_checkpoints_were_removed_to_save_space_is_still_finished(run, capsys):
    shutil.rmtree(run / "checkpoints")
    shutil.rmtree(run / "adapter")
    assert train(run, "--resume") == 0
    assert "finished, nothing to do" in capsys.readouterr().out


@pytest.mark.parametrize("through", ["command line", "notebook"])
def test_a_kill_in_the_final_evaluation_costs_that_evaluation_and_nothing_else(through, run, tiny_run):
    kill_after_training(run)
    final = {"full/test_sample/mean_reward", "eval/mean_reward"}
    edit(run, "metrics.jsonl", lambda row: row["step"] < 4 or not final & row.keys())
    last = [row for _, row in read_jsonl(run / "eval.jsonl")]
    write_jsonl(run / "eval.jsonl", last[:-5])
    if through == "notebook":
        training.train_or_reuse(recipes.V41, PROFILE, run, seed=3)
    else:
        assert train(run, "--resume") == 0
    for name in ("metrics.jsonl", "eval.jsonl"):
        without_first = [row for row in rows(tiny_run, name) if row["step"]]
        assert [row for row in rows(run, name) if row["step"]] == without_first
    assert kinds(run).count("end") == 1 and not (run / "checkpoints" / "checkpoint-5").exists()
    trained, again = (load_file(folder / "adapter" / "adapter_model.safetensors") for folder in (tiny_run, run))
    assert all(torch.equal(trained[name], again[name]) for name in trained)


def test_a_kill_while_the_adapter_was_saved_costs_the_adapter_alone(run, tiny_run, monkeypatch):
    kill_after_training(run)
    monkeypatch.setattr("helpers.training.splits.evaluate_split", None)
    training.train_grpo(training.plan_run(recipes.V41, PROFILE, run, seed=3, resume=True))
    assert (run / "metrics.jsonl").read_bytes() == (tiny_run / "metrics.jsonl").read_bytes()
    assert (run / "eval.jsonl").read_bytes() == (tiny_run / "eval.jsonl").read_bytes()
    assert kinds(run)[-2:] == ["resume", "end"] and not checkpoints.adapter_fault(run / "adapter")


def test_a_run_that_a_stop_rule_ended_is_not_trained_on(run):
    kill_at_step_2(run)
    RunRecorder(run).log_event("stop", 2, "gradient norm 3", rule="grad_norm", value=3.0)
    assert resume.look(run, last=4) == ("evaluation", run / "checkpoints" / "checkpoint-2")


def test_a_half_written_event_does_not_keep_a_run_from_resuming(run):
    kill_after_training(run)
    with (run / "events.jsonl").open("a") as file:
        file.write('{"time": "2026-0')
    assert resume.look(run, last=4)[0] == "adapter"


@pytest.mark.parametrize("left", ["training", "evaluation"])
def test_a_kill_between_a_checkpoint_and_its_event_loses_no_event(left, run, tiny_run):
    if left == "training":
        kill_at_step_2(run)
    for name in ("metrics.jsonl", "eval.jsonl"):
        edit(run, name, lambda row: row["step"] < 4 or "train/reward" in row)
    saved = checkpoints.numbered(run)[0].name
    events = list(rows(run, "events.jsonl"))
    lost = next(place for place, row in enumerate(events) if row["message"] == saved)
    write_jsonl(run / "events.jsonl", events[:lost])
    assert train(run, "--resume") == 0
    again = [row["message"] for row in rows(run, "events.jsonl") if row["kind"] != "resume"]
    assert again == [row["message"] for row in rows(tiny_run, "events.jsonl")]


@pytest.mark.parametrize("file", [*FILES, "config.json"])
def test_a_record_is_never_emptied_while_there_are_checkpoints(file, run, capsys):
    kill_after_training(run)
    for path in [run / file, *(run / "checkpoints").glob(f"checkpoint-*/{file}")]:
        path.unlink(missing_ok=True)
    before = (run / "metrics.jsonl").read_bytes()
    assert train(run, "--resume") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert file in line
    assert (run / "metrics.jsonl").read_bytes() == before


def test_a_kill_during_the_first_checkpoint_starts_over(run):
    kill_at_step_2(run)
    edit(run, "events.jsonl", lambda row: row["kind"] != "checkpoint")
    (run / "checkpoints" / "checkpoint-2" / checkpoints.MARK).unlink()
    damage(run / "checkpoints" / "checkpoint-2" / "trainer_state.json", "halved")
    assert resume.look(run, last=4) == ("training", None)


# 2. Checkpoints


@pytest.mark.parametrize("marked", [True, False], ids=["marked", "unmarked"])
@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("file", FILES)
def test_a_damaged_checkpoint_falls_back_to_the_one_before_and_says_why(file, how, marked, run, capsys):
    newest = run / "checkpoints" / "checkpoint-4"
    if not marked:
        (newest / checkpoints.MARK).unlink()
    damage(newest / file, how)
    assert checkpoints.newest_whole(run) == run / "checkpoints" / "checkpoint-2"
    (line,) = capsys.readouterr().out.splitlines()
    assert "checkpoint-4 is damaged" in line and file in line and "resuming from checkpoint-2" in line


def test_a_whole_checkpoint_is_whole_with_and_without_its_mark(run):
    newest = run / "checkpoints" / "checkpoint-4"
    assert checkpoints.fault_of(newest) == ""
    (newest / checkpoints.MARK).unlink()
    assert checkpoints.fault_of(newest) == ""


def test_each_of_several_processes_has_its_own_random_state(run):
    newest = run / "checkpoints" / "checkpoint-4"
    shutil.copy(newest / "rng_state.pth", newest / "rng_state_1.pth")
    (newest / "rng_state.pth").rename(newest / "rng_state_0.pth")
    assert checkpoints.newest_whole(run) == newest
    damage(newest / "rng_state_1.pth", "halved")
    assert checkpoints.newest_whole(run) == run / "checkpoints" / "checkpoint-2"


def test_the_mark_is_written_when_everything_else_is_on_the_disk(run, monkeypatch):
    newest = run / "checkpoints" / "checkpoint-4"
    (newest / checkpoints.MARK).unlink()
    synced = []
    monkeypatch.setattr(checkpoints, "_sync", lambda path: synced.append((path, (newest / checkpoints.MARK).exists())))
    checkpoints.mark_whole(newest)
    before = {path.name for path, marked in synced if not marked}
    assert before == {path.name for path in newest.iterdir()} - {checkpoints.MARK} | {
        "metrics.jsonl",
        "eval.jsonl",
        "events.jsonl",
    }
    assert [path for path, marked in synced if marked][:2] == [newest / checkpoints.MARK, newest]


def test_a_save_is_marked_and_older_checkpoints_go_only_then(run, monkeypatch):
    for step in (5, 6):
        shutil.copytree(run / "checkpoints" / "checkpoint-4", run / "checkpoints" / f"checkpoint-{step}")
        (run / "checkpoints" / f"checkpoint-{step}" / checkpoints.MARK).unlink()
    (run / "checkpoints" / "checkpoint-abc").mkdir()
    plan = training.Plan(RECIPE, PROFILE, run)
    RunRecordCallback(plan, Track(RunRecorder(run))).on_save(None, SimpleNamespace(global_step=6), None)
    kept = sorted(path.name for path in (run / "checkpoints").glob("checkpoint-*"))
    assert kept == ["checkpoint-5", "checkpoint-6", "checkpoint-abc"]
    assert (run / "checkpoints" / "checkpoint-6" / checkpoints.MARK).is_file()


@pytest.mark.parametrize("name", ["checkpoint-abc", "checkpoint-", "checkpoint-4 (copy)", "checkpoint-²"])
def test_oddly_named_folders_are_nobodys_checkpoints(name, run):
    (run / "checkpoints" / name).mkdir()
    (run / "checkpoints" / "checkpoint-9").write_text("a file")
    assert checkpoints.newest_whole(run) == run / "checkpoints" / "checkpoint-4"


@pytest.mark.parametrize("content", ["", "[]", "null", "7", '{"name": "v4', "\0\0\0\0", "{}"])
def test_a_config_that_is_none_is_refused_in_one_line(content, run, capsys):
    (run / "config.json").write_text(content)
    assert train(run, "--resume") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and str(run) in line


# 3. Rewards


def test_a_step_without_any_reward_ends_the_run_with_its_error(run, monkeypatch, capsys):
    kill_at_step_2(run)

    def broken(*_):
        raise ZeroDivisionError("in the reward")

    monkeypatch.setattr("helpers.rewards.trl.score", broken)
    assert train(run, "--resume") == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "step 3" in line and "every completion failed its reward" in line and "in the reward" in line
    assert {"reward_error", "error"} <= set(kinds(run)) and "end" not in kinds(run)
    assert "in the reward" in rows(run, "events.jsonl")[-1]["message"]


def test_one_failing_task_does_not_end_a_run(tmp_path):
    nan = float("nan")
    trainer = SimpleNamespace(_calculate_rewards=lambda: torch.tensor([[nan, 0.5], [nan, nan]]), state=None)
    guards.require_rewards(trainer, Track(RunRecorder(tmp_path)))
    assert trainer._calculate_rewards().shape == (2, 2)


def test_reward_errors_are_counted_on_after_a_resume(run):
    kill_at_step_2(run)
    metrics = [row | ({"train/reward_errors": 7} if "train/reward" in row else {}) for row in rows(run)]
    write_jsonl(run / "metrics.jsonl", metrics)
    plan = training.plan_run(recipes.V41, PROFILE, run, seed=3, resume=True)
    track = training.open_record(plan, json.loads((run / "config.json").read_text()))
    track.reward_error({"error": "x"})
    assert track.reward_errors == 8


def test_reward_errors_of_every_process_reach_the_record(tmp_path, monkeypatch):
    other = {"error": "ValueError('there')", "completion": "oi"}
    first = Track(RunRecorder(tmp_path))
    monkeypatch.setenv("RANK", "1")
    second = Track(RunRecorder(tmp_path))
    second.reward_error(dict(other))
    assert second.unsent == [other] and not (tmp_path / "events.jsonl").exists()
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setattr(processes, "gather", lambda items: [*items, *second.unsent])
    first.collect_errors()
    assert first.reward_errors == 1 and rows(tmp_path, "events.jsonl")[0]["message"] == "ValueError('there')"


def test_an_error_of_any_process_reaches_the_record(run, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(RunError, match="on the second"), failures.recorded(run):
        raise ValueError("on the second process")
    assert rows(run, "events.jsonl")[-1]["message"] == "ValueError: on the second process"


def test_all_processes_stop_where_one_of_them_does(tmp_path, monkeypatch):
    track = Track(RunRecorder(tmp_path))
    track.metrics(1, {"train/grad_norm": 0.1})
    control = SimpleNamespace(should_save=False, should_training_stop=False)
    monkeypatch.setattr(processes, "gather", lambda items: [*items, True])
    callback = StopRuleCallback(training.Plan(RECIPE, PROFILE, tmp_path), track)
    callback.on_log(None, SimpleNamespace(global_step=1, max_steps=600), control)
    assert control.should_training_stop and control.should_save


# 4. Numbers that are not finite


class TrainerStandIn:
    """The parts of a trainer that the guard looks at, around one weight."""

    def __init__(self):
        self.weight = torch.nn.Parameter(torch.ones(2))
        self.weight.grad = torch.ones(2)
        self.model = SimpleNamespace(parameters=lambda: [self.weight])
        self.accelerator = SimpleNamespace(scaler=None)
        self.state = SimpleNamespace(global_step=2)
        self.loss, self.saved = 0.5, []

    def training_step(self):
        return torch.tensor(self.loss)

    def save_model(self, folder):
        self.saved.append(folder)


def guarded_step(trainer):
    guard = guards.FiniteGuard(trainer)
    trainer.training_step()
    guard.on_pre_optimizer_step(None, trainer.state, None)
    trainer.state.global_step += 1
    guard.on_step_end(None, trainer.state, None)
    trainer.save_model("checkpoint-3")


def test_a_finite_step_passes():
    trainer = TrainerStandIn()
    guarded_step(trainer)
    assert trainer.saved == ["checkpoint-3"]


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("what", ["loss", "gradient norm", "weight"])
def test_a_number_that_is_not_finite_is_named_with_its_step_and_never_saved(what, number):
    trainer = TrainerStandIn()
    if what == "loss":
        trainer.loss = float(number)
    else:
        (trainer.weight.grad if what == "gradient norm" else trainer.weight.data)[1] = float(number)
    with pytest.raises(RunError, match=f"step 3: (the|a) {what} is not finite"):
        guarded_step(trainer)
    assert trainer.saved == []


def test_weights_that_became_not_a_number_after_the_step_are_not_saved_either():
    trainer = TrainerStandIn()
    guards.FiniteGuard(trainer)
    trainer.weight.data[0] = float("nan")
    with pytest.raises(RunError, match="a weight is not finite"):
        trainer.save_model("adapter")
    assert trainer.saved == []


def test_an_error_in_sampling_from_weights_that_are_not_a_number_names_the_weights():
    trainer = TrainerStandIn()
    trainer.weight.data[0] = float("nan")
    trainer.training_step = fail
    guards.FiniteGuard(trainer)
    with pytest.raises(RunError, match="step 3: a weight is not finite"):
        trainer.training_step()


def test_a_run_whose_loss_is_not_a_number_keeps_its_last_good_checkpoint(run, monkeypatch, capsys):
    from trl import GRPOTrainer

    kill_at_step_2(run)
    compute = GRPOTrainer._compute_loss
    monkeypatch.setattr(GRPOTrainer, "_compute_loss", lambda *args: compute(*args) * float("nan"))
    assert train(run, "--resume") == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "step 3: the loss is not finite" in line
    assert [path.name for path in checkpoints.numbered(run)] == ["checkpoint-2"]
    assert checkpoints.newest_whole(run) and not (run / "adapter").exists()


def test_an_older_checkpoint_with_weights_that_are_not_finite_is_passed_over(run):
    newest = run / "checkpoints" / "checkpoint-4"
    (newest / checkpoints.MARK).unlink()
    weights = load_file(newest / "adapter_model.safetensors")
    name = sorted(weights)[0]
    save_file(weights | {name: weights[name] * float("nan")}, newest / "adapter_model.safetensors")
    assert "not finite" in checkpoints.fault_of(newest)


# 5. One training per folder

HOLDER = """
import sys, time
from pathlib import Path
from helpers.core import locks
with locks.hold(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(run):
    """Another process that holds the lock of the run's folder."""
    command = [sys.executable, "-c", HOLDER, str(run / "run.lock")]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.mark.parametrize("options", [[], ["--resume"]])
def test_a_second_training_in_a_folder_is_told_who_is_there(options, run, holder, capsys):
    kill_at_step_2(run)
    before = (run / "events.jsonl").read_bytes()
    assert train(run, *options) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"process {holder.pid} on {os.uname().nodename}" in line and "since 20" in line
    assert (run / "events.jsonl").read_bytes() == before


def test_a_killed_holder_holds_nothing(run, holder):
    with pytest.raises(UserError, match=str(holder.pid)), locks.hold(run / "run.lock"):
        pass
    holder.kill()
    holder.wait()
    with locks.hold(run / "run.lock"):
        pass


def test_a_forked_worker_does_not_keep_its_parents_lock(tmp_path):
    with locks.hold(tmp_path / "run.lock"):
        worker = os.fork()
        if worker == 0:
            time.sleep(30)
            os._exit(0)
    try:
        with locks.hold(tmp_path / "run.lock"):
            pass
    finally:
        os.kill(worker, signal.SIGKILL)
        os.waitpid(worker, 0)


def test_of_several_processes_of_one_launch_only_the_first_takes_the_lock(run, holder, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    kill_at_step_2(run)
    plan = training.plan_run(recipes.V41, PROFILE, run, seed=3, resume=True)
    with training.at_work(plan):
        pass


def test_a_plan_is_out_of_date_once_another_training_was_there(run):
    kill_at_step_2(run)
    plan = training.plan_run(recipes.V41, PROFILE, run, seed=3, resume=True)
    RunRecorder(run).log_event("resume", 2, "by another process")
    with pytest.raises(UserError, match="start again"):
        training.train_grpo(plan)


# 6. W&B

KEY = "0123456789abcdef0123456789abcdef01234567"


def hang(*_, **__):
    time.sleep(600)


def fail(*_, **__):
    raise RuntimeError(f"no luck with {os.environ.get('WANDB_API_KEY')}")


def leave(*_, **__):
    raise SystemExit(3)


@pytest.fixture
def wandb(monkeypatch):
    """A stand-in for wandb whose run works; limits of tenths of seconds."""
    logged = []
    working = SimpleNamespace(log=lambda values, step: logged.append(step), finish=lambda: logged.append("end"))
    module = ModuleType("wandb")
    module.__dict__.update(Settings=SimpleNamespace, init=lambda **_: working, run=working, logged=logged)
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    for limit in ("_CONNECT_S", "_START_S", "_LOG_S", "_FINISH_S"):
        monkeypatch.setattr(tracking, limit, 0.5)
    return module


def whole_run(folder):
    run = tracking.start("run", folder / "wandb", {})
    for step in (1, 2):
        run.log({"train/reward": 0.5}, step=step)
    run.finish()


def test_a_run_of_wandb_that_works_gets_everything(wandb, tmp_path, capsys):
    whole_run(tmp_path)
    assert wandb.logged == [1, 2, "end"] and capsys.readouterr().out == ""


@pytest.mark.parametrize("fault", [hang, fail, leave], ids=["hangs", "raises", "exits"])
@pytest.mark.parametrize("where", ["init", "log", "finish"])
def test_whatever_wandb_does_a_run_goes_on_with_one_warning(where, fault, wandb, tmp_path, capsys):
    if where == "init":
        wandb.init = fault
    else:
        setattr(wandb.run, where, fault)
    begun = time.monotonic()
    whole_run(tmp_path)
    assert time.monotonic() - begun < 5
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("W&B: ") and KEY not in line


def test_a_wandb_that_cannot_be_imported_is_one_warning(wandb, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb", None)
    whole_run(tmp_path)
    (line,) = capsys.readouterr().out.splitlines()
    assert "goes on without W&B" in line


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"WANDB_MODE": "bogus"}, "WANDB_MODE=bogus"),
        ({"WANDB_MODE": "online", "WANDB_API_KEY": "short"}, "not a key"),
        ({"WANDB_MODE": "online", "WANDB_BASE_URL": "http://127.0.0.1:9"}, "cannot be reached"),
        ({"WANDB_MODE": "online", "WANDB_BASE_URL": "http://no-such-host.invalid"}, "cannot be reached"),
    ],
)
def test_a_wrong_mode_a_malformed_key_and_no_network_keep_the_run_offline(
    environment, reason, wandb, tmp_path, monkeypatch, capsys
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    modes = []
    wandb.init = lambda mode, **_: modes.append(mode) or wandb.run
    whole_run(tmp_path)
    assert modes == ["offline"] and wandb.logged == [1, 2, "end"]
    (line,) = capsys.readouterr().out.splitlines()
    assert reason in line


def test_the_real_wandb_leaves_no_key_in_any_file_and_asks_for_none(run):
    program = (
        "import sys; from pathlib import Path; from helpers.core import tracking\n"
        "run = tracking.start('run', Path(sys.argv[1]) / 'wandb', {'seed': 3})\n"
        "run.log({'train/reward': 0.5}, step=1); run.finish()"
    )
    environment = os.environ | {"WANDB_MODE": "online", "WANDB_API_KEY": KEY, "WANDB_BASE_URL": "http://127.0.0.1:9"}
    command = [sys.executable, "-c", program, str(run)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0 and "offline" in done.stdout, done.stderr
    assert list(run.glob("wandb/*"))
    assert not [path for path in run.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]


def test_an_error_that_quotes_a_key_is_recorded_without_it(run, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with pytest.raises(RunError) as caught, failures.recorded(run):
        fail()
    assert KEY not in str(caught.value) and KEY not in (run / "events.jsonl").read_text()


# 7. Signals and full disks


def in_any_order(metrics):
    return sorted(json.dumps(row, sort_keys=True) for row in metrics)


def at_step(monkeypatch, step, act):
    """Call `act` as step `step` of a training ends."""
    inner = RunRecordCallback.on_step_end

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == step:
            act()
        return inner(self, args, state, control, **kwargs)

    monkeypatch.setattr(RunRecordCallback, "on_step_end", on_step_end)


def test_sigterm_writes_a_checkpoint_and_the_resumed_run_is_the_uninterrupted_one(run, tiny_run, monkeypatch, capsys):
    kill_at_step_2(run)
    with monkeypatch.context() as patch:
        at_step(patch, 3, lambda: os.kill(os.getpid(), signal.SIGTERM))
        assert train(run, "--resume") == 143
    assert f"--out {run} --resume" in capsys.readouterr().err.splitlines()[-1]
    assert checkpoints.newest_whole(run) == run / "checkpoints" / "checkpoint-3"
    assert kinds(run)[-1] == "interrupt"
    assert train(run, "--resume") == 0
    assert rows(run) == rows(tiny_run) and rows(run, "eval.jsonl") == rows(tiny_run, "eval.jsonl")


def test_sigterm_before_an_evaluation_that_is_due_leaves_it_to_the_resumed_run(tmp_path, tiny_run, monkeypatch):
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        at_step(patch, 2, lambda: os.kill(os.getpid(), signal.SIGTERM))
        assert train(run) == 143
    assert checkpoints.newest_whole(run) == run / "checkpoints" / "checkpoint-2"
    assert {row["step"] for row in rows(run, "eval.jsonl")} == {0}
    assert train(run, "--resume") == 0
    assert rows(run, "eval.jsonl") == rows(tiny_run, "eval.jsonl")
    assert in_any_order(rows(run)) == in_any_order(rows(tiny_run))  # step 2's own row came before its evaluation


def signalled(monkeypatch, number):
    """The exit code of a training that gets a signal before its first step."""
    monkeypatch.setattr("helpers.cli.train._train", lambda _: os.kill(os.getpid(), number) or time.sleep(5))
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job starts with it switched off
    try:
        return train("runs/x")
    finally:
        signal.signal(signal.SIGINT, previous)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_run_with_its_code_and_the_command_that_goes_on(number, code, monkeypatch, capsys):
    assert signalled(monkeypatch, number) == code
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("python -m helpers train --recipe v4.1 --profile smallest")
    assert last.endswith("--seed 3 --out runs/x --resume")


def test_a_step_that_does_not_end_in_time_is_given_up(monkeypatch):
    monkeypatch.setattr(interrupts, "GRACE_S", 1)
    with pytest.raises(interrupts.Interrupted), interrupts.handled():
        interrupts.training_begins()
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupts.requested_anywhere  # the signal itself ends nothing
        time.sleep(5)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        RuntimeError("[enforce fail at inline_container.cc:672] . PytorchStreamWriter failed\nframe #0: 0x7f"),
        SafetensorError('I/O error: No space left on device (os error 28)"'),
        torch.OutOfMemoryError("CUDA out of memory"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_full_disk_ends_a_run_in_one_line(error, run, monkeypatch, capsys):
    kill_at_step_2(run)

    def full(*_, **__):
        raise error

    monkeypatch.setattr("helpers.training.run.start_policy", full)
    assert train(run, "--resume") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {run}: ") and type(error).__name__ in line
    assert kinds(run)[-1] == "error"


def test_a_disk_too_full_for_the_error_itself_is_still_one_line(run, monkeypatch):
    monkeypatch.setattr(RunRecorder, "log_event", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(RunError, match="No space left"), failures.recorded(run):
        raise OSError(28, "No space left")


# 8. What a user types


@pytest.mark.parametrize("seed", ["-1", "99999999999999999999", "4294967296", "1.5", ""])
def test_a_seed_that_is_none_is_refused_in_one_line(seed, tmp_path, capsys):
    assert cli.main(["train", "--profile", "smallest", f"--seed={seed}", "--out", str(tmp_path / "run")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "seed" in line and not (tmp_path / "run").exists()


# The page


def test_the_page_on_reliability_names_tests_that_exist_and_leaves_none_out():
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_\w+)`", page))
    kills = (ROOT / "tests" / "test_kills.py").read_text(encoding="utf-8")
    here = {name for name in globals() if name.startswith("test_")} - {PAGE_TEST}
    assert named == here | set(re.findall(r"^def (test_\w+)", kills, re.MULTILINE))


PAGE_TEST = "test_the_page_on_reliability_names_tests_that_exist_and_leaves_none_out"
