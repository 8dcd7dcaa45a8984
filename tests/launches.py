"""Trainings in processes of their own, to be killed: forked from one process that has imported everything once."""

import os
import socket
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

CONTEXT = get_context("forkserver")
CONTEXT.set_forkserver_preload(["helpers.training", "helpers.training.callbacks", "trl.trainer.grpo_trainer"])
LIMIT_S = 300


class Launch:
    """`python -m helpers train ARGUMENTS`, as one process, or as `count` of them as torchrun starts them."""

    def __init__(self, folder: Path, *options: str, count: int = 1, recipe: str = "v4.1", seed: int = 3) -> None:
        arguments = ["train", "--recipe", recipe, "--profile", "smallest", "--seed", str(seed), "--out", str(folder)]
        self.log = folder.with_suffix(".log")
        environment = {"WORLD_SIZE": str(count), "MASTER_ADDR": "localhost", "MASTER_PORT": str(_free_port())}
        self.processes = []
        for rank in range(count):
            own = environment | {"RANK": str(rank), "LOCAL_RANK": str(rank), "ACCELERATE_USE_CPU": "true"}
            target = ([*arguments, *options], own if count > 1 else {}, self.log)
            process = CONTEXT.Process(target=_train, args=target)
            process.start()
            self.processes.append(process)

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
        while self.running() and not moment():
            time.sleep(0.001)
        time.sleep(delay)
        for process in self.processes[which]:
            process.kill()
        return any(code != 0 for code in self.wait())

    def running(self) -> bool:
        """Whether any process has not ended yet."""
        return any(process.is_alive() for process in self.processes)


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("localhost", 0))
        return int(server.getsockname()[1])


def _train(arguments: list[str], environment: dict[str, str], log: Path) -> None:
    os.environ |= environment
    with log.open("a", encoding="utf-8") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    from helpers import cli

    sys.exit(cli.main(arguments))
