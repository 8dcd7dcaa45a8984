"""What W&B is told, and what is left of it for the next run."""

import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from helpers.core import tracking


@pytest.mark.parametrize("own", ["online", "bogus", None])
@pytest.mark.parametrize("works", [True, False])
def test_a_run_leaves_the_mode_that_the_user_chose(
    own: str | None, works: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes = []

    def init(mode: str, **_: object) -> SimpleNamespace:
        modes.append((mode, os.environ["WANDB_MODE"]))
        if not works:
            raise RuntimeError("no luck")
        return SimpleNamespace(finish=lambda: None)

    module = ModuleType("wandb")
    module.__dict__.update(Settings=SimpleNamespace, init=init)
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.delenv("WANDB_MODE")
    if own:
        monkeypatch.setenv("WANDB_MODE", own)
    before = tracking.wandb_mode()
    tracking.start("run", tmp_path / "wandb", {}).finish()
    assert modes == [("offline", "offline")]
    assert os.environ.get("WANDB_MODE") == own and tracking.wandb_mode() == before
