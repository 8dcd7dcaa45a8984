"""The step report: phases add up to the step, nothing else about the run changes, and old records still read."""

import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import LogitsProcessorList

from helpers import recipes, training
from helpers.core import stats
from helpers.core.errors import UserError
from helpers.core.files import PROJECT_ROOT, read_jsonl
from helpers.plots import report, steps
from helpers.policy import loading, lora
from helpers.policy.cpu import decoding, rollouts
from helpers.recipes import profiles
from helpers.runs import speed
from helpers.runs.load import SHIPPED_RUNS, load_run
from helpers.runs.record import PHASES, phase_key
from helpers.training.step_clock import PhaseClock, peak_memory_gib
from tests.synthetic_runs import Spec, means, write_run

PROFILE = profiles.get("smallest")
# Runs whose completions kept their length, beside a core that did the same throughout. V4.1's grow by a fifth and more,
# and beside other records the other core fell idle or was taken: none of that can be known from a run's first steps.
STEADY = ("cpu-v4-seed0", "cpu-v4-seed1", "cpu-v4-seed2", "cpu-v4.2b-seed1")


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "first"
    return training.train_grpo(training.plan_run(recipes.V41, PROFILE, folder, seed=3))


@pytest.fixture(scope="module")
def run(run_folder):
    return load_run(run_folder)


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    """A record as it was before there were step reports."""
    return load_run(write_run(tmp_path_factory.mktemp("old") / "old", Spec(means(0.4), means(0.6), 20)))


def step_rows(folder):
    return [row for _, row in read_jsonl(folder / "metrics.jsonl") if "train/reward" in row]


def test_the_phases_of_every_step_add_up_to_the_step(run_folder):
    rows = step_rows(run_folder)
    assert len(rows) == 4
    for row in rows:
        phases = [row[phase_key(phase)] for phase in PHASES]
        assert sum(phases) - row[phase_key("eval")] == pytest.approx(row["time/step_s"], abs=1e-3)
        assert min(phases) >= 0


def test_the_phases_that_a_cpu_run_goes_through_take_time_and_the_others_none(run_folder):
    for row in step_rows(run_folder):
        assert all(row[phase_key(phase)] > 0 for phase in ("generation", "log_probs", "backward", "optimiser"))
        assert row[phase_key("sync")] == 0
        assert (row[phase_key("eval")] > 0) == (row["step"] == 2)


def test_a_step_is_no_shorter_than_what_the_trainer_itself_measures_of_it(tmp_path):
    trainer = small_trainer(tmp_path)
    clock, measured = PhaseClock.attach(trainer), []
    inner = trainer.log

    def log(logs, start_time=None):
        inner(logs, start_time)
        if "step_time" in logs:
            measured.append((clock.take()["time/step_s"], logs["step_time"]))

    trainer.log = log
    trainer.train()
    assert measured and all(ours >= theirs - 1e-3 for ours, theirs in measured)


def test_every_step_has_its_throughput_padding_and_memory(run_folder):
    for row in step_rows(run_folder):
        tokens = row["train/completion_length"] * 8
        assert row["time/tokens_per_s"] == pytest.approx(tokens / row[phase_key("generation")], rel=0.02)
        assert 0 <= row["train/padding_waste"] < 1
        assert row["time/peak_memory_gib"] > 0.05


def test_a_resumed_run_goes_on_with_its_step_reports(run_folder, tmp_path):
    folder = tmp_path / "resumed"
    shutil.copytree(run_folder, folder)
    shutil.rmtree(folder / "checkpoints" / "checkpoint-4")
    training.train_grpo(training.plan_run(recipes.V41, PROFILE, folder, seed=3, resume=True))
    rows = step_rows(folder)
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert all(phase_key(phase) in row for row in rows for phase in PHASES)
    assert [row["train/padding_waste"] for row in rows] == [row["train/padding_waste"] for row in step_rows(run_folder)]


def test_padding_waste_is_the_share_of_padded_tokens_in_a_batch():
    clock = PhaseClock()
    clock.count_batch(
        prompt_mask=torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]]),
        completion_mask=torch.tensor([[1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1]]),
    )
    with clock.phase("generation"):
        pass
    taken = clock.take()
    assert taken["train/padding_waste"] == pytest.approx(6 / 20)
    assert "train/padding_waste" not in clock.take()


def test_a_phase_inside_another_stops_the_outer_one():
    clock = PhaseClock()
    with clock.phase("generation"), clock.phase("sync"):
        assert clock.running == ["other", "generation", "sync"]
        sum(range(200_000))
    taken = clock.take()
    assert taken[phase_key("sync")] > taken[phase_key("generation")]
    assert clock.running == ["other"]


