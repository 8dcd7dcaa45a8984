"""A route is served by the command that we print: one `vllm serve`, two adapters, asked through its OpenAI route.

The adapters are those of two of the runs that test_engines.py trains.
"""

import shlex
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import on_cpu
import pytest
from engine import SHAPE
from greedy import parts_at_a_tie
from openai import OpenAI
from test_engines import ROOT, WORK

from helpers.policy import serve
from helpers.policy.loading import load_run_policy
from helpers.tasks import TASKS
from helpers.tasks.records import load_split

pytestmark = pytest.mark.skipif(SHAPE != "embedded", reason="a route prices policies whose size we know")
ON_A_CPU = ("--enforce-eager", "--max-num-seqs", "16")
STARTS_WITHIN_S = 420


@pytest.fixture(scope="module")
def route() -> serve.Route:
    """Two adapters on one base: the first serves extraction and push, the second the other tasks."""
    runs = [WORK / name for name in ("transformers", "vllm")]
    missing = [run.name for run in runs if not (run / "adapter" / "adapter_config.json").is_file()]
    assert not missing, f"no run of {missing}: test_engines.py trains them"
    first, second = (serve.candidate(run, run.name) for run in runs)
    return serve.choose_route([first, second], pin=serve.handoff_pin(first.name, second.name))


@pytest.fixture(scope="module")
def client(route: serve.Route) -> Iterator[OpenAI]:
    """A client of the server that the route's one command starts."""
    (command,) = serve.serve_commands(route)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    vllm, *words = shlex.split(command)
    assert vllm == "vllm"
    words = [sys.executable, on_cpu.__file__, *words, *ON_A_CPU, "--host", "127.0.0.1", "--port", str(port)]
    log = WORK / "serve.log"
    on_cpu.prepare("vllm")
    with log.open("w", encoding="utf-8") as output:
        server = subprocess.Popen(words, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
    try:
        wait_for(server, f"http://127.0.0.1:{port}/health", log)
        yield OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0, timeout=120)
    finally:
        server.terminate()
        server.wait(60)


def wait_for(server: "subprocess.Popen[Any]", url: str, log: Path) -> None:
    """Until the server answers; it fails with the log's end where the server ends or takes too long."""
    for _ in range(STARTS_WITHIN_S):
        assert server.poll() is None, f"vllm serve ended:\n{log.read_text(encoding='utf-8')[-3000:]}"
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(1)
    pytest.fail(f"no answer in {STARTS_WITHIN_S} s:\n{log.read_text(encoding='utf-8')[-3000:]}")


def test_the_server_answers_as_generate_does(route: serve.Route, client: OpenAI) -> None:
    assert {model.id for model in client.models.list()} >= set(TASKS)
    records = [next(r for r in load_split("eval") if r["task"] == task) for task in TASKS]
    requests = [serve.record_request(record["id"]) for record in records]
    ours = [row["completion"] for row in serve.answer_by_route(requests, route)]
    for request, text in zip(requests, ours, strict=True):
        run = route.policies[route.tasks[request.task].policy].run
        loaded = load_run_policy(run)
        limit = loaded.recipe.max_completion_length
        messages: Any = request.prompt
        given = client.chat.completions.create(
            model=request.task, messages=messages, temperature=0, max_tokens=limit
        ).choices[0]
        served = given.message.content or ""
        assert served == text or parts_at_a_tie(loaded.policy, request.prompt, served, text), request.id
    assert len({entry.policy for entry in route.tasks.values()}) == 2
