"""Weights & Biases without a login: online where a key is configured, offline otherwise, never a prompt.

Whatever W&B does, a run goes on: each call has a limit of seconds, and the first that fails is the last one.
"""

import netrc
import os
import re
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from helpers.core import processes

PROJECT = "grpo-ecommerce-pt"
MODES = ("online", "offline", "disabled")
_CONNECT_S, _START_S, _LOG_S, _FINISH_S = 2.0, 7.0, 5.0, 10.0
_SECRETS = ("WANDB_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
_TOO_LONG = "took more than"
_KEY = re.compile(r"[\w-]{40,}")


def wandb_mode() -> tuple[str, str]:
    """W&B's mode for this machine (`online`, `offline` or `disabled`), and why."""
    chosen = os.environ.get("WANDB_MODE")
    if chosen in MODES:
        return chosen, f"WANDB_MODE={chosen}"
    if chosen:
        return "offline", f"WANDB_MODE={chosen} is none of {', '.join(MODES)}"
    if os.environ.get("WANDB_API_KEY"):
        return "online", "WANDB_API_KEY is set"
    try:
        if netrc.netrc().authenticators("api.wandb.ai"):
            return "online", "a key for api.wandb.ai is in .netrc"
    except (OSError, netrc.NetrcParseError):
        pass
    return "offline", "no key is configured; `wandb sync` uploads a run later"


class NoRun:
    """Takes the place of a W&B run where none is wanted."""

    def log(self, values: dict[str, Any], step: int) -> None:
        """Send nothing."""

    def finish(self) -> None:
        """Nothing was begun."""


class GuardedRun:
    """A W&B run that cannot fail or stop a training: after the first error, said in one line, it takes nothing more."""

    def __init__(self, run: Any) -> None:
        self.run = run

    def log(self, values: dict[str, Any], step: int) -> None:
        """Log one row of metrics."""
        self._call(_LOG_S, "log", values, step=step)

    def finish(self) -> None:
        """Send what is left."""
        self._call(_FINISH_S, "finish")

    def _call(self, seconds: float, method: str, *args: Any, **options: Any) -> None:
        if self.run is None:
            return
        fault = _fault_of(_started(lambda: getattr(self.run, method)(*args, **options)), seconds)
        if fault:
            self.run = None
            _warn(f"{method} {fault}; the run goes on without W&B, its record has everything")


def start(name: str, folder: Path, config: dict[str, Any]) -> NoRun | GuardedRun:
    """Start a W&B run with its files in `folder`; its metrics are the run record's, under the same keys.

    `WANDB_MODE=disabled` needs no wandb. Where several processes train together, only the first one starts a run.
    Where W&B cannot be reached or does not start, one line says so, and the run is kept offline or not at all.
    """
    mode, reason = wandb_mode()
    if mode == "disabled" or not processes.is_first():
        return NoRun()
    fault = reason if os.environ.get("WANDB_MODE", mode) not in MODES else ""
    if mode == "online" and (fault := _online_fault()):
        mode = "offline"
    run, failure = _begin(mode, name, folder, config)
    if failure and mode == "online" and _TOO_LONG not in failure:
        fault = failure
        run, failure = _begin("offline", name, folder, config)
    if failure:
        _warn(f"{failure}; the run goes on without W&B")
        return NoRun()
    if fault:
        _warn(f"{fault}; the run is kept offline in {folder.name}/, `wandb sync` uploads it later")
    return GuardedRun(run)


def without_secrets(text: str) -> str:
    """`text` with the keys that the environment holds struck out."""
    for name in _SECRETS:
        if secret := os.environ.get(name, "").strip():
            text = text.replace(secret, "***")
    return text


def _warn(message: str) -> None:
    from helpers.core.progress import say  # needs tqdm; the doctor asks for `wandb_mode` where no package is installed

    say(f"W&B: {message}")


def _begin(mode: Any, name: str, folder: Path, config: dict[str, Any]) -> tuple[Any, str]:
    """A W&B run and no fault, or none and what went wrong."""
    os.environ.setdefault("WANDB_SILENT", "true")

    def begin() -> Any:
        import wandb

        folder.mkdir(parents=True, exist_ok=True)
        settings = wandb.Settings(silent=True, console="off", init_timeout=_START_S)
        return wandb.init(project=PROJECT, name=name, dir=str(folder), mode=mode, config=config, settings=settings)

    with _wandb_mode_set(mode):
        outcome = _started(begin)
        fault = _fault_of(outcome, _START_S)
    return (None, f"it did not start ({fault})") if fault else (outcome.result(), "")


@contextmanager
def _wandb_mode_set(mode: str) -> Iterator[None]:
    """`WANDB_MODE` for wandb, which reads it as it is imported and refuses words that it does not know; then the
    user's own value again, for the next run."""
    own = os.environ.get("WANDB_MODE")
    os.environ["WANDB_MODE"] = mode
    try:
        yield
    finally:
        if own is None:
            del os.environ["WANDB_MODE"]
        else:
            os.environ["WANDB_MODE"] = own


def _online_fault() -> str:
    """Why a run cannot be online: a key that is none, or a server that does not answer; empty where it can."""
    key = os.environ.get("WANDB_API_KEY")
    if key and not _KEY.fullmatch(key):
        return "WANDB_API_KEY is not a key of W&B"
    server = urlsplit(os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai")
    if proxy := getproxies().get(server.scheme):
        server = urlsplit(proxy)
    address = (server.hostname or "", server.port or (443 if server.scheme == "https" else 80))
    # Looking up a name has no limit of its own, hence the thread.
    connection = _started(lambda: socket.create_connection(address, timeout=_CONNECT_S).close())
    return f"{address[0]} cannot be reached" if _fault_of(connection, _CONNECT_S) else ""


def _started(call: Callable[[], Any]) -> "Future[Any]":
    """`call` in a thread of its own that the end of the process does not wait for."""
    outcome: Future[Any] = Future()

    def work() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:  # noqa: BLE001 - W&B ends with SystemExit too; the caller reads it
            outcome.set_exception(error)

    Thread(target=work, daemon=True).start()
    return outcome


def _fault_of(outcome: "Future[Any]", seconds: float) -> str:
    """What went wrong with a call, on one line without secrets; empty where it returned within `seconds`."""
    try:
        error = outcome.exception(timeout=seconds)
    except TimeoutError:
        return f"{_TOO_LONG} {seconds:g} s"
    if error is None:
        return ""
    return "failed, " + without_secrets(" ".join(f"{type(error).__name__}: {error}".split()))[:200]
