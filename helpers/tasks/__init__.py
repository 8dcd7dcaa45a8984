"""What is asked, on which data: the tasks, their records, the pairs, the shop."""

from helpers.tasks.review import (
    COMPLAINT_CATEGORIES,
    ENUM_VALUES,
    LEVELS,
    MAX_COMPLAINT_CHARACTERS,
    REVIEW_FIELDS,
    SCORE_RANGE,
    SENTIMENTS,
)
from helpers.tasks.spec import (
    JSON_TASK,
    MAX_PUSH_CHARACTERS,
    ROWS,
    TASKS,
    Task,
    build_prompt,
    classify_task,
    task,
    user_text,
)
