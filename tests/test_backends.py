"""Backends: what is chosen and why, in which order things are imported, what each is asked for. No GPU is needed."""

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from helpers import recipes, training
from helpers.core import gpus, processes
from helpers.core.errors import UserError
from helpers.policy import backends, generation, loading, lora
from helpers.policy.model import Policy
from helpers.recipes import profiles
from helpers.runs.record import RunRecorder

ROOT = Path(__file__).resolve().parent.parent
L4, T4 = profiles.get("l4"), profiles.get("t4")
LARGE = replace(recipes.V41, name="large", num_generations=8, max_completion_length=1024, learning_rate=2e-6)
"""The handoff's 3.7B settings on V4.1's recipe."""


@pytest.fixture
def machine(monkeypatch):
    """Make this machine one with the given packages, and with a GPU or without."""

    def have(packages=(), gpu=True):
        real = importlib.util.find_spec
        known = {"unsloth", "unsloth_zoo", "vllm"}
        monkeypatch.setattr(backends, "find_spec", lambda n: (n in packages or None) if n in known else real(n))
        found = [gpus.Gpu("NVIDIA L4", 23034, 22563, "580.65.06")] if gpu else []
        monkeypatch.setattr(gpus, "find", lambda: (found, "" if gpu else "no nvidia-smi on this machine"))

    return have


def test_a_backend_says_which_package_is_missing(machine):
    machine(packages=("unsloth",))
    assert backends.missing("unsloth") == "unsloth_zoo not installed"
    assert backends.missing("vllm") == "vllm not installed"
    assert backends.missing("transformers") is None


def test_a_backend_for_gpus_is_missing_where_there_is_none(machine):
    machine(packages=("unsloth", "unsloth_zoo", "vllm"), gpu=False)
    assert backends.missing("unsloth") == backends.missing("vllm") == "no nvidia-smi on this machine"


def test_an_unknown_backend_is_refused_by_name():
    with pytest.raises(UserError, match="unknown backend 'trl'"):
        backends.missing("trl")


def test_the_profiles_backend_is_chosen_where_it_is_there(machine):
    machine(packages=("unsloth", "unsloth_zoo", "vllm"))
    assert backends.choose(L4) == ("unsloth", "backend unsloth, generating with vLLM")


def test_unsloth_without_vllm_is_still_unsloth_and_says_so(machine):
    machine(packages=("unsloth", "unsloth_zoo"))
    assert backends.choose(L4) == ("unsloth", "backend unsloth, generating with Unsloth's decoder (no vLLM)")


def test_a_fallback_is_announced_with_the_reason_for_each_that_was_passed_over(machine):
    machine()
    name, told = backends.choose(L4)
    assert name == "transformers"
    assert "not unsloth: unsloth and unsloth_zoo not installed" in told
    assert "not vllm: vllm not installed" in told


def test_a_fallback_never_goes_to_a_backend_before_the_wanted_one(machine):
    machine(packages=("unsloth", "unsloth_zoo"))
    assert backends.choose(replace(L4, backend="vllm"))[0] == "transformers"


@pytest.mark.parametrize(
    ("profile", "reason"),
    [
        (replace(profiles.get("cpu"), backend="unsloth"), "profile cpu computes on the cpu"),
        (replace(L4, embedded=profiles.get("cpu").embedded), "the embedded policy is too small"),
        (replace(L4, backend="vllm", load_in_4bit=True), "merge LoRA into 4-bit weights"),
        (replace(L4, backend="vllm", vllm_memory_share=0.0), "gives vLLM no memory"),
    ],
)
def test_a_profile_can_rule_a_backend_out_whatever_is_installed(machine, profile, reason):
    machine(packages=("unsloth", "unsloth_zoo", "vllm"))
    name, told = backends.choose(profile)
    assert name == "transformers" and reason in told


def test_a_backend_asked_for_by_name_is_refused_where_it_is_not_there(machine):
    machine()
    with pytest.raises(UserError, match="backend vllm cannot be used here: vllm not installed"):
        backends.require("vllm")


