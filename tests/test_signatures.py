"""Every argument that we pass to TRL, peft, transformers and Unsloth exists in the pinned versions of every set.

peft and transformers are the same in all sets, and checked as installed. TRL and Unsloth are read as text: TRL as it is
installed, and the older one of the CUDA 12 set from its wheel. The wheels are fetched once (32 MB) into .venv.
"""

import ast
import dataclasses
import functools
import inspect
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import vllm_arguments

from helpers import recipes, training
from helpers.core.setup import read_pins
from helpers.policy import backends, lora, sft
from helpers.recipes import profiles

ROOT = Path(__file__).resolve().parent.parent
WHEELS = ROOT / ".venv" / "wheels-read-by-tests"
PINS = read_pins(ROOT / "requirements-cuda13.txt")
OLDER_PINS = read_pins(ROOT / "requirements-cuda12.txt")

CASES = [(profile, backend) for profile in profiles.PROFILES.values() for backend in backends.BACKENDS]
each_case = pytest.mark.parametrize(("profile", "backend"), CASES, ids=lambda value: getattr(value, "name", value))


def parameters(function: Any) -> set[str]:
    return set(inspect.signature(function).parameters)


def calls(name: str) -> Iterator[tuple[str, str]]:
    """Where helpers/ calls `name` (the last part of a dotted name counts), and each keyword it passes."""
    for path in sorted((ROOT / "helpers").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(name):
                yield from ((f"{path.name}:{node.lineno}", keyword.arg) for keyword in node.keywords if keyword.arg)


def assert_accepted(name: str, accepted: set[str]) -> None:
    passed = list(calls(name))
    assert passed, f"helpers/ no longer calls {name}: this test checks nothing"
    assert [where for where, keyword in passed if keyword not in accepted] == []


@pytest.fixture(scope="module", params=[PINS, OLDER_PINS], ids=["the CPU and CUDA 13 sets", "the CUDA 12 set"])
def pins(request: pytest.FixtureRequest) -> dict[str, str]:
    return request.param


@pytest.fixture(scope="module")
def trl(pins: dict[str, str]) -> dict[str, str]:
    """Every Python file of a set's TRL: its text by its path."""
    if pins["trl"] != metadata.version("trl"):
        return sources("trl", pins["trl"])
    folder = Path(str(metadata.distribution("trl").locate_file("")))
    return {str(path.relative_to(folder)): path.read_text(encoding="utf-8") for path in folder.glob("trl/**/*.py")}


def test_every_name_that_is_imported_from_trl_is_there(trl: dict[str, str]) -> None:
    imported = set(trl_imports())
    assert ("trl.trainer.utils", "selective_log_softmax") in imported
    assert sorted(".".join(pair) for pair in imported if not has(trl, *pair)) == []


def trl_imports() -> Iterator[tuple[str, str]]:
    """Each module of TRL that helpers/ imports from, and each name."""
    for path in (ROOT / "helpers").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "trl":
                yield from ((node.module or "", name.name) for name in node.names)


def has(trl: dict[str, str], module: str, name: str) -> bool:
    """Whether a module of TRL has a name: a submodule, or a word of its source that is not part of another."""
    path = module.replace(".", "/")
    text = trl.get(f"{path}.py") or trl.get(f"{path}/__init__.py", "")
    return f"{path}/{name}.py" in trl or re.search(rf"\b{name}\b", text) is not None


def fields(trl: dict[str, str], name: str, file: str) -> set[str]:
    """The fields of TRL's configuration `name`, and of what it inherits from."""
    from transformers import TrainingArguments

    bases = [(name, file), ("_BaseConfig", "trl/trainer/base_config.py")]
    bodies = [node for owner, source in bases for node in class_of(trl[source], owner).body]
    own = {node.target.id for node in bodies if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)}
    return own | {field.name for field in dataclasses.fields(TrainingArguments)}


@each_case
def test_grpo_config_has_every_argument_of_every_profile_and_backend(trl, profile, backend):
    recipe, _ = profiles.fit(recipes.V41, profile)
    passed = training.grpo_arguments(training.Plan(recipe, profile, Path("run"), backend=backend))
    assert set(passed) <= fields(trl, "GRPOConfig", "trl/trainer/grpo_config.py")


def test_sft_config_has_every_argument(trl):
    passed = sft.sft_arguments(Path("run"), 1.0, 8, 1e-4, 512, 0, profiles.get("l4"))
    assert set(passed) <= fields(trl, "SFTConfig", "trl/trainer/sft_config.py")


@pytest.mark.parametrize("name", ["GRPOTrainer", "SFTTrainer"])
def test_the_trainers_accept_every_keyword_of_our_calls(trl, name):
    file = f"trl/trainer/{name.removesuffix('Trainer').lower()}_trainer.py"
    assert_accepted(name, named_arguments(method(trl[file], name, "__init__")))


