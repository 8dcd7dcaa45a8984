"""The tasks, one row each. Every module that names tasks derives what it needs from `ROWS`.

Three modules belong to a task and are found by its name: `helpers.tasks.pairs.<name>` draws its records,
`helpers.rewards.<name>` scores its completions, `helpers.rewards.probes.<name>` puts that reward to the test.
docs/add_a_task.md adds a fifth task step by step.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from helpers.core.errors import require_known
from helpers.tasks.review import FIELDS_IN_PORTUGUESE

JSON_TASK = "extraction"
"""The task answered with a JSON object: the only one that the parser, its repairs and its stop rules concern."""

MAX_PUSH_CHARACTERS = 120


@dataclass(frozen=True)
class Task:
    """What the package needs to know of one task, apart from its three modules."""

    name: str
    label: str  # in figures and reports
    colour: str  # of the Okabe-Ito palette, one that no other task has
    system_prompt: str
    cues: str  # a regular expression of words that name the task in a request
    counts: Mapping[str, int]  # records per split
    meta_keys: tuple[str, ...]  # what `meta` of a record must hold
    fix: str  # what scenario C advises where this task lags
    fix_recipe: str = ""  # the recipe that does it; empty where the advice is no training
    reference_keys: tuple[str, ...] = ()  # what `reference` must hold beside `text`
    max_characters: int | None = None  # of a reference's text
    leave_out_near_duplicates: bool = False  # of held-out prompts, where most of a prompt is free text
    eval_subset: int = 15  # records of the eval split that steer a run
    samples: int = 1  # completions per prompt on whole splits; more for a noisy reward
    floor: float = 0.20  # mean reward below which the task lags (the handoff's scenario C)
    needs_large_policy: bool = False  # which side of the handoff's routing pin
    embedded_records: int = 8_000  # at most so many records of another shop for the embedded policies


ROWS: tuple[Task, ...] = (
    Task(
        name="extraction",
        label="Review extraction",
        colour="#0072B2",
        system_prompt=(
            "Você extrai dados de avaliações de clientes. Responda só com um objeto JSON com dez campos: "
            f"{FIELDS_IN_PORTUGUESE}."
        ),
        cues=r"\bjson\b|\bextra(?:ia|ir|ção|cao)\b",
        counts={"train": 594, "eval": 65, "test": 65},
        meta_keys=("review_score", "status", "delay_days"),
        reference_keys=("fields",),
        leave_out_near_duplicates=True,
        eval_subset=20,
        samples=2,
        floor=0.25,
        fix="reward ceiling: score the values of the fields against the reference, not their presence (v4.2c)",
        fix_recipe="v4.2c",
    ),
    Task(
        name="sql_qa",
        embedded_records=7_000,  # a shop has few more questions
        label="SQL questions",
        colour="#D55E00",
        system_prompt=(
            "Você é analista de dados de um e-commerce brasileiro. Responda com uma consulta SQLite em um bloco ```sql "
            "e uma explicação curta do que ela calcula e de como ler o resultado. Não invente números."
        ),
        cues=r"\bsql\b|\bquery\b",
        counts={"train": 594, "eval": 65, "test": 65},
        meta_keys=("family", "difficulty", "question", "ordered"),
        reference_keys=("sql", "result"),
        needs_large_policy=True,
        fix="capacity limit: accept it at 0.5B; keep extraction and push here, route sql_qa and insights to 3.7B",
    ),
    Task(
        name="insights",
        embedded_records=5_000,  # each takes 65 ms of queries
        label="Business insights",
        colour="#009E73",
        system_prompt=(
            "Você é analista de negócios de um e-commerce brasileiro. Escreva uma análise curta com achados, causas "
            "prováveis e ações recomendadas, citando os números da tabela."
        ),
        cues=r"\binsights?\b|\banalis\w+|\banális\w+|\bindicadores\b",
        counts={"train": 148, "eval": 65, "test": 65},
        meta_keys=("topic", "table"),
        needs_large_policy=True,
        fix=(
            "data starvation: generate 200 more insights pairs, about 350 in all, from negative reviews "
            "(v4.2c-insights)"
        ),
        fix_recipe="v4.2c-insights",
    ),
    Task(
        name="push",
        label="Push notifications",
        colour="#CC79A7",
        system_prompt=(
            "Você escreve notificações push para um e-commerce brasileiro. Responda com uma única notificação de até "
            f"{MAX_PUSH_CHARACTERS} caracteres, pessoal, com uma chamada para ação e sem fórmulas de carta."
        ),
        cues=r"\bpush\b|\bnotifica(?:ção|cao|ções|coes)\b",
        counts={"train": 148, "eval": 65, "test": 65},
        meta_keys=("kind", "context"),
        max_characters=MAX_PUSH_CHARACTERS,
        samples=8,  # they are short, and 65 answers do not show a gain of 0.02
        leave_out_near_duplicates=True,
        fix="the handoff names no fix for push: score its facts too, with reward v4.2 for push alone (v4.2c-push)",
        fix_recipe="v4.2c-push",
    ),
)

TASKS: tuple[str, ...] = tuple(row.name for row in ROWS)

_ROW_OF = {row.name: row for row in ROWS}
_CUES = {row.name: re.compile(row.cues, re.IGNORECASE) for row in ROWS}
_QUESTION = re.compile(r"\b(?:quant[oa]s?|qual|quais)\b[^?]*\?", re.IGNORECASE)


def task(name: str) -> Task:
    """The row of a task; `UserError` lists the valid names.

    >>> task("push").label
    'Push notifications'
    """
    require_known("task", name, TASKS)
    return _ROW_OF[name]


def build_prompt(task: str, user_text: str) -> list[dict[str, str]]:
    """The chat messages of one request: the task's system prompt, then the user's text.

    >>> [message["role"] for message in build_prompt("push", "Escreva uma notificação push ...")]
    ['system', 'user']
    """
    return [{"role": "system", "content": _ROW_OF[task].system_prompt}, {"role": "user", "content": user_text}]


def user_text(prompt: list[dict[str, Any]]) -> str:
    """The user turns of a prompt, joined; what `classify_task` reads."""
    return " ".join(message["content"] for message in prompt if message["role"] == "user")


def classify_task(user_text: str) -> str:
    """Guess the task from what a user asks. Records carry their `task`; this is for text from elsewhere.

    The first cue in the text decides; without any, a question about quantities is `sql_qa` and other prose `insights`.

    >>> classify_task("Escreva uma notificação push para Ana.")
    'push'
    >>> classify_task("Qual é o ticket médio por estado?")
    'sql_qa'
    """
    cues = [(match.start(), name) for name, cue in _CUES.items() if (match := cue.search(user_text))]
    if cues:
        return min(cues)[1]
    return "sql_qa" if _QUESTION.search(user_text) else "insights"
