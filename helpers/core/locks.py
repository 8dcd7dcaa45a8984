"""One process per folder: a lock that the kernel releases when its holder ends, however it ends."""

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from helpers.core.errors import UserError
from helpers.core.files import shown

_TRIES = 5
_held: set[IO[str]] = set()


@contextmanager
def hold(path: Path) -> Iterator[None]:
    """Hold the lock file `path` for the length of the block; made if missing, and left there.

    Raises `UserError` naming the holder where another process has it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        if not _lock(file, fcntl.LOCK_EX):
            raise UserError(f"{shown(path.parent)}: {_holder(file)}; wait for it, or give another folder")
        file.truncate(0)
        since = datetime.now(UTC).isoformat(timespec="seconds")
        file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since}) + "\n")
        file.flush()
        _held.add(file)
        try:
            yield
        finally:
            _held.discard(file)


def require_free(path: Path) -> None:
    """Raise `UserError` as `hold` does, without taking the lock or making its file."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8") as file:
        if not _lock(file, fcntl.LOCK_SH):
            raise UserError(f"{shown(path.parent)}: {_holder(file)}; wait for it, or give another folder")


def _lock(file: IO[str], kind: int) -> bool:
    """Lock an open file, which closing it undoes; False where another process has it for long."""
    for attempt in range(_TRIES):  # `require_free` of a third process may have it for a moment
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.1 if attempt < _TRIES - 1 else 0)
        except OSError:
            return True  # a file system without locks, such as a mounted bucket: go on as before there were any
        else:
            return True
    return False


def _holder(file: IO[str]) -> str:
    """Who holds the lock, as its file says."""
    file.seek(0)
    try:
        holder = json.loads(file.read())
        return f"process {holder['pid']} on {holder['host']} has been training here since {holder['since']}"
    except (ValueError, KeyError, TypeError):
        return "another process is training here"


def _close_in_child() -> None:
    # A forked worker shares the open file, and would keep the lock after its parent was killed.
    for file in _held:
        file.close()


os.register_at_fork(after_in_child=_close_in_child)
