"""Answers: a run's policy answers a user's text, here or through vLLM on a GPU.

A request is the task's system prompt and the user's text (`tasks.build_prompt`), as in training. What a user sends is
never trusted: chat tokens in it would forge turns, and tokens beyond what the policy reads would be lost silently.
"""

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.core.errors import UserError, require_known
from helpers.core.files import read_jsonl, shown
from helpers.policy import generation
from helpers.policy.loading import RunPolicy, load_run_policy
from helpers.policy.serve.route import Route, policy_name
from helpers.runs.origin import read_origin
from helpers.tasks import TASKS, build_prompt
from helpers.tasks.records import SPLITS, load_split

VLLM_LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The values of --max-lora-rank that vLLM 0.19 and 0.30 accept (vllm/config/lora.py, MaxLoRARanks)."""

GPU_SHARE = 0.9
"""Share of the GPU's memory for all servers of a route together; vLLM's own default for one is 0.92."""

FIRST_PORT = 8000


@dataclass(frozen=True)
class Request:
    """What is to be answered: an id, a task, and the chat messages before the answer."""

    id: str
    task: str
    prompt: list[dict[str, str]]


def text_request(task: str, text: str, request_id: str = "input") -> Request:
    """A user's text under the task's system prompt. `UserError` for an unknown task or an empty text.

    >>> [message["role"] for message in text_request("push", "Cliente: Ana").prompt]
    ['system', 'user']
    """
    require_known("task", task, TASKS)
    if not text.strip():
        raise UserError("input is empty; give the text that the task is about")
    return Request(request_id, task, build_prompt(task, text))


def record_request(record_id: str) -> Request:
    """The request that a shipped record makes. `UserError` where no split has a record of that id."""
    for split in SPLITS:
        for record in load_split(split):
            if record["id"] == record_id:
                return Request(record_id, record["task"], record["prompt"])
    raise UserError(f"no record {record_id!r} in the splits {', '.join(SPLITS)}; an id reads like push-eval-0001")


def read_requests(path: Path) -> list[Request]:
    """The requests of a JSONL file, one per line: `id`, `task`, and `input` or a record's `prompt`."""
    requests: dict[str, Request] = {}
    for number, row in read_jsonl(path):
        where = f"{path}, line {number}"
        request = _read_request(row, where)
        if request.id in requests:
            raise UserError(f"{where}: the id {request.id!r} is also that of a line before")
        requests[request.id] = request
    if not requests:
        raise UserError(f"{path}: no requests; each line holds id, task and input")
    return list(requests.values())


def answer_by_route(
    requests: Sequence[Request], route: Route, mode: str = "greedy", seed: int = generation.SEED
) -> list[dict[str, Any]]:
    """`answer_requests` with each task's policy of a route, in the requests' order; every policy is loaded once."""
    names = [policy_name(route, request.task) for request in requests]
    rows: dict[int, dict[str, Any]] = {}
    for name in dict.fromkeys(names):
        places = [place for place, chosen in enumerate(names) if chosen == name]
        run_policy = load_run_policy(route.policies[name].run, route.policies[name].adapter)
        answers = answer_requests([requests[place] for place in places], run_policy, name, mode, seed)
        rows |= dict(zip(places, answers, strict=True))
    return [rows[place] for place in range(len(requests))]


def answer_requests(
    requests: Sequence[Request], run_policy: RunPolicy, name: str, mode: str = "greedy", seed: int = generation.SEED
) -> list[dict[str, Any]]:
    """One row per request: id, task, `policy` (= `name`), completion, clipped. Decoded as the run was evaluated.

    Raises `UserError` for a text that holds the chat template's own tokens, or is too long to be read.
    """
    settings = generation.settings_for(run_policy.recipe, run_policy.profile, mode, seed=seed)
    for request in requests:
        _require_readable(run_policy, request, settings.limit)
    answers = generation.generate(run_policy.policy, [request.prompt for request in requests], settings)
    return [
        {"id": request.id, "task": request.task, "policy": name, "completion": given.text, "clipped": given.clipped}
        for request, given in zip(requests, answers, strict=True)
    ]