def test_peft_accepts_every_keyword_of_our_calls():
    from peft import LoraConfig, PeftModel, get_peft_model

    assert_accepted("LoraConfig", parameters(LoraConfig))
    assert {"model", "model_id"} <= parameters(PeftModel.from_pretrained)
    assert {"model", "peft_config"} <= parameters(get_peft_model)
    lora.lora_config(recipes.V41)


def test_transformers_has_the_4_bit_settings_that_we_pass():
    from transformers import BitsAndBytesConfig

    assert_accepted("BitsAndBytesConfig", parameters(BitsAndBytesConfig))


def test_trls_vllm_generation_is_what_the_engine_sampler_drives(trl):
    source = trl["trl/generation/vllm_generation.py"]
    made, generate = (method(source, "VLLMGeneration", name) for name in ("__init__", "generate"))
    settings = {"max_completion_length", "temperature", "top_p", "top_k", "repetition_penalty"}
    assert settings <= named_arguments(made)
    assert {"prompts", "images", "num_generations"} <= named_arguments(generate)
    assert method(source, "VLLMGeneration", "sync_weights")
    returned = [node for node in ast.walk(generate) if isinstance(node, ast.Return)]
    assert [len(node.value.elts) for node in returned] == [4]
    trainer = trl["trl/trainer/grpo_trainer.py"]
    assert "self._last_loaded_step = self.state.global_step" in trainer
    assert "self.vllm_generation = VLLMGeneration(" in trainer


def test_trl_names_no_dtype_for_its_engine_and_a_seed_that_every_run_would_share(trl):
    start = method(trl["trl/generation/vllm_generation.py"], "VLLMGeneration", "_init_vllm")
    made = [node for node in ast.walk(start) if isinstance(node, ast.Call) and ast.unparse(node.func) == "LLM"]
    assert len(made) == 1
    keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in made[0].keywords}
    assert "dtype" not in keywords
    assert keywords["seed"] == "accelerator.process_index // self.tensor_parallel_size"


def test_trl_logs_every_metric_that_the_record_takes_from_it(trl):
    from helpers.training.callbacks import _RENAMED

    source = trl["trl/trainer/grpo_trainer.py"]
    own = [name for name in _RENAMED if name.startswith(("sampling/", "clip_ratio/", "completions/"))]
    assert own and not [name for name in own if f'"{name}"' not in source]


def test_the_vllm_of_each_set_is_one_that_its_trl_drives(pins, trl):
    supported = r'Version\("([\d.]+)"\) <= _vllm_base_version <= Version\("([\d.]+)"\)'
    ((low, high),) = re.findall(supported, trl["trl/import_utils.py"])
    assert numbers(low) <= numbers(pins["vllm"]) <= numbers(high)


def test_vllm_takes_every_argument_of_our_calls_and_of_trls(pins, trl):
    known = vllm_arguments.snapshot(pins["vllm"])
    options = {name.removeprefix("--").replace("-", "_") for name in known["arguments"]}
    start = method(trl["trl/generation/vllm_generation.py"], "VLLMGeneration", "_init_vllm")
    assert keywords_of(start, "LLM") | {"dtype", "seed"} <= {*known["LLM"]["__init__"], *options}
    ours = ast.parse(inspect.getsource(backends._ask_unsloth))
    assert keywords_of(ours, "SamplingParams") <= set(known["SamplingParams"])
    for name in ("generate", "sleep", "wake_up"):
        assert keywords_of(ours, f"engine.{name}") <= set(known["LLM"][name])


def keywords_of(function: ast.AST, called: str) -> set[str]:
    """The keywords that a function passes in its calls of `called`."""
    made = [node for node in ast.walk(function) if isinstance(node, ast.Call) and ast.unparse(node.func) == called]
    assert made, f"{called} is no longer called: this test checks nothing"
    return {keyword.arg for call in made for keyword in call.keywords if keyword.arg}


def numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


@pytest.fixture(scope="session")
def unsloth() -> dict[str, str]:
    """Every Python file of the pinned unsloth and unsloth_zoo wheels: its text by its path in the wheel."""
    return sources("unsloth", PINS["unsloth"]) | sources("unsloth_zoo", PINS["unsloth_zoo"])


def sources(package: str, version: str) -> dict[str, str]:
    """Every Python file of a wheel: its text by its path."""
    with zipfile.ZipFile(wheel(package, version)) as archive:
        names = [name for name in archive.namelist() if name.startswith(f"{package}/") and name.endswith(".py")]
        return {name: archive.read(name).decode("utf-8") for name in names}


def wheel(package: str, version: str) -> Path:
    """The wheel of exactly that version, fetched where it is not there; skips where the index does not answer."""
    pattern = f"{package}-{version}-*.whl"
    if not any(WHEELS.glob(pattern)):
        pip = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps", "--no-input"]
        options = ["--only-binary=:all:", "--retries=1", "--timeout=15", f"--dest={WHEELS}"]
        command = [*pip, *options, f"{package}=={version}"]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        if not any(WHEELS.glob(pattern)):
            reason = (answer.stderr.strip().splitlines() or ["pip said nothing"])[-1]
            if "No matching distribution" in reason and "from versions: none" not in answer.stderr:
                pytest.fail(f"the index has no {package}=={version}: {reason}")
            pytest.skip(f"the package index does not give {package}=={version}: {reason}")
    return next(WHEELS.glob(pattern))


