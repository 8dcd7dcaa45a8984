"""Checkpoints that can be trusted: marked once they are whole, checked before a run resumes from one.

A kill, a full disk or a lost page cache leaves files that exist and do not load. The mark holds the checksum of every
file, and is written last, after all of them have reached the disk.
"""

import json
import os
import re
import shutil
import zipfile
from hashlib import file_digest
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from helpers.core.errors import UserError
from helpers.core.files import shown, write_json
from helpers.core.progress import say
from helpers.runs.record import EVAL, EVENTS, METRICS, rows_so_far

FOLDER = "checkpoints"
"""Where a run keeps its checkpoints."""
MARK = "whole.json"
KEPT = 2
"""Checkpoints that a run keeps: the newest, and the one before in case that one is damaged."""

_STATE, _WEIGHTS = "trainer_state.json", "adapter_model.safetensors"
_REQUIRED = (_STATE, _WEIGHTS, "optimizer.pt", "scheduler.pt")


def newest_whole(folder: Path) -> Path | None:
    """The newest checkpoint of the run in `folder` that loads; None where none was ever finished.

    One line names each damaged one that is passed over. Raises `UserError` where all are: starting over would empty the
    record.
    """
    faults: list[str] = []
    for checkpoint in numbered(folder):
        fault = fault_of(checkpoint)
        if not fault:
            if faults:
                say(f"{shown(folder)}: {'; '.join(faults)}; resuming from {checkpoint.name}")
            return checkpoint
        faults.append(f"{checkpoint.name} is damaged ({fault})")
    if any(_was_finished(checkpoint) for checkpoint in numbered(folder)):
        raise UserError(f"{shown(folder)}: {'; '.join(faults)}; remove {FOLDER}/ to train from the start")
    if faults:
        say(f"{shown(folder)}: {'; '.join(faults)}; there is none before it: training from the start")
    return None


def numbered(folder: Path) -> list[Path]:
    """The checkpoints of the run in `folder`, newest first; folders with other names are nobody's checkpoints."""
    folders = [path for path in (folder / FOLDER).glob("checkpoint-*") if path.is_dir()]
    named = [path for path in folders if re.fullmatch(r"checkpoint-[0-9]+", path.name)]
    return sorted(named, key=step_of, reverse=True)


def step_of(checkpoint: Path) -> int:
    """The step after which a checkpoint was written.

    >>> step_of(Path("checkpoint-40"))
    40
    """
    return int(checkpoint.name.removeprefix("checkpoint-"))


def saved_by(checkpoint: Path) -> int:
    """How many processes saved a checkpoint: of several, each keeps its own random state."""
    return len(list(checkpoint.glob("rng_state*.pth")))


def fault_of(checkpoint: Path) -> str:
    """Why a checkpoint cannot be resumed from; empty where it can.

    Files that the mark lists are compared with it; the others, which are all of a checkpoint without a mark, are read.
    """
    names = sorted(path.name for path in checkpoint.iterdir() if path.is_file() and path.name != MARK)
    missing = [name for name in _REQUIRED if name not in names]
    # Of several processes each keeps its own random state, in rng_state_0.pth and so on.
    if not any(re.fullmatch(r"rng_state(_[0-9]+)?\.pth", name) for name in names):
        missing.append("rng_state.pth")
    if missing:
        return f"{missing[0]} is missing"
    checksums = _marked_checksums(checkpoint)
    for name in names:
        path = checkpoint / name
        if name not in checksums:
            fault = _fault_in(path)
        else:
            fault = "" if _checksum(path) == checksums[name] else "it is not as it was saved"
        if fault:
            return f"{name}: {fault}"
    return ""


def mark_whole(checkpoint: Path) -> None:
    """Bring a checkpoint and the run record beside it to the disk, then write its mark."""
    files = sorted(path for path in checkpoint.iterdir() if path.is_file() and path.name != MARK)
    record = [path for name in (METRICS, EVAL, EVENTS) if (path := checkpoint.parent.parent / name).exists()]
    for path in [*files, *record]:
        _sync(path)
    write_json(checkpoint / MARK, {"sha256": {path.name: _checksum(path) for path in files}})
    for path in (checkpoint / MARK, checkpoint, checkpoint.parent):
        _sync(path)


def keep_newest(folder: Path) -> None:
    """Remove all but the `KEPT` newest checkpoints of the run in `folder`."""
    for checkpoint in numbered(folder)[KEPT:]:
        shutil.rmtree(checkpoint)


def drop_after(folder: Path, step: int) -> None:
    """Remove the checkpoints later than `step`: they are damaged, and their steps are trained again."""
    for checkpoint in numbered(folder):
        if step_of(checkpoint) > step:
            shutil.rmtree(checkpoint)


def adapter_fault(adapter: Path) -> str:
    """Why the adapter in a folder does not load; empty where it does."""
    for name in ("adapter_config.json", _WEIGHTS):
        if fault := _fault_in(adapter / name):
            return f"{name}: {fault}"
    return ""


def replace_adapter(model: Any, folder: Path) -> None:
    """Save the adapter of `model` beside `folder`, then move it there: a kill leaves the old adapter or the new one."""
    beside = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(beside, ignore_errors=True)  # what a killed process left
    model.save_pretrained(beside)
    folder.mkdir(exist_ok=True)
    for path in beside.iterdir():  # of one run's adapters the weights alone differ, so the files may go one by one
        path.replace(folder / path.name)
    beside.rmdir()


def _was_finished(checkpoint: Path) -> bool:
    """Whether a checkpoint was once saved to its end: its mark or the run record says so."""
    rows = rows_so_far(checkpoint.parent.parent / EVENTS)
    return (checkpoint / MARK).is_file() or any(row.get("message") == checkpoint.name for row in rows)


def _marked_checksums(checkpoint: Path) -> dict[str, str]:
    """File name to checksum; empty for a checkpoint without a readable mark."""
    try:
        return dict(json.loads((checkpoint / MARK).read_text(encoding="utf-8"))["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _fault_in(path: Path) -> str:
    """What is wrong with one file, found by reading it to its end; empty where nothing is."""
    try:
        if path.suffix == ".json":
            return _fault_in_json(path, json.loads(path.read_text(encoding="utf-8")))
        if path.suffix == ".safetensors":
            return _fault_in_weights(load_file(path))
        if path.suffix in (".pt", ".pth"):
            with zipfile.ZipFile(path) as archive:  # torch's format, with a CRC for each tensor
                return f"{archive.testzip()} in it is damaged" if archive.testzip() else ""
    except FileNotFoundError:
        return "it is missing"
    except (OSError, ValueError, RuntimeError, zipfile.BadZipFile, SafetensorError) as error:
        return f"it does not load, {' '.join(str(error).split())}"
    return ""


def _fault_in_json(path: Path, value: Any) -> str:
    if not isinstance(value, dict):
        return "it holds no JSON object"
    if path.name == _STATE and value.get("global_step") != step_of(path.parent):
        return f"it says step {value.get('global_step')}"
    return ""


def _fault_in_weights(tensors: dict[str, torch.Tensor]) -> str:
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            return f"{name} is not finite"
        if "lora_A" in name and not bool(tensor.any()):  # A starts at random: only a hole in the file makes it zero
            return f"{name} is all zero"
    return "" if tensors else "it holds no weights"


def _sync(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
