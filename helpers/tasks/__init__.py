"""What is asked, on which data: the tasks, their records, the pairs, the shop."""

from helpers.tasks.spec import (
    COMPLAINT_CATEGORIES,
    ENUM_VALUES,
    LEVELS,
    MAX_COMPLAINT_CHARACTERS,
    MAX_PUSH_CHARACTERS,
    REVIEW_FIELDS,
    SCORE_RANGE,
    SENTIMENTS,
    SYSTEM_PROMPTS,
    TASKS,
    FieldKind,
    build_prompt,
    classify_task,
    user_text,
)

__all__ = [
    "COMPLAINT_CATEGORIES",
    "ENUM_VALUES",
    "LEVELS",
    "MAX_COMPLAINT_CHARACTERS",
    "MAX_PUSH_CHARACTERS",
    "REVIEW_FIELDS",
    "SCORE_RANGE",
    "SENTIMENTS",
    "SYSTEM_PROMPTS",
    "TASKS",
    "FieldKind",
    "build_prompt",
    "classify_task",
    "user_text",
]
