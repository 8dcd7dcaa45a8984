"""SIGTERM and Ctrl-C: a run that is told to end writes a checkpoint if its step ends soon, and says how to go on.

A preempted machine gets SIGTERM about 30 seconds before it is taken away.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from helpers.core import processes

GRACE_S = 10
"""How long a step may take to end after SIGTERM, in seconds."""


class Interrupted(KeyboardInterrupt):
    """The run was told to end by `signal`; 128 and its number make the exit code."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class _Terminated:
    """What the signal handler knows: whether steps are being trained, and whether SIGTERM has come."""

    training = False
    requested = False


@contextmanager
def handled() -> Iterator[None]:
    """Within the block, SIGTERM raises `Interrupted`: at once, or while steps are trained after the current one."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _Terminated.training = _Terminated.requested = False
    before = {number: signal.signal(number, _on_signal) for number in (signal.SIGTERM, signal.SIGALRM)}
    try:
        yield
    finally:
        signal.alarm(0)
        for number, handler in before.items():
            signal.signal(number, handler)


def _on_signal(number: int, frame: Any) -> None:
    if number == signal.SIGALRM or _Terminated.requested or not _Terminated.training:
        raise Interrupted(signal.SIGTERM)
    _Terminated.requested = True
    signal.alarm(GRACE_S)
    if processes.is_first():
        # `print` may be what the signal interrupted, and cannot be entered twice.
        os.write(2, f"\nSIGTERM: writing a checkpoint if this step ends within {GRACE_S} s\n".encode())


def training_begins() -> None:
    """From here on, SIGTERM waits for the end of a step."""
    _Terminated.training = True


def training_ends() -> None:
    """From here on, SIGTERM ends the run at once; raise `Interrupted` if it has come before."""
    _Terminated.training = False
    if _Terminated.requested:
        raise Interrupted(signal.SIGTERM)


def requested_anywhere() -> bool:
    """Whether any process got SIGTERM; all of them must call this. A step that has ended in time may then be saved."""
    requested = processes.anywhere(_Terminated.requested)
    if requested:
        _Terminated.requested = True
        signal.alarm(0)
    return requested