def test_sleep_mode_reaches_unsloth_through_its_environment_and_keeps_our_memory_share(machine):
    machine(packages=("unsloth", "unsloth_zoo", "vllm"))
    awake = replace(L4, sleep_mode=False)
    assert backends.environment(replace(L4, sleep_mode=True), "unsloth")["UNSLOTH_VLLM_STANDBY"] == "1"
    assert backends.environment(awake, "unsloth")["UNSLOTH_VLLM_STANDBY"] == "0"
    assert backends.environment(L4, "unsloth")["UNSLOTH_VLLM_STANDBY_UTIL_OVERRIDE"] == "1"
    assert backends.environment(L4, "vllm") == backends.environment(L4, "transformers") == {}


@pytest.mark.parametrize("recipe", [recipes.V41, LARGE], ids=lambda recipe: recipe.name)
@pytest.mark.parametrize("profile", [L4, T4], ids=lambda profile: profile.name)
def test_unsloth_loads_what_recipe_and_profile_say(machine, recipe, profile):
    machine(packages=("unsloth", "unsloth_zoo", "vllm"))
    passed = backends.unsloth_model_arguments(recipe, profile, seed=5)
    assert passed["model_name"] == recipe.model_id and passed["use_exact_model_name"]
    assert (passed["dtype"], passed["load_in_4bit"]) == (profile.dtype, profile.load_in_4bit)
    assert (passed["fast_inference"], passed["gpu_memory_utilization"]) == (True, profile.vllm_memory_share)
    assert (passed["max_lora_rank"], passed["max_seq_length"]) == (recipe.lora_r, recipe.max_seq_length)
    assert passed["random_state"] == 5


def test_unsloths_lora_is_the_same_as_pefts():
    ours, pefts = backends.unsloth_lora_arguments(recipes.V41, L4), lora.lora_config(recipes.V41)
    assert (ours["r"], ours["lora_alpha"], ours["lora_dropout"]) == (pefts.r, pefts.lora_alpha, pefts.lora_dropout)
    assert set(ours["target_modules"]) == set(pefts.target_modules)
    assert (ours["bias"], ours["use_rslora"]) == (pefts.bias, pefts.use_rslora)


@pytest.mark.parametrize("backend", ["unsloth", "vllm"])
@pytest.mark.parametrize("recipe", [recipes.V41, LARGE], ids=lambda recipe: recipe.name)
def test_vllm_gets_the_profiles_memory_and_room_for_prompt_and_completion(machine, recipe, backend):
    machine(packages=("unsloth", "unsloth_zoo", "vllm"))
    passed = training.grpo_arguments(training.Plan(recipe, L4, Path("run"), backend=backend))
    assert passed["use_vllm"] and passed["vllm_mode"] == "colocate"
    assert passed["vllm_gpu_memory_utilization"] == L4.vllm_memory_share
    assert passed["vllm_enable_sleep_mode"] == L4.sleep_mode
    assert passed["vllm_max_model_length"] == recipe.max_seq_length > recipe.max_completion_length
    assert passed["top_k"] == -1


@pytest.mark.parametrize("backend", backends.BACKENDS)
def test_learning_is_the_same_on_every_backend(machine, backend):
    machine(packages=("unsloth", "unsloth_zoo", "vllm"))
    passed = training.grpo_arguments(training.Plan(recipes.V41, L4, Path("run"), backend=backend))
    reference = training.grpo_arguments(training.Plan(recipes.V41, L4, Path("run"), backend="transformers"))
    different = {key for key in reference if passed[key] != reference[key]}
    assert different <= {"use_vllm", "top_k"}
    assert (passed["loss_type"], passed["beta"], passed["optim"]) == ("dr_grpo", 0.0, "adamw_torch")


def test_half_precision_follows_the_card():
    assert backends.trainer_arguments(recipes.V41, L4, "transformers")["bf16"]
    t4 = backends.trainer_arguments(recipes.V41, T4, "transformers")
    assert (t4["bf16"], t4["fp16"]) == (False, True)
    cpu = backends.trainer_arguments(recipes.V41, profiles.get("cpu"), "transformers")
    assert (cpu["bf16"], cpu["fp16"], cpu["use_cpu"]) == (False, False, True)


def test_the_base_is_kept_in_32_bits_where_trl_merges_lora_into_it(monkeypatch):
    loaded = []

    def load(source, profile):
        loaded.append(profile.dtype)
        return Policy(None, None, "", source)

    monkeypatch.setattr(backends, "begin", lambda *_: None)
    monkeypatch.setattr(backends, "load", load)
    for backend in ("vllm", "transformers"):
        policy = backends.load_policy(recipes.V41, L4, backend, source="folder")
        assert policy.backend == backend
    assert loaded == ["float32", "bfloat16"]


