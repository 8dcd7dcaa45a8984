"""Trainings in processes of their own, to be killed: forked from one process that has imported everything once."""

import os
import socket
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

CONTEXT = get_context("forkserver")
CONTEXT.set_forkserver_preload(["helpers.training", "helpers.training.callbacks", "trl.trainer.grpo_trainer"])
LIMIT_S = 300


class Launch:
    """`python -m helpers train ARGUMENTS`, as one process, or as `count` of them as torchrun starts them."""

    def __init__(self, folder: Path, *options: str, count: int = 1) -> None:
        arguments = ["train", "--recipe", "v4.1", "--profile", "smallest", "--seed", "3", "--out", str(folder)]
        self.processes = start(count, _train, [*arguments, *options], folder.with_suffix(".log"))

    def wait(self) -> list[int | None]:
        """The exit codes, once all processes have ended; one that does not end in time is killed."""
        for process in self.processes:
            process.join(LIMIT_S)
            process.kill()
            process.join()
        return [process.exitcode for process in self.processes]

    def kill(self, moment: Callable[[], bool], delay: float, which: slice = slice(None)) -> bool:
        """Kill `which` processes `delay` seconds after `moment` is first true; false where all had ended by then.

        The others end by themselves, since they lose their partner.
        """
        while any(process.is_alive() for process in self.processes) and not moment():
            time.sleep(0.001)
        time.sleep(delay)
        for process in self.processes[which]:
            process.kill()
        return any(code != 0 for code in self.wait())


def start(count: int, function: Callable[..., None], *arguments: Any) -> list[ForkServerProcess]:
    """`count` processes that call `function`, in the environment that torchrun gives them."""
    with socket.socket() as server:
        server.bind(("localhost", 0))
        port = server.getsockname()[1]
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    started = []
    for rank in map(str, range(count)):
        own = shared | {"RANK": rank, "LOCAL_RANK": rank, "ACCELERATE_USE_CPU": "true"}
        process = CONTEXT.Process(target=_call, args=(own if count > 1 else {}, function, *arguments))
        process.start()
        started.append(process)
    return started


def _call(environment: dict[str, str], function: Callable[..., None], *arguments: Any) -> None:
    os.environ |= environment
    function(*arguments)


def _train(arguments: list[str], log: Path) -> None:
    with log.open("a", encoding="utf-8") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    from helpers import cli

    sys.exit(cli.main(arguments))
