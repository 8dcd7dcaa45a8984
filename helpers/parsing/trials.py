"""Parsers on trial: each in its own child process with a time limit per text, so that a hang is a result too."""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, Literal

Outcome = Literal["object", "rejected", "exception", "timeout"]
Read = Callable[[str], Any]

SECONDS_TO_START = 60.0
_BAML_SCHEMA = """
type JsonValue = int | float | bool | string | null | JsonValue[] | map<string, JsonValue>

client<llm> Nobody {
  provider openai
  options {
    model "none"
    api_key "none"
  }
}

function Extract(text: string) -> map<string, JsonValue> {
  client Nobody
  prompt #"{{ text }}"#
}
"""


@dataclass(frozen=True)
class Trial:
    """What one parser made of one text: the object it returned, if any, and the microseconds that took."""

    outcome: Outcome
    value: dict[str, Any] | None = None
    microseconds: float = float("nan")
    detail: str = ""


class _RejectedError(Exception):
    """The parser says that the text holds no object."""


def run_trials(parser: str, texts: Iterable[str], limit: float = 2.0) -> Iterator[Trial]:
    """Yield a `Trial` for each text, read by `parser` (a name of `PARSER_NAMES`) in a child process.

    A text that takes more than `limit` seconds is a timeout; a fresh child reads the next one.
    """
    child = _Child(parser)
    try:
        for text in texts:
            trial = child.read(text, limit)
            if trial is None:
                child.stop()
                child, trial = _Child(parser), Trial("timeout", detail=f"more than {limit:g} s")
            yield trial
    finally:
        child.stop()


class _Child:
    """A process that reads texts with one parser until its pipe closes."""

    def __init__(self, parser: str) -> None:
        context = get_context("spawn")
        self.pipe, far_end = context.Pipe()
        self.process = context.Process(target=_serve, args=(parser, far_end), daemon=True)
        self.process.start()
        far_end.close()
        if not self.pipe.poll(SECONDS_TO_START):
            self.stop()
            raise TimeoutError(f"the child process for {parser} did not start within {SECONDS_TO_START:g} s")
        self.pipe.recv()

    def read(self, text: str, limit: float) -> Trial | None:
        """The trial of `text`, or None where it took too long."""
        try:
            self.pipe.send(text)
            return self.pipe.recv() if self.pipe.poll(limit) else None
        except (EOFError, BrokenPipeError):
            return None

    def stop(self) -> None:
        """End the child, whatever it is doing."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _serve(parser: str, pipe: Connection) -> None:
    """The child's loop: say that it is ready, then answer every text with a trial."""
    read = _READERS[parser]()
    pipe.send("ready")
    while True:
        try:
            text = pipe.recv()
        except EOFError:
            return
        pipe.send(_trial(read, text))


def _trial(read: Read, text: str) -> Trial:
    start = time.perf_counter()
    try:
        value = read(text)
    except _RejectedError:
        value = None
    except Exception as error:  # noqa: BLE001  whatever a parser under trial raises is its result
        return Trial("exception", detail=type(error).__name__)
    microseconds = (time.perf_counter() - start) * 1e6
    if not isinstance(value, dict):
        return Trial("rejected", None, microseconds)
    return Trial("object", value, microseconds)


# Each of these imports its parser, in the child, and returns the function that reads a text with it.


def _baseline(name: str) -> Read:
    from helpers.parsing import baselines

    return {"regex": baselines.regex_object, "handoff": baselines.handoff_object}[name]


def _tolerant() -> Read:
    from helpers.parsing.completions import extract_json

    return extract_json


def _json_repair() -> Read:
    import json_repair

    return json_repair.loads


def _json5() -> Read:
    """json5 reads whole documents only; it is given the outermost braces, as the regex parser gives `json.loads`."""
    import json5

    def read(text: str) -> Any:
        """The outermost braces as json5 reads them."""
        try:
            return json5.loads(text[text.find("{") : text.rfind("}") + 1])
        except ValueError as error:
            raise _RejectedError from error

    return read


def _baml() -> Read:
    os.environ.update({"BAML_LOG": "off", "RUST_BACKTRACE": "0"})
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # it logs its rejections past every setting; this is its own process
    import types

    import baml_py
    from baml_py.errors import BamlError

    runtime = baml_py.BamlRuntime.from_files(".", {"main.baml": _BAML_SCHEMA}, {})
    nothing: Any = types.ModuleType("nothing")

    def read(text: str) -> Any:
        """The object that BAML makes of the text."""
        context = runtime.create_context_manager()
        try:
            return runtime.parse_llm_response(
                "Extract", text, nothing, nothing, nothing, False, context, None, None, {}
            )
        except BamlError as error:
            raise _RejectedError from error

    return read


_READERS: dict[str, Callable[[], Read]] = {
    "regex": partial(_baseline, "regex"),
    "handoff": partial(_baseline, "handoff"),
    "tolerant": _tolerant,
    "json_repair": _json_repair,
    "json5": _json5,
    "baml-py": _baml,
}
_MODULES = {"json_repair": "json_repair", "json5": "json5", "baml-py": "baml_py"}

PARSER_NAMES: tuple[str, ...] = tuple(name for name in _READERS if find_spec(_MODULES.get(name, "json")))
"""The parsers that can be tried on this machine: the three of `PARSERS`, and installed libraries."""