def test_a_phase_that_fails_ends_all_the_same():
    clock = PhaseClock()
    with pytest.raises(ValueError), clock.phase("rewards"):
        raise ValueError
    assert clock.running == ["other"]


def test_unsloths_way_of_handing_lora_to_vllm_counts_as_sync(tmp_path):
    class Generation:
        def sync_weights(self):
            return "copied"

        def _unsloth_load_lora(self, name):
            return name

    trainer = small_trainer(tmp_path)
    trainer.vllm_generation = Generation()
    clock = PhaseClock.attach(trainer)
    assert trainer.vllm_generation._unsloth_load_lora("lora") == "lora"
    assert trainer.vllm_generation.sync_weights() == "copied"
    assert clock.take()[phase_key("sync")] >= 0
    assert trainer.vllm_generation.sync_weights.__wrapped__ is not None


def test_memory_never_shrinks():
    before = peak_memory_gib(on_gpu=False)
    assert 0.01 < before <= peak_memory_gib(on_gpu=False) < 1_000


def test_a_clock_of_the_cpu_reports_main_memory_on_a_machine_with_a_gpu_too(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert PhaseClock(on_gpu=False).take()["time/peak_memory_gib"] > 0.05


def small_trainer(folder, in_rounds=False):
    """A stock trainer of the smallest recipe, three steps, LoRA with B off zero so that merging does something."""
    from datasets import Dataset
    from transformers import set_seed
    from trl import GRPOConfig, GRPOTrainer

    from helpers import rewards
    from helpers.tasks.records import load_split

    recipe, _ = profiles.fit(recipes.V41, PROFILE)
    policy = loading.load_base(recipe, PROFILE)
    set_seed(5)
    requested = training.grpo_arguments(training.Plan(recipe, PROFILE, folder, seed=5))
    requested |= {"max_steps": 3, "save_strategy": "no"}
    trainer = GRPOTrainer(
        model=policy.model,
        reward_funcs=rewards.reward_functions("v4.1"),
        args=GRPOConfig(**requested),
        train_dataset=Dataset.from_list(training.training_rows(load_split("train"))),
        processing_class=policy.tokenizer,
        peft_config=lora.lora_config(recipe),
    )
    for name, weight in trainer.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.01, generator=torch.Generator().manual_seed(1))
    if in_rounds:
        rollouts.attach(trainer)
    return trainer


def train(trainer):
    """The completions that a trainer generated as it trained, its rewards, and its weights afterwards.

    Chance begins anew before and after every generation, so that what one consumes of it reaches nothing else.
    """
    found, inner = [], trainer._generate_single_turn

    def generate(*args, **kwargs):
        torch.manual_seed(len(found))
        found.append(inner(*args, **kwargs)[0])
        torch.manual_seed(len(found))
        return found[-1], None

    trainer._generate_single_turn = generate
    trainer.train()
    rewarded = [row["reward"] for row in trainer.state.log_history if "reward" in row]
    return found, rewarded, dict(trainer.model.named_parameters())


def drawing_as_ours(trainer):
    """Make a stock trainer's `generate` draw its tokens with the numbers that ours uses."""
    plain = trainer.model.generate

    def generate(input_ids, **kwargs):
        rows, width = input_ids.shape
        chance = decoding.new_chance(rows, kwargs["generation_config"].max_new_tokens)
        draw = decoding.Draw(1.0, chance, width)
        return plain(input_ids=input_ids, logits_processor=LogitsProcessorList([draw]), **kwargs)

    trainer.model.generate = generate
    return trainer


def test_rollouts_in_rounds_give_the_completions_rewards_and_weights_of_stock_ones(tmp_path):
    stock, rewarded, weights = train(drawing_as_ours(small_trainer(tmp_path / "stock")))
    merged, merged_rewarded, merged_weights = train(small_trainer(tmp_path / "merged", in_rounds=True))
    assert len(stock) == 3 and merged == stock
    assert merged_rewarded == rewarded
    for name, weight in weights.items():
        assert merged_weights[name].requires_grad == weight.requires_grad
        assert torch.equal(merged_weights[name], weight)


@pytest.mark.parametrize("cut", [{"top_p": 0.9}, {"top_k": 20}, {"repetition_penalty": 1.2}])
def test_a_trainer_that_samples_from_a_part_of_the_distribution_keeps_trls_own_generation(tmp_path, cut):
    trainer = small_trainer(tmp_path)
    for name, value in cut.items():
        setattr(trainer.generation_config, name, value)
    own = trainer._generate_single_turn
    rollouts.attach(trainer)
    assert trainer._generate_single_turn == own


