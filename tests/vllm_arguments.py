"""The argument names of `vllm serve`, read out of a wheel without importing it.

vLLM needs a GPU and its wheel weighs 300 MB, so the tests read a snapshot. To make it again after a change of the pin:

    pip download --no-deps --python-version 3.12 --only-binary :all: vllm==VERSION -d DIR
    PYTHONPATH=. python tests/vllm_arguments.py DIR/vllm-VERSION-*.whl
"""

import ast
import sys
import zipfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from helpers.core.files import write_json

SNAPSHOT = Path(__file__).parent / "data" / "vllm_serve_arguments.json"
ENGINE = "vllm/engine/arg_utils.py"
FRONTEND = "vllm/entrypoints/launchers/cli_args.py"
LORA = "vllm/config/lora.py"


def read_wheel(path: Path) -> dict[str, Any]:
    """Version and hash of the wheel, the arguments that `vllm serve` takes, and the LoRA ranks it accepts."""
    with zipfile.ZipFile(path) as wheel:
        trees = {name: ast.parse(wheel.read(name)) for name in (ENGINE, FRONTEND, LORA)}
    added = [name for source in (ENGINE, FRONTEND) for name in _added(trees[source])]
    fields = [f"--{name.replace('_', '-')}" for name in _frontend_fields(trees[FRONTEND])]
    return {
        "version": path.name.split("-")[1],
        "sha256": sha256(path.read_bytes()).hexdigest(),
        "lora_ranks": _lora_ranks(trees[LORA]),
        "arguments": sorted({*added, *fields}),
    }


def _added(tree: ast.Module) -> Iterator[str]:
    """The option names of every `add_argument` call."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "add_argument":
            names = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
            yield from (name for name in names if str(name).startswith("--"))


def _frontend_fields(tree: ast.Module) -> Iterator[str]:
    """The fields of the server's own dataclasses, which vLLM makes options of."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.name in ("BaseFrontendArgs", "FrontendArgs"):
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
    write_json(SNAPSHOT, read_wheel(Path(sys.argv[1])))
    print(f"wrote {SNAPSHOT}")
