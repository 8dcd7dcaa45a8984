import math

import pytest

from helpers.core.errors import UserError
from helpers.runs import stop_rules
from helpers.runs.stop_rules import RuleStatus, evaluate_rules


def states(history: list[dict], max_steps: int = 600, **settings) -> dict[str, str]:
    return {status.rule.name: status.state for status in evaluate_rules(history, max_steps, **settings)}


def curve(key: str, values: dict[int, float]) -> list[dict]:
    return [{"step": step, key: value} for step, value in values.items()]


def flat(key: str, value: float, steps: int = 60) -> list[dict]:
    return curve(key, dict.fromkeys(range(1, steps + 1), value))


def test_the_handoffs_six_rows_come_first_and_in_its_order() -> None:
    metrics = [rule.metric for rule in stop_rules.RULES if rule.from_handoff]
    assert metrics == [
        "eval/mean_reward",
        "eval/extraction",
        "train/completion_length",
        "train/frac_reward_zero_std",
        "train/grad_norm",
        "train/kl",
    ]
    assert stop_rules.RULES[:6] == tuple(rule for rule in stop_rules.RULES if rule.from_handoff)


def test_steps_and_lengths_are_the_handoffs_at_600_steps_and_512_tokens() -> None:
    table = stop_rules.status_panel(evaluate_rules([], 600))
    assert table[0]["Expected"] == "improves past step 130, on to about step 400"
    assert table[0]["Stop if"] == "plateaus before step 200, as V4 did"
    assert table[1]["Stop if"] == "still below 0.20 after step 100"
    assert (table[2]["Expected"], table[2]["Stop if"]) == ("100 to 400", "hits the limit of 512")


def test_steps_scale_with_the_run_and_lengths_with_the_limit() -> None:
    table = stop_rules.status_panel(evaluate_rules([], 150, limit=192))
    assert table[1]["Stop if"] == "still below 0.20 after step 25"
    assert table[2]["Expected"] == "38 to 150"


def test_before_anything_is_logged_there_is_no_data_and_kl_is_ignored() -> None:
    found = states([])
    assert found.pop("kl") == "ignored"
    assert found.pop("reward_errors") == "ok"
    assert set(found.values()) == {"no data"}


@pytest.mark.parametrize(
    ("later", "state"),
    [
        ({}, "ok"),
        ({150: 0.46, 190: 0.47}, "watch"),
        ({150: 0.46, 200: 0.476}, "triggered"),
        ({150: 0.46, 200: 0.477}, "ok"),
        ({200: 0.46}, "watch"),
        ({150: 0.46, 200: 0.46, 300: 0.49}, "ok"),
    ],
)
def test_a_plateau_is_no_new_best_since_step_130_judged_from_step_200(later: dict[int, float], state: str) -> None:
    history = curve("eval/mean_reward", {0: 0.36, 60: 0.42, 130: 0.476} | later)
    assert states(history)["mean_reward"] == state


def test_after_step_400_a_plateau_triggers_nothing_but_a_run_that_never_rose_is_watched() -> None:
    never_rose = curve("eval/mean_reward", {0: 0.36, 130: 0.476, 200: 0.46, 410: 0.47})
    assert states(never_rose)["mean_reward"] == "watch"
    rose = curve("eval/mean_reward", {0: 0.36, 130: 0.476, 300: 0.52, 410: 0.51, 600: 0.51})
    assert states(rose)["mean_reward"] == "ok"


@pytest.mark.parametrize(
    ("values", "state"),
    [
        ({0: 0.17, 100: 0.19}, "watch"),
        ({0: 0.17, 110: 0.19}, "watch"),
        ({110: 0.19, 120: 0.199}, "triggered"),
        ({110: 0.19, 120: 0.20}, "ok"),
        ({110: 0.21, 120: 0.19}, "watch"),
    ],
)
def test_extraction_below_020_twice_after_step_100_triggers(values: dict[int, float], state: str) -> None:
    assert states(curve("eval/extraction", values))["extraction"] == state


def test_another_policys_baseline_moves_the_extraction_floor() -> None:
    history = curve("eval/extraction", {110: 0.42, 120: 0.42})
    assert states(history, extraction_baseline=0.40)["extraction"] == "triggered"
    assert states(history, extraction_baseline=0.35)["extraction"] == "ok"


@pytest.mark.parametrize(("length", "state"), [(250, "ok"), (60, "watch"), (450, "watch"), (512, "triggered")])
def test_completions_at_the_limit_trigger(length: float, state: str) -> None:
    assert states(flat("train/completion_length", length))["completion_length"] == state


