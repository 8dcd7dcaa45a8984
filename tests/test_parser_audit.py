"""The parser audit: parsers on trial in processes of their own, judged by value, and their effect on a reward."""

import json
from pathlib import Path

import pytest

from helpers.cli import main
from helpers.core.errors import UserError
from helpers.parsing import PARSERS
from helpers.parsing import audit as audits
from helpers.parsing.audit import UNKNOWN, Case, audit, by_family, judge, newly_parsed, summary
from helpers.parsing.trials import PARSER_NAMES, Trial, run_trials
from helpers.plots import family_map, outcome_bars
from helpers.runs.decision.effects import parser_effect

CASES = [
    Case("strict", "strict", '{"nota": 4.5}', {"nota": 4.5}),
    Case("comma", "decimal_comma", '{"nota": 4,5}', {"nota": 4.5}),
    Case("array", "decimal_comma", '{"notas": [1,2], "media": 1,5}', {"notas": [1, 2], "media": 1.5}),
    Case("prose", "reject", "Não sei.", None),
]


@pytest.fixture(scope="module")
def results():
    return audit(CASES, ("regex", "handoff", "tolerant"))


def test_a_trial_is_judged_by_value() -> None:
    assert judge(Trial("object", {"a": 4}), {"a": 4.0}) == "right"
    assert judge(Trial("object", {"a": True}), {"a": 1}) == "wrong"
    assert judge(Trial("object", {}), None) == "false accept"
    assert judge(Trial("rejected"), {"a": 1}) == "missed"
    assert judge(Trial("object", {"a": 1}), UNKNOWN) == "parsed"
    assert judge(Trial("timeout"), None) == "timeout"


def test_every_parser_gets_one_row_a_case(results) -> None:
    assert len(results) == 3 * len(CASES)
    assert summary(results).loc["tolerant", "right"] == len(CASES)
    assert summary(results).loc["handoff", "wrong"] == 1


def test_what_only_the_later_parser_reads_is_listed_by_id(results) -> None:
    assert newly_parsed(results) == ["comma", "array"]
    assert newly_parsed(results, "handoff", "tolerant") == ["array"]
    assert by_family(results).loc["decimal_comma", "handoff"] == 0.5


def test_a_text_that_takes_too_long_is_a_timeout_and_the_next_one_is_still_read() -> None:
    slow = '{"a": x' + "1" * 300_000 + "}"
    trials = list(run_trials("handoff", [slow, '{"a": 1}'], limit=0.3))
    assert trials[0].outcome == "timeout"
    assert trials[1].value == {"a": 1}


def test_a_parser_that_crashes_is_an_exception_and_the_next_text_is_still_read() -> None:
    trials = list(run_trials("regex", ['{"a": ' + "9" * 5000 + "}", '{"a": 1}']))
    assert (trials[0].outcome, trials[0].detail) == ("exception", "ValueError")
    assert trials[1].outcome == "object"


@pytest.mark.parametrize("name", PARSER_NAMES)
def test_every_installed_parser_reads_strict_json(name: str) -> None:
    assert next(iter(run_trials(name, ['{"nota": 4.5, "texto": "é"}']))).value == {"nota": 4.5, "texto": "é"}


def test_the_parser_effect_is_the_paired_difference_of_the_rewards() -> None:
    fields = {"sentiment": "positive", "sentiment_score": 4.5}
    record = {"id": "r", "task": "extraction", "reference": {"fields": fields}, "meta": {}}
    strict = json.dumps(fields)
    pairs = [(strict, record), (strict.replace("4.5", "4,5"), record)] * 10
    assert parser_effect(pairs, "handoff", "tolerant").mean == 0
    assert parser_effect(pairs, "regex", "tolerant").low > 0
    assert set(PARSERS) == {"regex", "handoff", "tolerant"}


def test_repairs_seen_counts_texts_and_classes() -> None:
    table = audits.repairs_seen(['{"a": 4,5}', "{'a': 4,5}", '{"a": 1}', "nada"])
    assert table.set_index("repair")["texts"].to_dict() == {"decimal_comma": 2, "quotes": 1}
    assert table.attrs["classes"] == {"lossless": 2, "clean": 1}


def test_figures_are_drawn_from_the_audit_table(results) -> None:
    assert len(family_map(results).axes[0].get_yticks()) == 3
    assert len(outcome_bars(results).axes[0].get_yticks()) == 3


def test_completions_are_read_from_a_run_and_other_tasks_left_out(tmp_path: Path) -> None:
    path = tmp_path / "eval.jsonl"
    rows = [{"task": "extraction", "completion": "{}"}, {"task": "push", "completion": "Oi"}, {"text": "x"}]
    path.write_text("\n".join(map(json.dumps, rows)))
    assert audits.load_completions(path) == ["{}", "x"]
    path.write_text('{"completion": "{}"}\n{"completion": 4}\n')
    with pytest.raises(UserError, match="line 2"):
        audits.load_completions(path)
    path.write_text("")
    with pytest.raises(UserError, match="no extraction completion"):
        audits.load_completions(path)


def test_the_verb_audits_a_users_completions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps({"completion": '{"sentiment_score": 4,5}'}) + "\n")
    code = main(["audit-parser", "--completions", str(path), "--parsers", "regex", "tolerant", "--out", str(tmp_path)])
    assert code == 0
    assert "1 of 1 completions" in capsys.readouterr().out
    assert {"outcomes.csv", "families.png", "outcomes.png"} <= {file.name for file in tmp_path.iterdir()}


def test_an_unknown_parser_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit-parser", "--parsers", "magic"]) == 2
    assert "unknown parser 'magic'" in capsys.readouterr().err