def test_memory_that_a_step_frees_is_used_again_by_the_next_one():
    """Page faults of a fresh interpreter that makes and drops a 64 MB tensor 20 times, of 16,384 pages each.

    The least of three rounds, because a machine short of memory takes pages back in between.
    """
    script = (
        "import resource, torch\nfrom helpers.policy import model\nfrom helpers.recipes import profiles\n"
        "model.prepare(profiles.get('smallest'))\n"
        "def use():\n    torch.ones(16 * 2**20)\n    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "def new():\n    first = use()\n    return max(use() for _ in range(20)) - first\n"
        "print(min(new() for _ in range(3)))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 20 * 16_384 / 4


def test_the_table_shows_every_phase_and_every_number_of_a_run(run):
    table = speed.phase_table(run)
    assert set(speed.PHASE_LABELS.values()) < set(table["What"])
    assert speed.NOT_RECORDED not in set(table["Value"])
    shares = [float(share.rstrip("%")) for share in table["Share"] if share]
    assert sum(shares) == pytest.approx(100, abs=0.5)
    assert dict(zip(table["What"], table["Value"], strict=True))["Prompts seen"] == "8"


def test_a_record_without_step_reports_says_so(old):
    values = dict(zip(*(speed.phase_table(old)[column] for column in ("What", "Value")), strict=True))
    assert {values[label] for label in speed.PHASE_LABELS.values()} == {speed.NOT_RECORDED}
    assert values["Peak memory"] == speed.NOT_RECORDED
    assert values["100 steps, predicted"] == speed.NOT_RECORDED
    assert values["Prompts seen"] != speed.NOT_RECORDED


def test_a_record_without_timed_steps_cannot_predict(old):
    with pytest.raises(UserError, match="needs at least 3"):
        speed.predict(old)


@pytest.mark.parametrize("name", STEADY)
def test_the_first_steps_predict_what_a_whole_run_takes(name):
    """Its steps and the evaluations between them, on the machine that made the shipped record."""
    run = load_run(SHIPPED_RUNS / name)
    took = run.series("time/step_s").sum()
    took += sum(row.get("time/eval_s", 0.0) for row in run.history if "eval/mean_reward" in row and row["step"] > 0)
    predicted = speed.predict(run, run.max_steps)
    assert predicted.seconds.low < took < predicted.seconds.high
    assert predicted.seconds.mean == pytest.approx(took, rel=0.2)


def test_a_price_an_hour_becomes_a_cost(run):
    priced = replace(run, config=run.config | {"profile": {"usd_per_hour": 3.6}})
    predicted = speed.predict(priced, 1_000)
    assert predicted.usd is not None and predicted.usd.mean == pytest.approx(predicted.seconds.mean / 1_000)
    assert "USD" in str(predicted)
    assert speed.predict(replace(run, config={}), 1_000).usd is None


def test_the_interval_of_steps_to_come_holds_their_mean_19_times_in_20():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(2_000):
        steps_taken = rng.gamma(20, 0.1, size=120)
        found = speed.mean_of_next(steps_taken[:20], 100)
        held += found.low < steps_taken[20:].mean() < found.high
    assert 0.93 < held / 2_000 < 0.97


def test_evaluations_share_counts_whole_splits(run):
    spent = sum(row.get("time/eval_s", 0) for row in run.history)
    assert speed.evaluation_share(run) == pytest.approx(spent / (spent + run.series("time/step_s").sum()))


def test_the_figure_names_every_phase_and_draws_a_run_without_step_reports(run, old):
    figure = steps.phase_bars([run, old])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(speed.PHASE_LABELS.values())
    said = " ".join(text.get_text() for text in figure.axes[0].texts)
    assert speed.NOT_RECORDED in said and " s" in said


def test_the_report_shows_where_the_seconds_went(run, tmp_path):
    report.write_report(run, tmp_path / "page.html", examples=1)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Where a step&#39;s seconds go" in page and "Generated tokens per second" in page


def test_an_interval_of_one_second_steps_is_told_in_the_unit_that_reads_best():
    assert str(speed.Prediction(2, stats.Interval(1.5, 1.0, 2.0, 3), None)) == "2 steps: 1.5 s [1.0, 2.0]"


_SHORT_STEPS = pytest.mark.xfail(reason="a step of 25-token notifications takes 0.85 s, a whole split as long as ever")
_SHIPPED = [
    pytest.param(folder, id=folder.name, marks=[_SHORT_STEPS] if "on-push" in folder.name else [])
    for folder in sorted(SHIPPED_RUNS.glob("cpu-*"))
]


@pytest.mark.parametrize("folder", _SHIPPED)
def test_evaluation_took_at_most_15_percent_of_each_run_that_is_shipped(folder):
    assert 0 < speed.evaluation_share(load_run(folder)) <= 0.15
