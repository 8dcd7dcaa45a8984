"""An error that ends a run: recorded in events.jsonl, and told in one line."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from helpers.core import processes, progress, tracking
from helpers.core.errors import RunError, UserError
from helpers.core.files import read_jsonl, shown
from helpers.runs.record import CONFIG, METRICS, RunRecorder

_LONGEST = 300


@contextmanager
def recorded(folder: Path) -> Iterator[None]:
    """Within the block, an error is recorded to the run in `folder` and raised as a `RunError` of one line.

    A `UserError`, an interruption and a missing package are recorded and raised as they are.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        progress.close_all("interrupted")
        if processes.is_first():
            _record(folder, "interrupt", str(error) or "Ctrl-C")
        raise
    except (UserError, ModuleNotFoundError) as error:
        _record(folder, "error", one_line(error))
        raise
    except Exception as error:
        progress.close_all("failed")
        message = one_line(error)
        details = {} if isinstance(error, RunError) else {"traceback": tracking.without_secrets(traceback.format_exc())}
        _record(folder, "error", message, **details)
        raise RunError(f"{shown(folder)}: {message}") from error


def one_line(error: BaseException) -> str:
    """An error's type and message on one line, without secrets.

    >>> one_line(OSError(28, "No space left on device", "runs/a/metrics.jsonl"))
    'runs/a/metrics.jsonl: No space left on device'
    """
    if isinstance(error, RunError | UserError):
        text = str(error)
    elif isinstance(error, OSError) and error.filename is not None:
        text = f"{error.filename}: {error.strerror}"
    else:
        first = str(error).strip().splitlines()[:1]
        text = ": ".join([type(error).__name__, *first])
    return tracking.without_secrets(" ".join(text.split()))[:_LONGEST]


def _record(folder: Path, kind: str, message: str, **details: str) -> None:
    """Append an event if the run in `folder` has begun; on a full disk there is nothing more to be done."""
    if not (folder / CONFIG).is_file():
        return
    try:
        recorder = RunRecorder(folder)
        recorder.writes = True  # this may be the only process that knows of the error, and it ends here
        metrics = folder / METRICS
        steps = [row.get("step", 0) for _, row in read_jsonl(metrics, faults=[])] if metrics.is_file() else []
        recorder.log_event(kind, steps[-1] if steps else 0, message, **details)
    except OSError:
        return
