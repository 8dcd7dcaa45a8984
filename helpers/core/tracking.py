"""Weights & Biases without a login: online where a key is configured, offline otherwise, never a prompt."""

import netrc
import os
from pathlib import Path
from typing import Any

from helpers.core import processes

PROJECT = "grpo-ecommerce-pt"


def wandb_mode() -> tuple[str, str]:
    """W&B's mode for this machine (`online`, `offline` or `disabled`), and why."""
    chosen = os.environ.get("WANDB_MODE")
    if chosen:
        return chosen, f"WANDB_MODE={chosen}"
    if os.environ.get("WANDB_API_KEY"):
        return "online", "WANDB_API_KEY is set"
    try:
        if netrc.netrc().authenticators("api.wandb.ai"):
            return "online", "a key for api.wandb.ai is in .netrc"
    except (FileNotFoundError, netrc.NetrcParseError):
        pass
    return "offline", "no key is configured; `wandb sync` uploads a run later"


class NoRun:
    """Takes the place of a W&B run where none is wanted."""

    def log(self, values: dict[str, Any], step: int) -> None:
        """Send nothing."""

    def finish(self) -> None:
        """Nothing was begun."""


def start(name: str, folder: Path, config: dict[str, Any]) -> Any:
    """Start a W&B run with its files in `folder`; its metrics are the run record's, under the same keys.

    `WANDB_MODE=disabled` needs no wandb. Where several processes train together, only the first one starts a run.
    """
    if wandb_mode()[0] == "disabled" or not processes.is_first():
        return NoRun()
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb

    mode: Any = wandb_mode()[0]
    folder.mkdir(parents=True, exist_ok=True)
    settings = wandb.Settings(silent=True, console="off")
    return wandb.init(project=PROJECT, name=name, dir=str(folder), mode=mode, config=config, settings=settings)
