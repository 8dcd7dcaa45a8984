"""The form rewards v4 and v4.1, the adapters for TRL, and what holds for every reward and any text."""

import json
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_review import FIELDS

from helpers.core.errors import UserError
from helpers.parsing.baselines import PARSERS
from helpers.rewards import VERSIONS, WEIGHTS, record_errors, reward_functions, score
from helpers.rewards import trl as adapters_module
from helpers.tasks import REVIEW_FIELDS, TASKS
from helpers.tasks.records import load_split

DRAWS = 500
SLOW_DRAWS = 10_000

PUSH = {"id": "p", "meta": {"context": {"name": "Ana Souza", "product": "tênis de corrida"}}}


def extraction(fields: dict[str, Any] | str, version: str = "v4.1") -> Any:
    text = fields if isinstance(fields, str) else json.dumps(fields, ensure_ascii=False)
    return score("extraction", text, {}, version)


@pytest.fixture(scope="module")
def first_of() -> dict[str, dict[str, Any]]:
    return {record["task"]: record for record in reversed(load_split("eval"))}


class TestWeights:
    @pytest.mark.parametrize("version", VERSIONS)
    @pytest.mark.parametrize("task", TASKS)
    def test_gains_of_a_task_sum_to_one(self, version: str, task: str) -> None:
        assert sum(weight for weight in WEIGHTS[version][task].values() if weight > 0) == pytest.approx(1.0)

    @pytest.mark.parametrize("version", VERSIONS)
    @pytest.mark.parametrize("task", TASKS)
    def test_the_total_is_the_weighted_sum_of_the_parts(
        self, first_of: dict[str, Any], commerce_db: Path, version: str, task: str
    ) -> None:
        record = first_of[task]
        found = score(task, record["reference"]["text"], record, version)
        weights = WEIGHTS[version][task]
        assert found.parts.keys() == weights.keys()
        assert found.total == pytest.approx(sum(weights[part] * share for part, share in found.parts.items()))

    def test_v4_and_v41_differ_in_the_parser_only(self) -> None:
        assert WEIGHTS["v4"] == WEIGHTS["v4.1"]
        comma = json.dumps(FIELDS).replace("1.5", "1,5")
        assert (extraction(comma, "v4").total, extraction(comma, "v4.1").total) == (0.0, 1.0)


class TestExtractionForm:
    def test_ten_valid_fields_earn_everything(self) -> None:
        assert extraction(FIELDS).total == 1.0

    def test_an_empty_object_earns_parsing_alone(self) -> None:
        assert extraction("{}").total == pytest.approx(0.20)

    def test_each_field_present_is_worth_four_hundredths(self) -> None:
        assert extraction({"unknown": 1, "sentiment_score": "high"}).total == pytest.approx(0.20 + 0.04)

    def test_a_valid_sentiment_is_worth_five_hundredths(self) -> None:
        loss = extraction(FIELDS).total - extraction(FIELDS | {"sentiment": "angry"}).total
        assert loss == pytest.approx(0.05)

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("sentiment_score", True),
            ("sentiment_score", 0.9),
            ("sentiment_score", 5.1),
            ("sentiment_score", "4"),
            ("complaint_category", "other"),
            ("complaint_category", ["none"]),
            ("churn_risk", "HIGH"),
            ("urgency", None),
            ("delivery_issue", 1),
            ("seller_issue", "false"),
            ("would_buy_again", None),
            ("main_complaint", ""),
            ("main_complaint", "x" * 121),
            ("main_complaint", 7),
        ],
    )
    def test_an_invalid_value_fails_one_check(self, field: str, value: Any) -> None:
        assert extraction(FIELDS | {field: value}).total == pytest.approx(0.95)

    @pytest.mark.parametrize("value", [None, "x", "x" * 120])
    def test_a_complaint_is_null_or_up_to_120_characters(self, value: str | None) -> None:
        assert extraction(FIELDS | {"main_complaint": value}).total == 1.0

    def test_a_missing_complaint_is_not_a_null_one(self) -> None:
        short = {name: value for name, value in FIELDS.items() if name != "main_complaint"}
        assert extraction(short).total == pytest.approx(1.0 - 0.04 - 0.05)

    def test_another_parser_can_be_tried_on_the_same_text(self) -> None:
        comma = json.dumps(FIELDS).replace("1.5", "1,5")
        totals = {name: score("extraction", comma, {}, "v4.1", parser).total for name, parser in PARSERS.items()}
        assert totals == {"regex": 0.0, "handoff": 1.0, "tolerant": 1.0}

    def test_repairs_are_told(self) -> None:
        found = extraction(f"```json\n{json.dumps(FIELDS)}\n```")
        assert found.repairs == ("code_fence",) and "repair:code_fence" in found.flags


