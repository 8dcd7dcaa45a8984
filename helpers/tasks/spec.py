"""The four tasks: their names, the review schema, the prompts, and telling a task from a user's text."""

import re
from typing import Any, Literal

TASKS: tuple[str, ...] = ("extraction", "sql_qa", "insights", "push")

SENTIMENTS = ("positive", "neutral", "negative")
LEVELS = ("low", "medium", "high")
COMPLAINT_CATEGORIES = (
    "none",
    "late_delivery",
    "not_delivered",
    "damaged_product",
    "wrong_product",
    "product_quality",
    "customer_service",
    "payment_refund",
)
SCORE_RANGE = (1.0, 5.0)
MAX_COMPLAINT_CHARACTERS = 120
MAX_PUSH_CHARACTERS = 120

FieldKind = Literal["enum", "score", "bool", "text"]

REVIEW_FIELDS: dict[str, FieldKind] = {
    "sentiment": "enum",
    "sentiment_score": "score",
    "complaint_category": "enum",
    "churn_risk": "enum",
    "urgency": "enum",
    "delivery_issue": "bool",
    "product_issue": "bool",
    "seller_issue": "bool",
    "would_buy_again": "bool",
    "main_complaint": "text",
}
"""The ten fields of an extracted review, in the order in which references write them."""

ENUM_VALUES: dict[str, tuple[str, ...]] = {
    "sentiment": SENTIMENTS,
    "complaint_category": COMPLAINT_CATEGORIES,
    "churn_risk": LEVELS,
    "urgency": LEVELS,
}

SYSTEM_PROMPTS: dict[str, str] = {
    "extraction": (
        "Você extrai dados de avaliações de clientes. Responda só com um objeto JSON com dez campos: "
        "sentiment (positive, neutral, negative); sentiment_score (1.0 a 5.0); complaint_category "
        f"({', '.join(COMPLAINT_CATEGORIES)}); churn_risk e urgency (low, medium, high); "
        "delivery_issue, product_issue, seller_issue e would_buy_again (true, false); "
        "main_complaint (texto de até 120 caracteres ou null)."
    ),
    "sql_qa": (
        "Você é analista de dados de um e-commerce brasileiro. Responda com uma consulta SQLite em um bloco ```sql "
        "e uma explicação curta do que ela calcula e de como ler o resultado. Não invente números."
    ),
    "insights": (
        "Você é analista de negócios de um e-commerce brasileiro. Escreva uma análise curta com achados, causas "
        "prováveis e ações recomendadas, citando os números da tabela."
    ),
    "push": (
        "Você escreve notificações push para um e-commerce brasileiro. Responda com uma única notificação de até "
        "120 caracteres, pessoal, com uma chamada para ação e sem fórmulas de carta."
    ),
}

# Words that name a task in a request; where several occur, the first one in the text is the request itself.
_CUES: dict[str, re.Pattern[str]] = {
    "push": re.compile(r"\bpush\b|\bnotifica(?:ção|cao|ções|coes)\b", re.IGNORECASE),
    "sql_qa": re.compile(r"\bsql\b|\bquery\b", re.IGNORECASE),
    "extraction": re.compile(r"\bjson\b|\bextra(?:ia|ir|ção|cao)\b", re.IGNORECASE),
    "insights": re.compile(r"\binsights?\b|\banalis\w+|\banális\w+|\bindicadores\b", re.IGNORECASE),
}
_QUESTION = re.compile(r"\b(?:quant[oa]s?|qual|quais)\b[^?]*\?", re.IGNORECASE)


def build_prompt(task: str, user_text: str) -> list[dict[str, str]]:
    """The chat messages of one request: the task's system prompt, then the user's text.

    >>> [message["role"] for message in build_prompt("push", "Escreva uma notificação push ...")]
    ['system', 'user']
    """
    return [{"role": "system", "content": SYSTEM_PROMPTS[task]}, {"role": "user", "content": user_text}]


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
    found = [(match.start(), task) for task, cue in _CUES.items() if (match := cue.search(user_text))]
    if found:
        return min(found)[1]
    return "sql_qa" if _QUESTION.search(user_text) else "insights"
