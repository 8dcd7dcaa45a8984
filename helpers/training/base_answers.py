"""What an embedded policy answers before any training, kept beside it.

Every run from one embedded policy begins with the same answers to the same prompts, so they are generated once. A hub
model is asked by every run: there it is seconds of hours, and what a GPU samples does not repeat.
"""

import inspect
import json
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

from filelock import FileLock

from helpers.core.files import write_json
from helpers.policy import Policy, evaluation, generation
from helpers.policy.cpu import decoding
from helpers.rewards import score_row
from helpers.runs.record import jsonable
from helpers.training import callbacks

Rows = list[dict[str, Any]]


def evaluate_base(policy: Policy, records: Rows, settings: generation.Settings, track: callbacks.Track) -> Rows:
    """`callbacks.evaluate_split` of the eval split by a policy that is as it was before training.

    Answers that are kept are scored and recorded; their time is told as that of the run that asked. Of two runs that
    want the same ones at once, one asks and the other waits.
    """
    kept = kept_at(policy, records, settings)
    if kept is None:
        return callbacks.evaluate_split(policy, records, "eval", 0, settings, track)
    kept.parent.mkdir(exist_ok=True)
    with FileLock(kept.with_suffix(".lock")):
        if kept.is_file():
            known = json.loads(kept.read_text(encoding="utf-8"))
            return callbacks.take_answers(_scored(known["rows"], records, settings), 0, track, known["seconds"])
        rows = callbacks.evaluate_split(policy, records, "eval", 0, settings, track)
        write_json(kept, jsonable({"seconds": callbacks.split_seconds(track.history, 0), "rows": rows}))
    return rows


def kept_at(policy: Policy, records: Rows, settings: generation.Settings) -> Path | None:
    """The file of a base policy's answers to `records`, there or not; None for a policy that was not made here.

    Its name stands for the prompts, how they are asked, and what answers them: device, dtype and code.
    """
    folder = Path(policy.source)
    if not (folder / "embedded.json").is_file():
        return None
    asked = {key: value for key, value in asdict(settings).items() if key not in ("version", "parser")}
    prompts = [[record["id"], record["prompt"]] for record in records]
    code = [inspect.getsource(module) for module in (callbacks, decoding, evaluation, generation)]
    computed = [str(policy.model.device), str(policy.model.dtype)]
    name = sha256(json.dumps([asked, prompts, computed, code]).encode()).hexdigest()[:12]
    return folder / "answers" / f"{name}.json"


def _scored(rows: Rows, records: Rows, settings: generation.Settings) -> Rows:
    """The rows under the settings' reward version: it may not be that of the run that asked."""
    by_id = {record["id"]: record for record in records}
    return [
        row | score_row(by_id[row["record_id"]], row["completion"], settings.version, settings.parser) for row in rows
    ]