class TestSqlForm:
    QUERY = "SELECT customer_state, AVG(freight_value) FROM orders_enriched GROUP BY customer_state LIMIT 5"
    PROSE = "Mostra os 5 estados de maior frete médio por pedido."

    def parts(self, text: str) -> dict[str, float]:
        return score("sql_qa", text, {}).parts

    def test_query_explanation_numbers_and_words_earn_everything(self) -> None:
        assert score("sql_qa", f"```sql\n{self.QUERY}\n```\n{self.PROSE}", {}).total == 1.0

    @pytest.mark.parametrize("text", [f"{QUERY};\n{PROSE}", f"{PROSE}\n```\n{QUERY}\n```", f"{PROSE}\n\n{QUERY}"])
    def test_the_query_may_be_fenced_or_not_first_or_last(self, text: str) -> None:
        assert self.parts(text)["query_and_explanation"] == 1.0

    @pytest.mark.parametrize("text", [f"```sql\n{QUERY}\n```", PROSE, f"```sql\n{QUERY}\n```\nFrete."])
    def test_a_query_or_an_explanation_alone_earns_nothing_of_that_part(self, text: str) -> None:
        assert self.parts(text)["query_and_explanation"] == 0.0

    @pytest.mark.parametrize(("text", "share"), [("SELECT a FROM t", 0.0), ("SELECT a FROM t WHERE b", 1.0)])
    def test_structure_needs_three_keywords(self, text: str, share: float) -> None:
        assert self.parts(text)["structure"] == share

    @pytest.mark.parametrize(("text", "share"), [("x1 t2", 0.0), ("5 dias", 0.5), ("5 e 5", 1.0), ("R$ 1.234,56", 0.5)])
    def test_two_numbers_are_wanted_and_names_with_digits_are_none(self, text: str, share: float) -> None:
        assert self.parts(text)["numbers"] == share

    def test_three_business_terms_are_wanted(self) -> None:
        assert self.parts("O FRETE dos pedidos; frete")["vocabulary"] == pytest.approx(2 / 3)


class TestInsightsForm:
    def parts(self, text: str) -> dict[str, float]:
        return score("insights", text, {}).parts

    @pytest.mark.parametrize(
        "text",
        [
            "Achados: o frete subiu muito.\nAções: renegociar o frete agora.",
            "## Principais achados\no frete subiu muito\n\n## Ações recomendadas\nrenegociar o frete agora",
            "**Achados:** o frete subiu muito. **Ações:** renegociar o frete agora.",
            "1. ACHADOS: o frete subiu muito.\n2. RECOMENDACOES: renegociar o frete agora.",
        ],
    )
    def test_findings_and_actions_are_told_apart_in_many_dresses(self, text: str) -> None:
        assert self.parts(text)["structure"] == 1.0

    @pytest.mark.parametrize("text", ["Achados: o frete subiu muito.", "Ações: renegociar o frete agora.\nAchados:"])
    def test_one_section_with_content_earns_half(self, text: str) -> None:
        assert self.parts(text)["structure"] == 0.5

    def test_the_words_in_running_text_are_no_sections(self) -> None:
        assert self.parts("Os achados e as ações foram discutidos na reunião.")["structure"] == 0.0

    def test_action_words_count_once_whatever_their_form(self) -> None:
        assert self.parts("Negociar, negociar e NEGOCIAR")["actions"] == pytest.approx(1 / 3)
        assert self.parts("Negociar, monitore e priorizar")["actions"] == 1.0

    @pytest.mark.parametrize(("characters", "share"), [(0, 0), (125, 0.5), (250, 1), (1500, 1), (2250, 0.5), (3000, 0)])
    def test_length_is_full_from_250_to_1500(self, characters: int, share: float) -> None:
        assert self.parts("x" * characters)["length"] == pytest.approx(share)