def test_trls_engine_is_made_in_32_bits_too_and_only_for_that_backend(monkeypatch):
    from trl.generation import vllm_generation

    monkeypatch.setattr(vllm_generation, "LLM", dict, raising=False)
    with backends.engine_in_32_bits("vllm"):
        assert vllm_generation.LLM(model="m") == {"model": "m", "dtype": "float32"}
    with backends.engine_in_32_bits("unsloth"):
        assert vllm_generation.LLM(model="m") == {"model": "m"}
    assert vllm_generation.LLM is dict


FAKE_UNSLOTH = """
import json, os, sys
imported = [name for name in ("trl", "transformers", "peft") if name in sys.modules]
read = {name: value for name, value in os.environ.items() if name.startswith("UNSLOTH_")}
open(os.environ["SEEN"], "w").write(json.dumps([imported, read]))
"""


def in_a_fresh_python(tmp_path, code):
    """Run `code` where `import unsloth` finds a stand-in that writes down what it meets."""
    (tmp_path / "unsloth.py").write_text(FAKE_UNSLOTH)
    paths = os.pathsep.join([str(tmp_path), str(ROOT)])
    environment = os.environ | {"PYTHONPATH": paths, "SEEN": str(tmp_path / "seen.json")}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )


TRAIN = """
from dataclasses import replace
from pathlib import Path
from helpers import recipes, training
from helpers.policy import backends, serve
from helpers.recipes import profiles
backends.choose = lambda profile: ("unsloth", "backend unsloth")
def stop(*args): raise SystemExit("loading")
backends._load_with_unsloth = stop
training.train_grpo(training.plan_run(recipes.V41, replace(profiles.get("l4"), threads=1), Path("nowhere-yet")))
"""


def test_training_sets_the_environment_then_imports_unsloth_then_the_rest(tmp_path):
    answer = in_a_fresh_python(tmp_path, TRAIN)
    assert answer.stderr.strip().endswith("loading"), answer.stderr
    imported, read = json.loads((tmp_path / "seen.json").read_text())
    assert imported == []
    assert read == backends.environment(L4, "unsloth")


def test_unsloth_after_trl_is_refused_in_one_line_that_says_what_to_do(tmp_path):
    code = (
        "import sys, types\nsys.modules['transformers'] = types.ModuleType('transformers')\n"
        "from helpers.policy import backends\nfrom helpers.recipes import profiles\n"
        "backends.set_environment(profiles.get('l4'), 'unsloth')"
    )
    answer = in_a_fresh_python(tmp_path, code)
    last = answer.stderr.strip().splitlines()[-1]
    assert "transformers imported before unsloth: restart the kernel" in last
    assert not (tmp_path / "seen.json").exists()


def test_unsloth_with_another_environment_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "unsloth", SimpleNamespace())
    for name, value in backends.environment(L4, "unsloth").items():
        monkeypatch.setenv(name, value)
    backends.set_environment(L4, "unsloth")
    monkeypatch.setenv("UNSLOTH_VLLM_STANDBY", "other")
    with pytest.raises(UserError, match="with another UNSLOTH_VLLM_STANDBY: restart the kernel"):
        backends.set_environment(L4, "unsloth")


def test_another_backend_is_refused_where_unsloth_has_rewritten_trl(monkeypatch):
    monkeypatch.setitem(sys.modules, "unsloth", SimpleNamespace())
    with pytest.raises(UserError, match="restart the kernel to train with transformers"):
        backends.set_environment(L4, "transformers")


class Engine:
    """TRL's vLLM generation as far as the sampler sees it: answers with its own settings at the time."""

    def __init__(self):
        self.max_completion_length, self.temperature, self.synced = 512, 1.0, 0

    def sync_weights(self):
        self.synced += 1

    def generate(self, prompts, images, num_generations):
        return prompts, [(self.max_completion_length, self.temperature) for _ in prompts], None, None