@pytest.mark.parametrize(("share", "state"), [(0.1, "ok"), (0.3, "watch"), (0.5, "watch"), (0.51, "triggered")])
def test_groups_without_difference_trigger_when_it_lasts(share: float, state: str) -> None:
    assert states(flat("train/frac_reward_zero_std", share))["zero_std"] == state


def test_a_few_steps_without_difference_do_not_trigger() -> None:
    assert states(flat("train/frac_reward_zero_std", 1.0, steps=6))["zero_std"] == "watch"


@pytest.mark.parametrize(("peak", "state"), [(0.2, "ok"), (2.0, "ok"), (2.01, "triggered"), (math.inf, "triggered")])
def test_a_gradient_spike_triggers(peak: float, state: str) -> None:
    history = flat("train/grad_norm", 0.2)
    history[-1]["train/grad_norm"] = peak
    assert states(history)["grad_norm"] == state


def test_a_gradient_that_is_not_a_number_triggers() -> None:
    history = flat("train/grad_norm", 0.2)
    history[-2]["train/grad_norm"] = "NaN"
    assert states(history)["grad_norm"] == "triggered"


def test_kl_counts_only_when_beta_is_not_zero() -> None:
    history = curve("train/kl", {5: 0.3})
    assert states(history)["kl"] == "ignored"
    assert states(history, beta=0.04)["kl"] == "ok"


def test_clipped_completions_entropy_and_reward_errors_are_watched_too() -> None:
    assert states(flat("train/clipped_ratio", 0.6))["clipped"] == "triggered"
    falling = curve("train/entropy", {step: 1.0 / step for step in range(1, 61)})
    assert states(falling)["entropy"] == "triggered"
    rising = curve("train/entropy", {step: 0.3 + 0.005 * step for step in range(1, 61)})
    assert states(rising)["entropy"] == "watch"
    assert states(curve("train/reward_errors", {3: 1}))["reward_errors"] == "triggered"


@pytest.mark.parametrize(("gap", "state"), [(1.5e-6, "ok"), (0.02, "ok"), (0.05, "watch"), (0.2, "triggered")])
def test_an_engine_that_drifts_from_the_trainer_triggers_when_it_lasts(gap: float, state: str) -> None:
    assert states(flat("train/logp_difference", gap))["engine"] == state
    assert states(flat("train/logp_difference", gap, steps=3))["engine"] in (state, "watch")


def test_the_engines_row_tells_the_importance_ratio_too() -> None:
    history = [{"step": 1, "train/logp_difference": 1e-6, "train/importance_ratio": 1.00001}]
    status = {s.rule.name: s for s in evaluate_rules(history, 600)}["engine"]
    assert status.message == "1e-06 per token on average since step 1; importance ratio 1.000 on average"


def test_a_task_that_was_never_shown_is_watched() -> None:
    history = [{"step": 120, "train/prompts_seen/push": 0, "train/prompts_seen/extraction": 90}]
    status = {s.rule.name: s for s in evaluate_rules(history, 600)}["prompts_seen"]
    assert status.state == "watch" and "push" in status.message
    alone = {s.rule.name: s for s in evaluate_rules(history, 600, only_task="extraction")}["prompts_seen"]
    assert alone.state == "ok" and "extraction has shown 90" in alone.message


def test_a_rule_stops_only_where_it_is_told_to() -> None:
    history = flat("train/grad_norm", 3.0)

    def spike(**settings) -> RuleStatus:
        return {s.rule.name: s for s in evaluate_rules(history, 600, **settings)}["grad_norm"]

    assert not spike().stops
    assert spike(actions={"grad_norm": "stop"}).stops
    assert "3 at step" in spike().message


@pytest.mark.parametrize("actions", [{"gradnorm": "stop"}, {"grad_norm": "explode"}])
def test_an_unknown_rule_or_action_is_refused(actions: dict) -> None:
    with pytest.raises(UserError, match="valid ones are"):
        evaluate_rules([], 600, actions=actions)


def test_the_line_shows_the_handoffs_rows_and_what_else_is_not_well() -> None:
    line = stop_rules.status_line(evaluate_rules(flat("train/clipped_ratio", 0.6), 600))
    assert line.startswith("step 60 | mean_reward no data") and "kl ignored" in line
    assert "clipped 0.6 triggered" in line and "entropy" not in line and "\n" not in line


def test_the_history_of_the_table_uses_only_what_was_logged_by_then() -> None:
    history = curve("eval/extraction", {0: 0.17, 110: 0.19, 120: 0.19})
    history += curve("eval/mean_reward", {0: 0.3, 110: 0.4, 120: 0.4})
    told = [
        (step, {s.rule.name: s.state for s in found}["extraction"])
        for step, found in stop_rules.rule_history(history, 600)
    ]
    assert told == [(0, "watch"), (110, "watch"), (120, "triggered")]