class TestPushForm:
    def parts(self, text: str) -> dict[str, float]:
        return score("push", text, PUSH).parts

    @pytest.mark.parametrize(("characters", "share"), [(0, 0), (1, 1), (120, 1), (160, 0.5), (200, 0), (300, 0)])
    def test_length_is_full_to_120_and_nothing_from_200(self, characters: int, share: float) -> None:
        assert self.parts(f" {'x' * characters} ")["length"] == pytest.approx(share)

    @pytest.mark.parametrize(
        ("text", "share"),
        [("ANA, oi", 1.0), ("seu tenis", 1.0), ("Anabela, oi", 0.0), ("você", 0.5), ("suas", 0.5), ("oi", 0.0)],
    )
    def test_naming_the_customer_or_product_is_worth_twice_a_pronoun(self, text: str, share: float) -> None:
        assert self.parts(text)["personal"] == share

    @pytest.mark.parametrize("text", ["Prezada cliente, confira", "Confira. Atenciosamente, a loja", ""])
    def test_letter_formulas_and_silence_lose_that_part(self, text: str) -> None:
        assert self.parts(text)["no_formulas"] == 0.0

    def test_a_call_to_action_is_found_whatever_its_case(self) -> None:
        assert self.parts("APROVEITE já")["call_to_action"] == 1.0
        assert self.parts("Aproveitamento do estoque")["call_to_action"] == 0.0


class TestShippedReferences:
    @pytest.mark.parametrize("split", ["train", "eval", "test"])
    def test_every_reference_scores_high_under_v41(self, split: str) -> None:
        for record in load_split(split):
            digits = record["task"] != "sql_qa" or bool(re.search(r"\d", record["meta"]["question"]))
            total = score(record["task"], record["reference"]["text"], record).total
            assert total >= (0.95 if digits else 0.70), record["id"]


ANSWER = json.dumps(FIELDS)


