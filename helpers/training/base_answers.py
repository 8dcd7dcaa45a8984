"""What an embedded policy answers before any training, kept under runs/embedded.

Every run from one embedded policy begins with the same answers to the same prompts, so they are generated once. A hub
model answers anew in every run: that is seconds of hours, and sampling on a GPU does not repeat itself.
"""

import inspect
import json
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

from filelock import FileLock

from helpers import recipes
from helpers.core import processes
from helpers.core.files import write_json
from helpers.policy import Policy, embedded, evaluation, generation, loading
from helpers.policy.model import prepare
from helpers.recipes.profiles import Profile
from helpers.rewards import score_row
from helpers.runs.record import RunRecorder, jsonable
from helpers.tasks.records import Rows
from helpers.training import splits
from helpers.training.plan import Plan, plan_run
from helpers.training.track import Track


def evaluate_base(plan: Plan, policy: Policy, track: Track) -> Rows:
    """`splits.evaluate_split` of the eval split by a policy that is as it was before training.

    Kept answers are scored under the plan's reward version and recorded. Of two runs that need the same ones at once,
    one generates them and the other waits.
    """
    records = plan.splits["eval"]
    kept = kept_at(policy, records, plan.settings)
    if kept is None:
        return splits.evaluate_split(plan, policy, "eval", 0, track)
    kept.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(kept.with_suffix(".lock")) if processes.is_first() else nullcontext():
        if answers := processes.from_first(_read(kept)):
            rows = _rescored(answers["rows"], records, plan.settings)
            return splits.take_answers(rows, 0, track, answers["seconds"])
        rows = splits.evaluate_split(plan, policy, "eval", 0, track)
        if processes.is_first():
            write_json(kept, jsonable({"seconds": splits.split_seconds(track.history, 0), "rows": rows}))
    return rows


def answer_ahead(names: Sequence[str], profile: Profile) -> None:
    """Keep what the policies that these recipes start from answer, for the runs to come; a core that is idle does it.

    A run that asks meanwhile waits.
    """
    prepare(profile)
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            plan = plan_run(recipes.get(name), profile, Path(folder))
            evaluate_base(plan, loading.load_base(plan.recipe, profile), Track(RunRecorder(plan.folder)))


def kept_at(policy: Policy, records: Rows, settings: generation.Settings) -> Path | None:
    """The file of an embedded policy's answers to `records`, whether it exists or not; None for any other policy.

    Its name stands for the prompts, how and how often they are sampled, and what computes the answers: device, dtype,
    code, and how many processes share them, since other batches round otherwise.
    """
    from helpers.policy.cpu import decoding

    weights = embedded.fingerprint(Path(policy.source))
    if weights is None:
        return None
    asked = asdict(splits.eval_settings(settings))
    sampling = {key: value for key, value in asked.items() if key not in ("version", "parser")}
    prompts = [[record["id"], record["prompt"]] for record in records]
    code = [inspect.getsource(module) for module in (splits, decoding, evaluation, generation)]
    computed_on = [str(policy.model.device), str(policy.model.dtype), processes.count()]
    name = sha256(json.dumps([sampling, prompts, computed_on, code]).encode()).hexdigest()[:12]
    return embedded.CACHE / f"answers-{weights[:12]}" / f"{name}.json"


def _read(kept: Path) -> dict[str, Any] | None:
    """The kept answers; None where there are none, or where a lost disk cache left a file of zeros."""
    try:
        return json.loads(kept.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def _rescored(rows: Rows, records: Rows, settings: generation.Settings) -> Rows:
    """The rows under the settings' reward version, which may not be that of the run that generated them."""
    by_id = {record["id"]: record for record in records}
    return [
        row | score_row(by_id[row["record_id"]], row["completion"], settings.version, settings.parser) for row in rows
    ]
