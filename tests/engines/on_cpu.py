"""What the engines need on a CPU and nowhere else, so that it is here and not in helpers/.

vLLM packs linear weights for the processor as it loads them, so that no new ones could be handed over, and compiles for
minutes what then runs for seconds.
"""

import functools
import os
import sys
from typing import Any

ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine lives in the process that trains, as on a GPU
    "VLLM_LOGGING_LEVEL": "WARNING",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "WANDB_MODE": "disabled",
}
NO_HANDOVER = "ENGINES_NO_HANDOVER"
"""Set, the engine keeps the weights that it was loaded with: the run must then fail its test."""


def prepare(backend: str) -> None:
    """Set `ENVIRONMENT`, before anything that reads it is imported, and keep vLLM from Unsloth.

    Unsloth loads vLLM's extension for AVX-512 to see whether it is sound, which ends the process on a CPU without.
    """
    os.environ.update(ENVIRONMENT)
    if backend == "unsloth":
        vars(sys)["modules"]["vllm"] = None


def let_weights_be_handed_over() -> None:
    """Keep vLLM's linear weights as they are loaded, and let TRL build its engine without compiling."""
    import torch
    import vllm
    from trl.generation import vllm_generation
    from vllm.model_executor.layers import linear, vocab_parallel_embedding  # noqa: F401

    def keep(layer: Any, remove_weight: bool) -> None:
        layer.cpu_linear = torch.nn.functional.linear

    for name, module in list(sys.modules.items()):
        if name.startswith("vllm.") and hasattr(module, "dispatch_cpu_unquantized_gemm"):
            vars(module)["dispatch_cpu_unquantized_gemm"] = keep
    vllm_generation.LLM = functools.partial(vllm.LLM, enforce_eager=True)
    if os.environ.get(NO_HANDOVER):
        vllm_generation.VLLMGeneration.sync_weights = lambda self: None


def serve() -> None:
    """vLLM's own command line; it asks for the version of a package "vllm", which this build is not called."""
    from importlib import metadata

    version = metadata.version
    vars(metadata)["version"] = lambda name: f"{version('vllm-cpu')}+cpu" if name == "vllm" else version(name)
    from vllm.entrypoints.cli.main import main

    main()


if __name__ == "__main__":
    serve()