class TestAdapters:
    def rows(self) -> dict[str, Any]:
        records = [load_split("eval")[index] for index in (0, 70, 140, 210)]
        return {
            "prompts": [record["prompt"] for record in records],
            "completions": [[{"role": "assistant", "content": record["reference"]["text"]}] for record in records],
            "task": [record["task"] for record in records],
            "record": [json.dumps(record) for record in records],
        }

    @pytest.mark.parametrize("version", VERSIONS)
    def test_every_row_gets_exactly_one_reward(self, version: str, commerce_db: Path) -> None:
        columns = self.rows() | {"completion_ids": [[1]] * 4, "trainer_state": None}
        rewards = [function(**columns) for function in reward_functions(version)]
        assert [[reward is not None for reward in row] for row in zip(*rewards, strict=True)] == [
            [task == name for name in TASKS] for task in columns["task"]
        ]

    @pytest.mark.parametrize("version", VERSIONS)
    def test_functions_are_named_after_tasks_and_survive_pickling(self, version: str) -> None:
        functions = reward_functions(version)
        assert [function.__name__ for function in functions] == list(TASKS)
        assert all(pickle.loads(pickle.dumps(function)) == function for function in functions)

    def test_a_plain_text_completion_is_read_too(self) -> None:
        rewards = reward_functions("v4.1")[0]([""], [json.dumps(FIELDS)], task=["extraction"], record=[{"id": "x"}])
        assert rewards == [1.0]

    @pytest.mark.parametrize(
        "completion",
        [
            ANSWER.encode(),
            {"role": "assistant", "content": ANSWER},
            ({"role": "model", "content": ANSWER},),
            [{"role": "assistant", "content": [{"type": "text", "text": ANSWER}]}],
            [{"role": "assistant", "content": [ANSWER[:20], ANSWER[20:]]}],
            [{"role": "user", "content": "{}"}, {"role": "assistant", "content": ANSWER, "tool_calls": None}],
            [{"role": "assistant", "content": None}, {"role": "tool", "content": "1"}, {"content": ANSWER}],
        ],
        ids=["bytes", "message", "tuple", "content part", "content strings", "user turn", "tool call"],
    )
    def test_a_completion_is_read_in_every_form_that_holds_text(self, completion: Any) -> None:
        reward = reward_functions("v4.1")[0]([""], [completion], task=["extraction"], record=[{"id": "x"}])
        assert reward == [1.0]

    @pytest.mark.parametrize("completion", [None, 7, object(), [7], [{"role": "assistant", "content": 7}]])
    def test_a_completion_without_text_is_a_counted_error_and_no_score(self, completion: Any) -> None:
        events: list[dict[str, Any]] = []
        with record_errors(events.append) as recorder:
            reward = reward_functions("v4.1")[0]([""], [completion], task=["extraction"], record=[{"id": "x"}])
        assert reward == [None] and recorder.count == 1
        assert events[0]["record_id"] == "x" and "holds no text" in events[0]["error"]

    @pytest.mark.parametrize("task", ["coding", "", None, 3])
    def test_a_row_of_no_task_is_refused_at_the_first_call(self, task: Any) -> None:
        columns = {"task": ["push", task], "record": ["{}", "{}"]}
        with record_errors(lambda event: None), pytest.raises(UserError, match=r"row 1 .*extraction, sql_qa"):
            reward_functions("v4.1")[0](["", ""], ["Oi", "Oi"], **columns)

    def test_an_error_in_the_error_path_stays_inside(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class UnshowableError(Exception):
            def __repr__(self) -> str:
                raise RuntimeError("no repr")

        def broken(*arguments: Any) -> None:
            raise UnshowableError

        def full_disk(event: dict[str, Any]) -> None:
            raise OSError("no space left on device")

        monkeypatch.setattr(adapters_module, "score", broken)
        for record in ("not json", "[]", '{"id": "push-1"}', {"id": "push-1"}, None):
            with record_errors(full_disk) as recorder, pytest.warns(UserWarning, match="no space left"):
                assert reward_functions("v4.1")[3]([""], ["Oi"], task=["push"], record=[record]) == [None]
            assert recorder.count == 1

    @pytest.mark.parametrize("version", VERSIONS)
    def test_a_record_given_as_a_dict_survives_a_dataset(self, version: str) -> None:
        from datasets import Dataset

        records = [record for record in load_split("eval") if record["task"] in ("extraction", "push")]
        rows = Dataset.from_list([{"task": record["task"], "record": record} for record in records])
        texts = [record["reference"]["text"] for record in records]
        for function in (reward_functions(version)[0], reward_functions(version)[3]):
            plain = function(texts, texts, task=rows["task"], record=records)
            assert function(texts, texts, task=rows["task"], record=list(rows["record"])) == plain

    def test_a_count_that_differs_is_an_error(self) -> None:
        with pytest.raises(ValueError, match="2 completions but 1 rows"):
            reward_functions("v4.1")[0]([""], ["{}", "{}"], task=["extraction"], record=["{}"])

    def test_a_missing_column_is_told(self) -> None:
        with pytest.raises(UserError, match="no column 'record'"):
            reward_functions("v4.1")[0]([""], ["{}"], task=["extraction"])

    def test_an_unexpected_error_is_raised_unless_recorded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*arguments: Any) -> None:
            raise ZeroDivisionError("broken")

        monkeypatch.setattr(adapters_module, "score", broken)
        call = {"task": ["push"], "record": ['{"id": "push-1"}']}
        with pytest.raises(ZeroDivisionError):
            reward_functions("v4.1")[3]([""], ["Oi"], **call)
        events: list[dict[str, Any]] = []
        with record_errors(events.append) as recorder:
            assert reward_functions("v4.1")[3]([""], ["Oi"], **call) == [None]
        assert recorder.count == 1
        assert events[0]["record_id"] == "push-1" and events[0]["completion"] == "Oi"
        assert "ZeroDivisionError" in events[0]["error"]

    def test_a_user_error_is_never_recorded_away(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("COMMERCE_DB", str(tmp_path / "missing.db"))
        columns = self.rows()
        with record_errors(lambda event: None), pytest.raises(UserError, match="python -m helpers data"):
            reward_functions("v4.2")[1](**columns)


class TestAnyText:
    @pytest.mark.parametrize("version", VERSIONS)
    @pytest.mark.parametrize("task", TASKS)
    @pytest.mark.parametrize(
        "text",
        [
            None,
            7,
            "",
            "\0",
            "{" * 100_000,
            "Achados: " * 12_000,
            "1," * 50_000,
            "SELECT " * 15_000,
            "🎉\u200d" * 30_000,
        ],
        ids=lambda text: repr(text)[:12],
    )
    def test_garbage_scores_like_any_text(
        self, first_of: dict[str, Any], commerce_db: Path, task: str, version: str, text: Any
    ) -> None:
        assert 0.0 <= score(task, text, first_of[task], version).total <= 1.0

    def test_unknown_names_are_told_with_the_valid_ones(self) -> None:
        with pytest.raises(UserError, match="extraction, sql_qa, insights, push"):
            score("translation", "", {})
        with pytest.raises(UserError, match=r"v4, v4\.1, v4\.2"):
            score("push", "", {}, "v5")
        with pytest.raises(UserError, match=r"v4, v4\.1, v4\.2"):
            reward_functions("v5")


FRAGMENTS = st.sampled_from(
    [
        *(f'"{name}": ' for name in REVIEW_FIELDS),
        *'{}[],:"\n',
        *(
            "true",
            "null",
            "4,5",
            "NaN",
            "```sql\n",
            "```",
            "SELECT ",
            " FROM orders_enriched ",
            " WHERE ",
            "'",
            ";",
            "--",
        ),
        *(
            "Achados:",
            "Ações:",
            "R$ 1.234,56",
            "12,5%",
            "3 vezes",
            "São Paulo",
            " de ",
            "Ana, ",
            "Aproveite!",
            "🎉",
            "|",
        ),
        *("WITH t AS (", ")", "COUNT(*)", " GROUP BY ", "99999999999999999999", "-", "1.", "\\", "\u202e", "<think>"),
    ]
)
ANY_TEXT = st.text(max_size=300) | st.lists(FRAGMENTS | st.text(max_size=5), max_size=40).map("".join)


def check_any_text(task: str, text: str, record: dict[str, Any]) -> None:
    for version in VERSIONS:
        found = score(task, text, record, version)
        assert 0.0 <= found.total <= 1.0
        assert all(0.0 <= share <= 1.0 for share in found.parts.values())


@pytest.mark.parametrize("task", TASKS)
def test_any_text_has_its_total_and_parts_between_0_and_1(
    task: str, first_of: dict[str, Any], commerce_db: Path
) -> None:
    @settings(max_examples=DRAWS, deadline=None, database=None)
    @given(text=ANY_TEXT)
    def check(text: str) -> None:
        check_any_text(task, text, first_of[task])

    check()


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_ten_thousand_texts_a_task(task: str, first_of: dict[str, Any], commerce_db: Path) -> None:
    @settings(max_examples=SLOW_DRAWS, deadline=None, database=None)
    @given(text=ANY_TEXT)
    def check(text: str) -> None:
        check_any_text(task, text, first_of[task])

    check()


@pytest.mark.parametrize("fixed", TASKS)
def test_a_one_task_version_is_v42_for_that_task_and_v41_for_the_others(fixed):
    records = {record["task"]: record for record in load_split("eval")}
    for task in TASKS:
        expected = "v4.2" if task == fixed else "v4.1"
        for text in (records[task]["reference"]["text"], "nada", ""):
            assert score(task, text, records[task], f"v4.2-{fixed}") == score(task, text, records[task], expected)
        assert WEIGHTS[f"v4.2-{fixed}"][task] == WEIGHTS[expected][task]


def test_the_functions_of_a_one_task_version_keep_their_names_and_pickle():
    functions = reward_functions("v4.2-push")
    assert [function.__name__ for function in functions] == list(TASKS)
    assert pickle.loads(pickle.dumps(functions)) == functions
