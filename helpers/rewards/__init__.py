"""Rewards: a module per task, `score` for one completion, `reward_functions` for TRL, `audit` to try to cheat them."""

from helpers.rewards.base import ONE_TASK_VERSIONS, VERSIONS, Score, parser_of
from helpers.rewards.scoring import WEIGHTS, score, score_row
from helpers.rewards.sql_sandbox import run_query
from helpers.rewards.trl import RewardFunction, record_errors, reward_functions

__all__ = [
    "ONE_TASK_VERSIONS",
    "VERSIONS",
    "WEIGHTS",
    "RewardFunction",
    "Score",
    "parser_of",
    "record_errors",
    "reward_functions",
    "run_query",
    "score",
    "score_row",
]
