"""Rewards: one module a task, `score` for one completion, `reward_functions` for TRL, `audit` to try to cheat them."""

from helpers.rewards.base import ONE_TASK_VERSIONS, VERSIONS, WEIGHTS, Score, parser_of
from helpers.rewards.scoring import score, score_row
from helpers.rewards.trl import reward_functions

__all__ = ["ONE_TASK_VERSIONS", "VERSIONS", "WEIGHTS", "Score", "parser_of", "reward_functions", "score", "score_row"]
