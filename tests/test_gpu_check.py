"""The GPU check runs end to end on the CPU with the smallest shapes; what it makes and writes is what it says."""

import json
import os
import subprocess
import sys
import zipfile
from argparse import Namespace
from pathlib import Path

import pytest
import torch

from helpers import recipes
from helpers.core.errors import UserError
from helpers.policy import embedded
from helpers.recipes import memory
from helpers.tasks.records import load_split

FOLDER = Path(__file__).resolve().parent / "gpu"
sys.path.insert(0, str(FOLDER))

import gpu_check  # noqa: E402
import gpu_report as report  # noqa: E402
import random_policy  # noqa: E402


def run_script(*arguments, **environment):
    command = [sys.executable, str(FOLDER / "gpu_check.py"), *map(str, arguments)]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """One call with four sections, then one with a fifth."""
    folder = tmp_path_factory.mktemp("gpu")
    places = ("--tiny", "--out", folder / "out", "--work", folder / "work", "--steps", "2", "--sections")
    first = run_script(*places, "preflight", "unsloth", "trl", "learn")
    assert first.returncode == 0, first.stdout + first.stderr
    second = run_script(*places, "trl-vllm")
    assert second.returncode == 1, "a call in which nothing ran is no success"
    return folder / "out"


@pytest.fixture(scope="module")
def results(out):
    return json.loads((out / "gpu-check.json").read_text())["tiny"]


def test_without_a_gpu_it_says_so_in_one_line():
    done = run_script("--sections", "trl", PATH="/nowhere")
    assert done.returncode == 2 and done.stdout == ""
    assert (
        done.stderr == "error: no NVIDIA GPU: no nvidia-smi on this machine; --tiny tries the script out on the CPU\n"
    )


def test_a_backend_is_measured_by_its_step_reports(results, out):
    trl = results["trl"]
    assert (trl["state"], trl["steps"], trl["prompts_per_step"], trl["num_generations"]) == ("ran", 2, 2, 4)
    assert sum(trl["phases"].values()) == pytest.approx(trl["step_s"], rel=0.01)
    assert trl["tokens_per_s"] > 0 and trl["peak_gib"] > 0 and 0 <= trl["padding_waste"] < 1
    assert {"torch", "trl", "transformers"} <= set(trl["versions"])
    assert (out / "tiny-trl" / "metrics.jsonl").is_file()
    assert {check["name"]: check["state"] for check in trl["checks"]} == {"LoRA": "ok", "Log-probs": "ok"}


def test_preflight_checks_the_same_policy(results):
    states = {check["name"]: check["state"] for check in results["preflight"]["checks"]}
    assert states["Template"] == states["Log-probs"] == "ok"
    assert results["preflight"]["policy"]["vocabulary"] == 768


def test_a_backend_that_is_not_there_is_listed_with_the_reason_beside_what_ran(results, out):
    for name, package in (("unsloth", "unsloth"), ("trl-vllm", "vllm")):
        assert results[name]["state"] == "not run" and f"{package} " in results[name]["reason"]
    written = (out / "gpu-check.md").read_text()
    assert "- unsloth: not run" in written and "- trl-vllm: not run" in written
    assert f"| {report.BACKENDS['trl']} | 2 |" in written


def test_the_learning_run_leaves_its_record_its_gain_and_its_curve(results, out):
    assert set(results["learn"]["gains"]) > {"all", "push"}
    assert (out / report.CURVE).read_bytes().startswith(b"\x89PNG")
    config = json.loads((out / "tiny-learn" / "config.json").read_text())
    assert config["command"] == 'make gpu-check SECTIONS="learn"'


def test_what_is_committed_names_no_path_of_this_machine(out):
    shipped = [path for path in out.rglob("*") if path.suffix in (".json", ".md", ".jsonl")]
    assert shipped and not [path for path in shipped if str(gpu_check.ROOT) in path.read_text()]


@pytest.mark.parametrize(("name", "parameters"), [(recipes.HUB_05B, 490_799_104), (recipes.HUB_37B, 3_759_341_056)])
def test_the_random_policy_has_the_hub_models_size(name, parameters):
    shape = memory.SHAPES[name]
    with torch.device("meta"):
        model = embedded.new_model(random_policy.settings_of(shape), TokensOf(shape.vocabulary))
    assert model.num_parameters() == parameters == shape.parameters()


class TokensOf:
    """A tokenizer as far as a model's configuration asks."""

    pad_token_id, bos_token_id, eos_token_id = 0, 1, 2

    def __init__(self, size):
        self.size = size

    def __len__(self):
        return self.size


