"""Serving: answering a user's text with a run's policy, here or through vLLM on a GPU.

A request is the task's system prompt and the user's text (`tasks.build_prompt`), as in training. What a user sends is
never trusted: chat tokens in it would forge turns, and more tokens than the policy reads would be lost in silence.
"""

import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.core.errors import UserError, require_known
from helpers.core.files import PROJECT_ROOT, read_jsonl
from helpers.policy import evaluation
from helpers.policy.evaluation import Generation
from helpers.policy.run_policy import Origin, RunPolicy, load_run_policy, read_origin
from helpers.policy.serve.routing import Route, policy_of
from helpers.tasks import TASKS, build_prompt
from helpers.tasks.records import SPLITS, load_split

VLLM_LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The values of --max-lora-rank that vLLM 0.30 accepts (vllm/config/lora.py, MaxLoRARanks)."""

GPU_SHARE = 0.9
"""The share of the GPU's memory that all servers of a route take together; vLLM's own default for one is 0.92."""

FIRST_PORT = 8000


@dataclass(frozen=True)
class Request:
    """One thing asked: an id, a task, and the chat messages before the answer."""

    id: str
    task: str
    prompt: list[dict[str, str]]


def request(task: str, text: str, name: str = "input") -> Request:
    """What a user asks of a task, with the task's system prompt. `UserError` for an unknown task or no text.

    >>> [message["role"] for message in request("push", "Cliente: Ana").prompt]
    ['system', 'user']
    """
    require_known("task", task, TASKS)
    if not text.strip():
        raise UserError(f"{name} is empty; give the text that the task is about")
    return Request(name, task, build_prompt(task, text))


def record_request(record_id: str) -> Request:
    """What a shipped record asks. `UserError` where no split has a record of that id."""
    for split in SPLITS:
        for record in load_split(split):
            if record["id"] == record_id:
                return Request(record_id, record["task"], record["prompt"])
    raise UserError(f"no record {record_id!r} in the splits {', '.join(SPLITS)}; an id reads like push-eval-0001")


def read_requests(path: Path) -> list[Request]:
    """The requests of a JSONL file: each line an `id`, a `task`, and `input`, or the `prompt` of a record.

    Raises `UserError` naming the line where one is malformed or an id repeats.
    """
    found: dict[str, Request] = {}
    for number, row in read_jsonl(path):
        where = f"{path}, line {number}"
        asked = _read_request(row, where)
        if asked.id in found:
            raise UserError(f"{where}: the id {asked.id!r} is also that of a line before")
        found[asked.id] = asked
    if not found:
        raise UserError(f"{path}: no requests; each line holds id, task and input")
    return list(found.values())


def answer_by_route(
    requests: Sequence[Request], route: Route, mode: str = "greedy", seed: int = evaluation.SEED
) -> list[dict[str, Any]]:
    """`answer` with each task's policy of a route, in the requests' order; every policy is loaded once."""
    names = [policy_of(route, asked.task)[0] for asked in requests]
    rows: dict[int, dict[str, Any]] = {}
    for name in dict.fromkeys(names):
        places = [place for place, chosen in enumerate(names) if chosen == name]
        found = load_run_policy(route.policies[name].run, route.policies[name].adapter)
        given = answer([requests[place] for place in places], found, name, mode, seed)
        rows |= dict(zip(places, given, strict=True))
    return [rows[place] for place in range(len(requests))]


def answer(
    requests: Sequence[Request],
    found: RunPolicy,
    name: str,
    mode: str = "greedy",
    seed: int = evaluation.SEED,
    on_batch: Callable[[int], None] | None = None,
) -> list[dict[str, Any]]:
    """One row a request: id, task, `policy` (= `name`), completion, clipped. Decoded as the run was evaluated; `seed`
    matters in mode `sample` alone.

    Raises `UserError` for a text that holds the chat template's own tokens, or is too long to be read.
    """
    settings = evaluation.settings_for(found.recipe, found.profile, mode, seed=seed)
    for asked in requests:
        _require_readable(found, asked, settings.limit)
    answers = evaluation.generate(found.policy, [asked.prompt for asked in requests], settings, on_batch)
    return [_row(asked, name, given) for asked, given in zip(requests, answers, strict=True)]


def serve_commands(route: Route) -> list[str]:
    """The `vllm serve` commands that serve a route on one GPU, one a base model, to be run in the project's folder.

    A client names the task as its model, sends that task's system prompt, and temperature 0 for greedy answers. The
    servers share the GPU's memory evenly; start one after the other.
    """
    served: dict[str, list[str]] = {}
    for task, entry in route.tasks.items():
        served.setdefault(read_origin(route.policies[entry.policy].run).base, []).append(task)
    return [
        shlex.join(_serve_arguments(route, base, tasks, GPU_SHARE / len(served), FIRST_PORT + number))
        for number, (base, tasks) in enumerate(served.items())
    ]


def _serve_arguments(route: Route, base: str, tasks: list[str], gpu_share: float, port: int) -> list[str]:
    policies = {task: route.policies[route.tasks[task].policy] for task in tasks}
    origins = [read_origin(policy.run) for policy in policies.values()]
    adapters = {task: policy.run / policy.adapter for task, policy in policies.items() if policy.adapter is not None}
    plain = [task for task in tasks if task not in adapters]
    return [
        *("vllm", "serve", base),
        *(("--served-model-name", base, *plain) if plain else ()),
        *(_lora_arguments(adapters, origins) if adapters else ()),
        *("--dtype", "bfloat16"),
        *("--max-model-len", str(max(origin.recipe.max_seq_length for origin in origins))),
        *("--generation-config", "vllm"),
        *("--gpu-memory-utilization", f"{gpu_share:.2f}"),
        *("--port", str(port)),
    ]


def _lora_arguments(adapters: dict[str, Path], origins: list[Origin]) -> list[str]:
    """Every task's adapter under the task's name, all of them in one batch, with the template they were trained on."""
    rank = max(origin.recipe.lora_r for origin in origins)
    templates = [folder / "chat_template.jinja" for folder in adapters.values()]
    template = next((path for path in templates if path.is_file()), None)
    return [
        *("--enable-lora", "--lora-modules", *(_lora_module(task, folder) for task, folder in adapters.items())),
        *("--max-loras", str(len(adapters))),
        *("--max-lora-rank", str(_accepted_rank(rank))),
        *(("--chat-template", _shown(template)) if template else ()),
    ]


def _lora_module(task: str, folder: Path) -> str:
    """`task=folder`; vLLM takes an item with a comma for JSON."""
    path = _shown(folder)
    return json.dumps({"name": task, "path": path}) if "," in path else f"{task}={path}"


def _accepted_rank(rank: int) -> int:
    """The smallest rank that vLLM accepts and `rank` fits in.

    >>> _accepted_rank(16), _accepted_rank(24)
    (16, 32)
    """
    fitting = [accepted for accepted in VLLM_LORA_RANKS if accepted >= rank]
    if not fitting:
        raise UserError(f"a LoRA of rank {rank}: vLLM serves ranks up to {VLLM_LORA_RANKS[-1]}; export it merged")
    return fitting[0]


def _shown(path: Path) -> str:
    path = path.resolve()
    return str(path.relative_to(PROJECT_ROOT) if path.is_relative_to(PROJECT_ROOT) else path)


def _row(asked: Request, name: str, given: Generation) -> dict[str, Any]:
    return {"id": asked.id, "task": asked.task, "policy": name, "completion": given.text, "clipped": given.clipped}


def _read_request(row: dict[str, Any], where: str) -> Request:
    for key in ("id", "task"):
        if not isinstance(row.get(key), str) or not row[key]:
            raise UserError(f"{where}: no `{key}`; each line holds id, task and input")
    text = row["input"] if "input" in row else _user_text(row.get("prompt"))
    if not isinstance(text, str):
        raise UserError(f"{where}: no text in `input`, and no user message in `prompt`")
    try:
        return Request(row["id"], row["task"], request(row["task"], text).prompt)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def _user_text(prompt: Any) -> Any:
    """The one user message of a record's prompt; None for what is not such a prompt."""
    messages = [message for message in prompt if isinstance(message, dict)] if isinstance(prompt, list) else []
    users = [message.get("content") for message in messages if message.get("role") == "user"]
    return users[0] if len(users) == 1 else None


def _require_readable(found: RunPolicy, asked: Request, limit: int) -> None:
    tokenizer: Any = found.policy.tokenizer
    text = asked.prompt[-1]["content"]
    forged = [token for token in tokenizer.all_special_tokens if token in text]
    if forged:
        first = min(forged, key=text.index)
        raise UserError(f"{asked.id} holds {first}, which the chat template gives a meaning; take it out")
    rendered = tokenizer.apply_chat_template(asked.prompt, tokenize=False, add_generation_prompt=True)
    tokens = len(tokenizer(rendered, add_special_tokens=False)["input_ids"])
    readable = found.recipe.max_seq_length - limit
    if tokens > readable:
        raise UserError(f"{asked.id} is {tokens} tokens long; beside an answer the policy reads {readable}, shorten it")