def test_the_engine_answers_an_evaluation_under_its_settings_and_trains_under_its_own_again():
    engine = Engine()
    trainer = SimpleNamespace(vllm_generation=engine, _last_loaded_step=0, state=SimpleNamespace(global_step=1))
    ask = backends.sampler(trainer, Policy(None, None, "", "", backend="vllm"))
    greedy = generation.Settings(limit=7, batch=2, mode="greedy")
    assert ask([[1, 2], [3]], greedy) == [[7, 0.0], [7, 0.0]]
    assert ask([[1]], replace(greedy, mode="sample")) == [[7, 1.0]]
    assert (engine.max_completion_length, engine.temperature) == (512, 1.0)
    assert engine.synced == 1, "weights go over once a step, as in training"


@pytest.fixture(scope="module")
def policy():
    fitted, _ = profiles.fit(recipes.V41, profiles.get("smallest"))
    return loading.load_base(fitted, profiles.get("smallest"))


PROMPTS = [[{"role": "user", "content": text}] for text in ("Oi", "Crie uma notificação curta", "Qual o total?")]


def test_answering_at_once_gives_the_greedy_answers_of_answering_in_rounds(policy):
    settings = generation.Settings(limit=40, batch=3, mode="greedy")
    at_once = replace(policy, sampler=lambda ids, s: generation.generate_at_once(policy, ids, s))
    assert generation.generate(at_once, PROMPTS, settings) == generation.generate(policy, PROMPTS, settings)


def test_a_samplers_tokens_are_read_up_to_their_end(policy):
    end = policy.tokenizer.eos_token_id
    oi = policy.tokenizer("Oi", add_special_tokens=False)["input_ids"]
    sampled = replace(policy, sampler=lambda ids, s: [[*oi, end, end] for _ in ids])
    (answer, *_) = generation.generate(sampled, PROMPTS, generation.Settings(limit=9, batch=3))
    assert (answer.text, answer.completion_tokens, answer.clipped) == ("Oi", len(oi) + 1, False)


def test_altered_arguments_of_a_trainer_are_a_hard_error_that_names_them(tmp_path):
    from trl import GRPOConfig

    profile = profiles.get("smallest")
    fitted, _ = profiles.fit(recipes.V41, profile)
    requested = training.grpo_arguments(training.Plan(fitted, profile, tmp_path))
    for name, altered in {"loss_type": "dapo", "beta": 0.001, "optim": "adamw_8bit", "top_k": -1}.items():
        trainer = SimpleNamespace(args=GRPOConfig(**requested))
        training.check_effective(trainer, requested, fitted)
        setattr(trainer.args, name, altered)
        with pytest.raises(RuntimeError, match=f"changed what was asked for: .*{name}"):
            training.check_effective(trainer, requested, fitted)


def test_two_processes_share_a_steps_completions(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    profile = profiles.get("smallest")
    fitted, _ = profiles.fit(recipes.V41, profile)
    passed = training.grpo_arguments(training.Plan(fitted, profile, Path("run")))
    assert passed["per_device_train_batch_size"] * passed["gradient_accumulation_steps"] * 2 == (
        fitted.completions_per_step
    )


def test_the_second_process_writes_nothing(tmp_path, monkeypatch):
    RunRecorder(tmp_path).log_event("start", 0, "first")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setenv("RANK", "1")
    second = RunRecorder(tmp_path)
    second.write_config({})
    second.log_metrics(1, {"train/reward": 1.0})
    second.log_event("end", 1, "second")
    second.truncate_after(-1)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert not processes.is_first()


@pytest.mark.slow
def test_two_processes_train_one_run_with_one_record(tmp_path):
    from helpers.runs.load import load_run
    from helpers.tasks import TASKS

    folder = tmp_path / "two"
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--rdzv-backend", "c10d"]
    command = [*launch, "--rdzv-endpoint", "localhost:0", "-m", "helpers", "train", "--recipe", "v4.1"]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    options = ["--profile", "smallest", "--out", str(folder)]
    answer = subprocess.run([*command, *options], env=environment, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr[-2000:]
    run = load_run(folder)
    assert run.warnings == []
    assert [event["kind"] for event in run.events].count("start") == 1
    last = run.metrics.iloc[-1] if "train/reward" in run.metrics else None
    assert last is not None and run.config["effective_args"]["world_size"] == 2
    seen = run.metrics[[f"train/prompts_seen/{task}" for task in TASKS]].max().sum()
    assert seen == 2 * run.max_steps
