"""The handoff's four questions and its decision tree, answered with intervals.

A threshold is met when the whole 95 % interval lies at or above it, missed when the whole interval lies under it, and
otherwise open. The tree is walked with every open point both ways; a scenario is decided when all ways lead to it. The
first that holds counts, A before B before C, then "none" (a run that fits no branch).

    A     mean reward at the end >= 0.55
    B     not 0.03 above V4's plateau, and extraction not 0.03 above V4's baseline (the handoff's "still at 0.476" and
          "still at 0.17"; its own stop table draws that line at 0.20), and not clearly worse than V4
    C     at least 0.03 above V4's plateau, and a task under its floor (extraction 0.25, others 0.20) at the end and on
          the mean of the last three evaluations

V4's plateau and baseline come from a V4 run of the same policy, or from the handoff where the policy is its hub model.
Fewer than ten prompts per task decide nothing.
"""

from helpers.runs.decision.effects import Effects, effects, parser_effect
from helpers.runs.decision.facts import (
    FLOORS,
    HANDOFF,
    TARGET,
    Fact,
    Reference,
    fact,
    reference_for,
    reference_from,
    reference_run,
)
from helpers.runs.decision.questions import Answer, answer_questions
from helpers.runs.decision.tree import Decision, decide