@functools.cache
def class_of(source: str, name: str) -> ast.ClassDef:
    (found,) = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == name]
    return found


def method(source: str, owner: str, name: str) -> ast.FunctionDef:
    body = class_of(source, owner).body
    (found,) = [node for node in body if isinstance(node, ast.FunctionDef) and node.name == name]
    return found


def named_arguments(function: ast.FunctionDef) -> set[str]:
    arguments = function.args
    return {argument.arg for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}


@pytest.mark.parametrize("profile", ["l4", "t4"])
def test_unsloth_loads_with_every_argument_that_we_pass(unsloth, profile):
    passed = backends.unsloth_model_arguments(recipes.V41, profiles.get(profile))
    accepted = named_arguments(method(unsloth["unsloth/models/loader.py"], "FastLanguageModel", "from_pretrained"))
    assert set(passed) <= accepted


def test_unsloth_puts_lora_on_with_every_argument_that_we_pass(unsloth):
    passed = backends.unsloth_lora_arguments(recipes.V41, profiles.get("l4"))
    accepted = named_arguments(method(unsloth["unsloth/models/llama.py"], "FastLlamaModel", "get_peft_model"))
    assert set(passed) <= accepted


def test_unsloth_reads_every_environment_variable_that_we_set(unsloth):
    ours = set(backends.environment(profiles.get("l4"), "unsloth"))
    naming = [text for text in unsloth.values() if any(name in text for name in ours)]
    assert ours <= set().union(*map(environment_reads, naming))


def environment_reads(text: str) -> set[str]:
    """The variables that a source asks for: `os.environ.get(X)`, `os.getenv(X)` or `X in os.environ`."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("os.environ.get", "os.getenv"):
            found.add(getattr(node.args[0], "value", None))
        if isinstance(node, ast.Compare) and ast.unparse(node.comparators[0]) == "os.environ":
            found.add(getattr(node.left, "value", None))
    return found


def test_unsloth_warns_about_the_very_modules_that_we_refuse_before_it(unsloth):
    lists = [
        ast.literal_eval(node.value)
        for node in ast.walk(ast.parse(unsloth["unsloth/_gpu_init.py"]))
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "critical_modules"
    ]
    assert {name for names in lists for name in names} == set(backends._PATCHED_BY_UNSLOTH)


HARMLESS = {
    "per_device_eval_batch_size": "the trainer evaluates nothing: our callback does",
    "eval_accumulation_steps": "the trainer evaluates nothing: our callback does",
    "generation_kwargs": "an empty dict instead of None",
    "include_tokens_per_second": "off in both",
    "include_num_input_tokens_seen": "off in both",
    "router_aux_loss_coef": "for mixtures of experts only",
}


def test_we_state_every_grpo_argument_whose_default_unsloth_changes(unsloth):
    from trl import GRPOConfig

    changed = set()
    for node in ast.walk(ast.parse(unsloth["unsloth/models/rl.py"])):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "replacements":
            changed |= {key.value for key in node.value.keys}
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).startswith("replacements["):
            changed.add(node.targets[0].slice.value)
    assert {"loss_type", "beta", "optim", "warmup_steps", "vllm_importance_sampling_correction"} <= changed
    profile = profiles.get("l4")
    stated = set(training.grpo_arguments(training.Plan(recipes.V41, profile, Path("run"), backend="unsloth")))
    if not backends.with_vllm(profile, "unsloth"):
        stated |= set(backends.trainer_arguments(recipes.V41, profile, "vllm"))
    relevant = changed & {field.name for field in dataclasses.fields(GRPOConfig)}
    assert relevant - stated - set(HARMLESS) == set()


def test_unsloth_gives_a_lora_model_the_engine_and_the_loader_that_the_sampler_uses(unsloth):
    given = unsloth["unsloth/models/_utils.py"]
    assert "model.vllm_engine = model.model.vllm_engine" in given
    assert "model.load_lora = functools.partial(load_lora, model)" in given
    (loader,) = [
        node
        for node in ast.parse(unsloth["unsloth_zoo/vllm_utils.py"]).body
        if isinstance(node, ast.FunctionDef) and node.name == "load_lora"
    ]
    assert named_arguments(loader) >= {"model", "save_directory", "load_tensors"}


def test_unsloth_has_kernels_for_the_architecture_of_the_hub_models(unsloth):
    patched = ast.unparse(method(unsloth["unsloth/models/llama.py"], "FastLlamaModel", "patch_peft_model"))
    assert "model_type == 'qwen3'" in patched


def test_the_installed_packages_are_the_pinned_ones():
    assert {name: metadata.version(name) for name in ("trl", "peft", "transformers")} == {
        name: PINS[name] for name in ("trl", "peft", "transformers")
    }