def test_the_tokenizer_is_padded_to_the_size_asked_for_and_still_reads_our_texts():
    tokenizer, learned = random_policy.padded_tokenizer(49_152)
    assert learned < 49_152 == len(tokenizer)
    text = load_split("eval")[0]["reference"]["text"]
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert max(ids) < learned and tokenizer.decode(ids) == text
    assert tokenizer.decode([learned, 49_151]) == f"<|reserved_{learned}|><|reserved_49151|>"


def backend(step, generation, backward, peak):
    phases = {"generation": generation, "backward": backward, "rewards": step - generation - backward}
    return {"state": "ran", "step_s": step, "phases": phases, "peak_gib": peak}


def test_ratios_compare_unsloth_with_trl_under_the_same_generation_alone():
    results = {
        "unsloth-vllm": backend(6.0, 3.0, 2.0, 12.0),
        "trl-vllm": {"state": "not run", "reason": "vllm not installed"},
        "unsloth": backend(9.0, 6.0, 2.0, 10.0),
        "trl": backend(12.0, 6.0, 4.0, 20.0),
    }
    (found,) = report.ratios(results)
    assert found == {"unsloth": "unsloth", "trl": "trl", "step": 0.75, "training": 0.5, "peak": 0.5}


def test_the_engine_against_the_trainer_is_told_where_it_was_recorded():
    ratios = {"train/importance_ratio_min": [0.9998, 1.0], "train/importance_ratio_max": [1.0, 1.1]}
    line = report._sampling("trl-vllm", {"train/logp_difference": [1e-6, 2e-6]} | ratios)
    assert "at most 2e-06 per token" in line and "from 0.9998 to 1.1000" in line


def test_a_step_without_a_known_price_has_no_cost():
    assert report.usd_per_1000_steps(18.0, 0.0) is None


def arguments(tmp_path, **changed):
    return Namespace(**{"out": tmp_path / "out", "work": tmp_path / "work", "steps": 1} | changed)


def test_a_section_that_dies_is_listed_with_the_last_line_it_said(tmp_path, monkeypatch):
    def dies(command, environment, log, seconds):
        log.write_text("loading\nImportError: cannot import name 'x' from 'triton'\n\n")
        return 1

    monkeypatch.setattr(gpu_check, "run_until", dies)
    found = gpu_check.run_section("unsloth", "tiny", arguments(tmp_path), {}, left=100.0, share=50.0)
    assert found == {"state": "not run", "reason": "ImportError: cannot import name 'x' from 'triton'"}


def test_a_section_that_outlasts_the_call_is_ended_and_listed(tmp_path):
    log = tmp_path / "log"
    assert gpu_check.run_until([sys.executable, "-c", "import time; time.sleep(600)"], {}, log, 0.5) is None


def test_no_section_is_begun_when_the_time_is_over(tmp_path):
    found = gpu_check.run_section("trl", "tiny", arguments(tmp_path), {}, left=1.0, share=1.0)
    assert found["state"] == "not run" and "no time was left" in found["reason"]


def test_a_result_of_an_earlier_call_stays_and_the_same_section_is_replaced(tmp_path):
    for section, reason in (("trl", "old"), ("unsloth", "kept"), ("trl", "new")):
        gpu_check.save(tmp_path, "0.5B", {"state": "not run", "reason": reason}, section)
    written = (tmp_path / "gpu-check.md").read_text()
    assert "trl: not run, new" in written and "unsloth: not run, kept" in written and "old" not in written


def test_a_folder_of_wheels_is_put_first_on_the_path_of_every_section(tmp_path):
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "carried-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("carried.py", "HERE = True\n")
        wheel.writestr("carried-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: carried\nVersion: 1.0\n")
        wheel.writestr("carried-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("carried-1.0.dist-info/RECORD", "")
    environment = gpu_check.environment_of(gpu_check.install(wheels, tmp_path / "site"))
    done = subprocess.run([sys.executable, "-c", "import carried, helpers"], env=environment, check=False)
    assert done.returncode == 0


def test_an_empty_folder_of_wheels_is_refused_in_one_line(tmp_path):
    with pytest.raises(UserError, match="holds no wheel"):
        gpu_check.install(tmp_path, tmp_path / "site")


def test_make_passes_its_variables_on():
    wanted = ["make", "-n", "gpu-check", "SECTIONS=trl learn", "LARGE=1", "WHEELS=.whl", "OUT=there"]
    told = subprocess.run(wanted, cwd=gpu_check.ROOT, capture_output=True, text=True, check=True).stdout
    assert "tests/gpu/gpu_check.py --sections trl learn --large --wheels .whl --out there" in told
