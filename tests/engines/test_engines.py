"""The three backends, with their real packages, train the same policy on a CPU and agree: `make test-engines`.

Each backend runs twice in a process of its own (`engine.py`): two steps of V4.1 until SIGTERM, then resumed for the
third, the evaluations and the adapter. Engine, trainer and a plain forward pass must give the same tokens the same
log-probabilities after every hand-over of weights, and the same weights the same greedy texts.

Unsloth is here without its kernels and its rewritten trainer, which need a GPU.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import engine
import engines_table
import on_cpu
import pytest
from engine import INTERRUPTED_AFTER, SHAPE, STEPS, setting
from greedy import parts_at_a_tie

from helpers.policy import generation
from helpers.policy.loading import load_base, load_run_policy
from helpers.policy.model import Policy
from helpers.recipes import profiles
from helpers.runs.load import Run, load_run
from helpers.runs.record import split_prefix
from helpers.tasks.records import Rows, load_split

ROOT = Path(__file__).resolve().parents[2]
ENGINE = Path(__file__).with_name("engine.py")
WORK = ROOT / "runs" / "engines" / SHAPE
BACKENDS = os.environ.get("BACKENDS", " ".join(engine.BACKENDS)).split()
BOUND = 1e-5
"""Mean absolute difference of log-probabilities of the same tokens in 32 bits: 1.5e-6 and less were seen."""


@dataclass(frozen=True)
class Trained:
    """One backend's finished run, and what its two processes saw from inside."""

    backend: str
    run: Run
    seen: list[dict[str, Any]]

    @property
    def gaps(self) -> list[dict[str, float]]:
        """Of each step, mean differences of log-probabilities between engine, trainer and plain forward pass."""
        return [gap for part in self.seen for gap in part["gaps"].values()]

    def greedy(self, step: int) -> Rows:
        """The greedy answers to the eval split at `step`."""
        return self.run.answers("eval", "greedy", step=step).to_dict("records")


@pytest.fixture(scope="session")
def finished() -> Iterator[dict[str, Trained]]:
    """The runs so far, by backend; at the end their table is written, to be committed where it is whole."""
    runs: dict[str, Trained] = {}
    yield runs
    whole = len(runs) == len(engine.BACKENDS) and not os.environ.get(on_cpu.NO_HANDOVER)
    rows = [facts(trained) for trained in runs.values()]
    if rows:
        engines_table.write(ROOT / "data" / "runs" / "engines" if whole else WORK, SHAPE, rows)


@pytest.fixture(scope="session", params=BACKENDS)
def trained(request: pytest.FixtureRequest, finished: dict[str, Trained]) -> Trained:
    backend, folder = request.param, WORK / request.param
    shutil.rmtree(folder, ignore_errors=True)
    WORK.mkdir(parents=True, exist_ok=True)
    for part in ([], ["--resume"]):
        log = WORK / f"{backend}{''.join(part)}.log"
        command = [
            sys.executable,
            str(ROOT / "tests" / "engines" / "engine.py"),
            backend,
            "--folder",
            str(folder),
            *part,
        ]
        with log.open("w", encoding="utf-8") as output:
            done = subprocess.run(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, check=False)
        assert done.returncode == 0, f"{log} ends in:\n{log.read_text(encoding='utf-8')[-3000:]}"
    seen = json.loads((folder / "seen.json").read_text(encoding="utf-8"))
    finished[backend] = Trained(backend, load_run(folder), seen)
    return finished[backend]


@pytest.fixture(scope="session")
def plain_base() -> Policy:
    """The policy that all of them start from, as transformers alone loads it."""
    recipe, profile = setting("transformers")
    return load_base(recipe, profile)


def test_it_is_interrupted_resumes_from_its_checkpoint_and_ends(trained: Trained) -> None:
    steps = trained.run.series("train/reward").index.tolist()
    assert steps == list(range(1, STEPS + 1))
    happened = [(event["kind"], event["step"]) for event in trained.run.events]
    assert ("resume", INTERRUPTED_AFTER) in happened and happened[-1] == ("end", STEPS)
    assert trained.run.warnings == []


def test_every_lora_matrix_moves(trained: Trained) -> None:
    assert all(part["lora_moved"] for part in trained.seen)


def test_log_probabilities_agree_at_every_step(trained: Trained) -> None:
    assert len(trained.gaps) == STEPS
    for gap in trained.gaps:
        assert {name: mean for name, mean in gap.items() if name != "tokens" and mean > BOUND} == {}
    assert all(("engine, trainer" in gap) == (trained.backend == "vllm") for gap in trained.gaps)


def test_after_each_hand_over_the_importance_ratios_are_near_one(trained: Trained) -> None:
    if trained.backend != "vllm":
        assert "train/importance_ratio" not in trained.run.metrics
        return
    rows = trained.run.metrics.dropna(subset=["train/importance_ratio"])
    assert len(rows) == STEPS
    assert rows["train/importance_ratio_min"].min() > 0.999 and rows["train/importance_ratio_max"].max() < 1.001
    assert rows["train/logp_difference"].max() < BOUND


def test_it_starts_from_the_same_greedy_answers(trained: Trained, plain_base: Policy) -> None:
    assert_same_texts(trained.greedy(0), plain_base)


def test_the_saved_adapter_gives_the_answers_that_the_engine_gave(trained: Trained) -> None:
    assert_same_texts(trained.greedy(STEPS), load_run_policy(trained.run.path).policy)


def test_it_answers_sampled_and_greedy_before_and_after(trained: Trained) -> None:
    for mode in generation.MODES:
        column = f"{split_prefix('eval', mode)}mean_reward"
        assert trained.run.series(column).index.tolist() == [0, STEPS]


def assert_same_texts(rows: Rows, policy: Policy) -> None:
    """`rows` are what `policy` answers greedily with transformers, up to ties."""
    records = {record["id"]: record for record in load_split("eval")}
    prompts = [records[row["record_id"]]["prompt"] for row in rows]
    recipe, profile = setting("transformers")
    settings = generation.settings_for(profiles.fit(recipe, profile)[0], profile, "greedy")
    texts = [answer.text for answer in generation.generate(policy, prompts, settings)]
    assert len(rows) >= 4
    for row, prompt, text in zip(rows, prompts, texts, strict=True):
        same = row["completion"] == text or parts_at_a_tie(policy, prompt, row["completion"], text)
        assert same, f"{row['record_id']}: {row['completion']!r} is not {text!r}"


def facts(trained: Trained) -> dict[str, Any]:
    """One row of the table."""
    metrics = trained.run.metrics
    ratios = "train/importance_ratio_min" in metrics
    return {
        "backend": trained.backend,
        "import_s": sum(part["import_s"] for part in trained.seen),
        "run_s": sum(part["run_s"] for part in trained.seen),
        "step_s": float(metrics["time/step_s"].dropna().median()),
        "steps": STEPS,
        "tokens_compared": sum(int(gap["tokens"]) for gap in trained.gaps),
        "gaps": {name: max(gap[name] for gap in trained.gaps) for name in trained.gaps[0] if name != "tokens"},
        "importance_ratio": [
            float(metrics["train/importance_ratio_min"].min()),
            float(metrics["train/importance_ratio_max"].max()),
        ]
        if ratios
        else None,
        "greedy_answers": len(trained.greedy(STEPS)),
        "versions": trained.run.config["versions"],
    }