def serve_commands(route: Route) -> list[str]:
    """The `vllm serve` commands that serve a route on one GPU, one per base model, to be run in the project's folder.

    A client names the task as its model, sends that task's system prompt, and temperature 0 for greedy answers. The
    servers share the GPU's memory evenly; start one after the other.
    """
    tasks_of: dict[str, list[str]] = {}
    for task, entry in route.tasks.items():
        tasks_of.setdefault(read_origin(route.policies[entry.policy].run).base, []).append(task)
    commands = []
    for number, (base, tasks) in enumerate(tasks_of.items()):
        policies = {task: route.policies[route.tasks[task].policy] for task in tasks}
        origins = [read_origin(policy.run) for policy in policies.values()]
        recipes = [origin.recipe for origin in origins]
        adapters = {task: policy.run / policy.adapter for task, policy in policies.items()}
        arguments = [
            *("vllm", "serve", base),
            *_lora_arguments(adapters, max(recipe.lora_r for recipe in recipes)),
            *("--dtype", origins[0].profile.dtype),
            *("--max-model-len", str(max(recipe.max_seq_length for recipe in recipes))),
            *("--generation-config", "vllm"),  # not the model card's sampling advice
            *("--gpu-memory-utilization", f"{GPU_SHARE / len(tasks_of):.2f}"),
            *("--port", str(FIRST_PORT + number)),
        ]
        commands.append(shlex.join(arguments))
    return commands


def _lora_arguments(adapters: dict[str, Path], rank: int) -> list[str]:
    """Every task's adapter under the task's name, all of them in one batch, with the template they were trained on."""
    modules: list[str] = []
    template: list[str] = []
    for task, folder in adapters.items():
        path = shown(folder.resolve())
        # vLLM takes an item with a comma for JSON.
        modules.append(json.dumps({"name": task, "path": path}) if "," in path else f"{task}={path}")
        if not template and (folder / "chat_template.jinja").is_file():
            template = ["--chat-template", shown((folder / "chat_template.jinja").resolve())]
    arguments = ["--enable-lora", "--lora-modules", *modules, "--max-loras", str(len(adapters))]
    return [*arguments, "--max-lora-rank", str(_accepted_rank(rank)), *template]


def _accepted_rank(rank: int) -> int:
    """The smallest rank that vLLM accepts and `rank` fits in.

    >>> _accepted_rank(16), _accepted_rank(24)
    (16, 32)
    """
    fitting = [accepted for accepted in VLLM_LORA_RANKS if accepted >= rank]
    if not fitting:
        raise UserError(f"a LoRA of rank {rank}: vLLM serves ranks up to {VLLM_LORA_RANKS[-1]}; export it merged")
    return fitting[0]


def _read_request(row: dict[str, Any], where: str) -> Request:
    for key in ("id", "task"):
        if not isinstance(row.get(key), str) or not row[key]:
            raise UserError(f"{where}: no `{key}`; each line holds id, task and input")
    text = row.get("input", _user_text(row.get("prompt")))
    if not isinstance(text, str):
        raise UserError(f"{where}: no text in `input`, and no user message in `prompt`")
    try:
        return text_request(row["task"], text, row["id"])
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def _user_text(prompt: Any) -> Any:
    """The one user message of a record's prompt; None for what is not such a prompt."""
    messages = [message for message in prompt if isinstance(message, dict)] if isinstance(prompt, list) else []
    users = [message.get("content") for message in messages if message.get("role") == "user"]
    return users[0] if len(users) == 1 else None


def _require_readable(run_policy: RunPolicy, request: Request, limit: int) -> None:
    tokenizer: Any = run_policy.policy.tokenizer
    text = request.prompt[-1]["content"]
    forged = [token for token in tokenizer.all_special_tokens if token in text]
    if forged:
        first = min(forged, key=text.index)
        raise UserError(f"{request.id} holds {first}, which the chat template gives a meaning; take it out")
    rendered = tokenizer.apply_chat_template(request.prompt, tokenize=False, add_generation_prompt=True)
    tokens = len(tokenizer(rendered, add_special_tokens=False)["input_ids"])
    readable = run_policy.recipe.max_seq_length - limit
    if tokens > readable:
        raise UserError(
            f"{request.id} is {tokens} tokens long; beside an answer the policy reads {readable}, shorten it"
        )
