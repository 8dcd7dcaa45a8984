"""What is left to do in a run's folder, and what of its record is kept for that."""

from pathlib import Path
from typing import Literal

from helpers.core import files, processes
from helpers.core.files import shown
from helpers.core.progress import say
from helpers.runs.record import EVAL, EVENTS, METRICS, is_finished, rows_so_far, split_prefix
from helpers.training import checkpoints

Left = Literal["training", "evaluation", "adapter", "nothing"]
"""The first thing that is left to do; what comes after it in a run is left too."""
ADAPTER = "adapter"
"""Where a run keeps its trained adapter."""

_LAST_METRIC = f"{split_prefix('test', 'sample')}mean_reward"


def look(folder: Path, last: int) -> tuple[Left, Path | None]:
    """What is left of the run of `last` steps in `folder`, and the checkpoint to do it from.

    Raises `UserError` as `checkpoints.newest_whole` does.
    """
    if is_finished(folder) and not (checkpoints.numbered(folder) and checkpoints.adapter_fault(folder / ADAPTER)):
        return "nothing", None
    checkpoint = checkpoints.newest_whole(folder)
    if checkpoint is None:
        return "training", None
    step = checkpoints.step_of(checkpoint)
    stopped = any(row.get("kind") == "stop" and row.get("step") == step for row in rows_so_far(folder / EVENTS))
    if step < last and not stopped:
        return "training", checkpoint
    evaluated = any(row.get("step") == step and _LAST_METRIC in row for row in rows_so_far(folder / METRICS))
    return "adapter" if evaluated else "evaluation", checkpoint


def say_processes_changed(checkpoint: Path) -> None:
    """Say where another number of processes saved `checkpoint` than trains now: each samples its own completions."""
    saved, now = checkpoints.saved_by(checkpoint), processes.count()
    if saved != now:
        say(
            f"{shown(checkpoint)}: saved by {saved} process(es), now {now} go on: the same prompts per step, other "
            "completions than without the change"
        )


def truncate_to_training(folder: Path, step: int) -> None:
    """Drop what a killed run recorded of its final evaluation after `step`, its last one."""
    metrics, answers, events = (rows_so_far(folder / name) for name in (METRICS, EVAL, EVENTS))
    trained = [index for index, row in enumerate(metrics) if row.get("step") == step and "train/reward" in row]
    files.write_jsonl(folder / METRICS, metrics[: trained[-1] + 1] if trained else metrics)
    # The final evaluation begins with the whole eval split; the subset before it was answered during training.
    final = [index for index, row in enumerate(answers) if row.get("step") == step and row.get("split") == "eval"]
    files.write_jsonl(folder / EVAL, answers[: final[0]] if final else answers)
    saved = [index for index, row in enumerate(events) if row.get("message") == f"checkpoint-{step}"]
    start = saved[-1] + 1 if saved else len(events)
    later = [row for row in events[start:] if row.get("kind") not in ("eval", "checkpoint")]
    files.write_jsonl(folder / EVENTS, events[:start] + later)


def names(folder: Path, checkpoint: Path) -> bool:
    """Whether the record has the event of `checkpoint`; a kill may come between its mark and that event."""
    return any(row.get("message") == checkpoint.name for row in rows_so_far(folder / EVENTS))


def drop_end(folder: Path) -> None:
    """Drop the event that says the run ended: it will end again."""
    events = rows_so_far(folder / EVENTS)
    files.write_jsonl(folder / EVENTS, [row for row in events if row.get("kind") != "end"])
