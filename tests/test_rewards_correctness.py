"""v4.2: correctness against the reference, figures and facts with a source, and the small tools that judge them."""

import json
import sqlite3
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlglot
from hypothesis import given
from hypothesis import strategies as st
from sample_review import FIELDS
from sqlglot import exp

from helpers.core.errors import UserError
from helpers.core.files import write_jsonl
from helpers.parsing.answer import answer_text
from helpers.rewards import WEIGHTS, score
from helpers.rewards.sql_answer import split_answer
from helpers.rewards.sql_qa import answer_share, asked_columns, query_result
from helpers.rewards.sql_results import result_share
from helpers.rewards.text.language import novelty_share, own_words_share, portuguese_share, stem_f1
from helpers.rewards.text.numbers import Sources, numbers_in
from helpers.rewards.text.table import TableFacts
from helpers.tasks.records import load_records, load_split

REVIEW = {"reference": {"fields": FIELDS}, "meta": {"review_score": 1}}
EXTRACTION = WEIGHTS["v4.2"]["extraction"]


def extraction(**changes: Any) -> Any:
    return score("extraction", json.dumps(FIELDS | changes, ensure_ascii=False), REVIEW, "v4.2")


class TestExtraction:
    def test_the_reference_earns_everything(self) -> None:
        assert extraction().total == 1.0

    def test_the_right_category_counts_whatever_the_sentiment(self) -> None:
        assert extraction(sentiment="neutral").parts["complaint_category"] == 1.0

    def test_a_sentiment_that_contradicts_the_stars_costs_a_fifth_more(self) -> None:
        neutral, positive = extraction(sentiment="neutral"), extraction(sentiment="positive")
        assert neutral.total - positive.total == pytest.approx(0.20)
        assert "contradicts_review" in positive.flags

    def test_a_reference_that_itself_contradicts_the_stars_is_not_punished(self) -> None:
        ironic = {"reference": {"fields": FIELDS}, "meta": {"review_score": 5}}
        assert score("extraction", json.dumps(FIELDS), ironic, "v4.2").total == 1.0

    @pytest.mark.parametrize(
        ("value", "share"), [(1.5, 1.0), (2.5, 0.5), (1, 0.75), (3.5, 0.0), (9, 0.0), ("1.5", 0.0)]
    )
    def test_the_score_is_graded_by_distance(self, value: Any, share: float) -> None:
        assert extraction(sentiment_score=value).parts["sentiment_score"] == share

    def test_lesser_fields_count_by_half_where_the_sentiment_is_wrong(self) -> None:
        assert extraction(sentiment="neutral").parts["levels"] == 0.5

    def test_lesser_fields_count_for_nothing_about_another_review(self) -> None:
        found = extraction(sentiment="neutral", complaint_category="none")
        assert found.parts["levels"] == found.parts["issue_flags"] == found.parts["would_buy_again"] == 0.0

    def test_a_complaint_is_compared_by_its_words(self) -> None:
        assert extraction(main_complaint="A entrega foi muito atrasada").parts["main_complaint"] == 1.0
        assert extraction(main_complaint="Entrega errada").parts["main_complaint"] == 0.5
        assert extraction(main_complaint=None).parts["main_complaint"] == 0.0

    def test_a_guessed_object_scores_below_a_clean_one(self) -> None:
        twice = json.dumps(FIELDS)[:-1] + ', "urgency": "medium"}'
        found = score("extraction", twice, REVIEW, "v4.2")
        assert "guessed" in found.flags and found.total == pytest.approx(1.0 - EXTRACTION["format"])

    def test_a_lossless_repair_costs_nothing(self) -> None:
        comma = json.dumps(FIELDS).replace("1.5", "1,5")
        assert score("extraction", f"```json\n{comma}\n```", REVIEW, "v4.2").total == 1.0

    def test_surplus_fields_cost_format(self) -> None:
        assert extraction(extra=1).parts["format"] == pytest.approx(10 / 11)


def question(**meta: Any) -> dict[str, Any]:
    sql = "SELECT customer_state, COUNT(*) AS pedidos FROM orders_enriched GROUP BY 1 ORDER BY 2 DESC LIMIT 3"
    text = f"```sql\n{sql}\n```\nConta os pedidos de cada estado e mostra os 3 maiores."
    asked = "Quais são os 3 estados com mais pedidos?"
    prompt = [{"role": "user", "content": f"Responda com SQL: {asked}"}]
    result = {"columns": ["customer_state", "pedidos"], "rows": []}
    reference = {"text": text, "sql": sql, "result": result}
    return {"prompt": prompt, "reference": reference, "meta": {"question": asked, "ordered": True, **meta}}


@pytest.fixture(scope="module")
def asked(commerce_db: Path) -> dict[str, Any]:
    from helpers.rewards.sql_sandbox import run_query

    record = question()
    record["reference"]["result"]["rows"] = [
        list(row) for row in run_query(commerce_db, record["reference"]["sql"]).rows
    ]
    return record


class TestSqlQa:
    def parts(
        self, record: dict[str, Any], sql: str, prose: str = "Conta os pedidos de cada estado e mostra 3."
    ) -> Any:
        return score("sql_qa", f"```sql\n{sql}\n```\n{prose}", record, "v4.2").parts

    def test_the_reference_earns_everything(self, asked: dict[str, Any]) -> None:
        assert score("sql_qa", asked["reference"]["text"], asked, "v4.2").total == 1.0

    def test_another_query_with_the_same_rows_is_right(self, asked: dict[str, Any]) -> None:
        cte = f"WITH t AS ({asked['reference']['sql']}) SELECT pedidos AS n, customer_state FROM t"
        assert self.parts(asked, cte)["result"] == 1.0

    def test_the_wrong_order_earns_half_where_the_question_asks_for_one(self, asked: dict[str, Any]) -> None:
        backwards = f"SELECT * FROM ({asked['reference']['sql']}) ORDER BY pedidos"
        assert self.parts(asked, backwards)["result"] == 0.5
        assert self.parts(asked | {"meta": asked["meta"] | {"ordered": False}}, backwards)["result"] == 1.0

    def test_rows_of_another_question_earn_nothing(self, asked: dict[str, Any]) -> None:
        assert self.parts(asked, "SELECT seller_state, COUNT(*) FROM sellers GROUP BY 1")["result"] == 0.0

    @pytest.mark.parametrize(
        "sql",
        [
            "SELECT 1",
            "WITH r AS (SELECT 1) SELECT 17 AS n FROM r",
            "SELECT x FROM nowhere",
            "DROP TABLE orders",
            "SELECT (",
            "",
        ],
    )
    def test_what_reads_no_table_or_does_not_run_earns_nothing(self, asked: dict[str, Any], sql: str) -> None:
        assert set(self.parts(asked, sql).values()) == {0.0}

    def test_an_invented_figure_costs_its_part(self, asked: dict[str, Any]) -> None:
        prose = "Conta os pedidos de cada estado e mostra os maiores: são 987 no primeiro."
        assert self.parts(asked, asked["reference"]["sql"], prose)["figures"] == 0.0

    def test_a_figure_of_the_result_is_not_invented(self, asked: dict[str, Any]) -> None:
        first = asked["reference"]["result"]["rows"][0][1]
        prose = f"Conta os pedidos de cada estado; o primeiro tem {first}."
        assert self.parts(asked, asked["reference"]["sql"], prose)["figures"] > 0.9

    def test_a_right_query_without_a_portuguese_explanation_is_half_an_answer(self, asked: dict[str, Any]) -> None:
        sql = asked["reference"]["sql"]
        for prose in ("", "It counts the orders of each state and shows the 3 with the most of them."):
            assert score("sql_qa", f"```sql\n{sql}\n```\n{prose}", asked, "v4.2").total <= 0.30

    def test_a_rebuilt_database_is_described_anew(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        path, record = tmp_path / "shop.db", question()
        monkeypatch.setenv("COMMERCE_DB", str(path))
        for tables, runs in (("CREATE TABLE a (x)", False), ("CREATE TABLE orders (x)", True)):
            with sqlite3.connect(path) as connection:
                connection.execute(tables)
            connection.close()
            text = "```sql\nSELECT COUNT(*) FROM orders\n```\nConta os pedidos de cada estado."
            assert (score("sql_qa", text, record, "v4.2").parts["query"] > 0) is runs

    def test_a_missing_database_is_told_for_v42_only(
        self, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("COMMERCE_DB", str(tmp_path / "missing.db"))
        assert score("sql_qa", asked["reference"]["text"], asked, "v4.1").total > 0.9
        with pytest.raises(UserError, match="python -m helpers data"):
            score("sql_qa", asked["reference"]["text"], asked, "v4.2")


COUNTED = "SELECT COUNT(*) AS pedidos\nFROM orders"


def one_of_each_family() -> list[dict[str, Any]]:
    records = [r for split in ("test", "eval", "train") for r in load_split(split) if r["task"] == "sql_qa"]
    several = [r for r in records if len(r["reference"]["result"]["rows"]) > 1 or r["meta"]["difficulty"] == "easy"]
    return list({record["meta"]["family"]: record for record in records + several}.values())


@pytest.mark.parametrize("record", one_of_each_family(), ids=lambda record: record["meta"]["family"])
class TestWhatAQuestionAsksFor:
    """One question of each family, its reference's result in other shapes, right and wrong."""

    def share(self, record: dict[str, Any], columns: str, rest: str = "") -> float:
        result = query_result(f"SELECT {columns} FROM ({record['reference']['sql']}) {rest}")
        assert result.error is None
        return answer_share(result.rows, record)

    def asked(self, record: dict[str, Any]) -> tuple[list[str], str | None]:
        columns = record["reference"]["result"]["columns"]
        return asked_columns(record["meta"]["family"], record["meta"]["question"], columns)

    def test_what_is_asked_for_is_enough_and_more_does_not_matter(self, record: dict[str, Any], commerce_db) -> None:
        names, _ = self.asked(record)
        for columns in (", ".join(names), "1, *, 'x', NULL", ", ".join(reversed(names))):
            assert self.share(record, columns) == 1.0, columns

    def test_a_number_may_be_text_and_need_not_be_rounded(self, record: dict[str, Any], commerce_db) -> None:
        names, _ = self.asked(record)
        assert self.share(record, ", ".join(f"CAST({name} AS TEXT)" for name in names)) == 1.0
        tree = sqlglot.parse_one(record["reference"]["sql"], dialect="sqlite")
        plain = tree.transform(lambda node: node.this if isinstance(node, exp.Round) else node).sql("sqlite")
        assert answer_share(query_result(plain).rows, record) == 1.0

    def test_nothing_that_is_asked_for_may_be_missing(self, record: dict[str, Any], commerce_db) -> None:
        names, label = self.asked(record)
        for missing in names:
            rest = ", ".join(name for name in names if name != missing) or "'x'"
            assert self.share(record, rest) < 1.0, missing
        for figure in (name for name in names if name != label):
            changed = f"CASE WHEN typeof({figure}) = 'text' THEN {figure} || 'x' ELSE {figure} * 1.1 + 1 END"
            assert self.share(record, ", ".join([changed, *(name for name in names if name != figure)])) < 0.5

    def test_rows_must_be_as_many_and_in_the_order_asked_for(self, record: dict[str, Any], commerce_db) -> None:
        rows = len(record["reference"]["result"]["rows"])
        if rows > 1:
            assert self.share(record, "*", f"LIMIT {rows - 1}") < 0.5
            backwards = answer_share(query_result(record["reference"]["sql"]).rows[::-1], record)
            assert backwards == (0.5 if record["meta"]["ordered"] else 1.0)
        doubled = query_result(record["reference"]["sql"]).rows * 2
        assert answer_share(doubled, record) < 0.5

    def test_labels_are_free_only_where_the_question_leaves_them_open(
        self, record: dict[str, Any], commerce_db: Path
    ) -> None:
        names, label = self.asked(record)
        first = label or names[0]
        values = [
            row[record["reference"]["result"]["columns"].index(first)] for row in record["reference"]["result"]["rows"]
        ]
        if len(names) < 2 or len(values) < 2 or not (label or isinstance(values[0], str)):
            return

        def share(labels: list[Any]) -> float:
            cases = " ".join(f"WHEN {value!r} THEN {other!r}" for value, other in zip(values, labels, strict=True))
            others = ", ".join(name for name in names if name != first)
            return self.share(record, f"CASE {first} {cases} END, {others}")

        assert share([f"rótulo {place}" for place in range(len(values))]) == (1.0 if label else 0.0)
        assert share([*values[1:], values[0]]) < 1.0
        assert share(["todos"] * len(values)) < 1.0


class TestOpenLabels:
    HOURS = (("07", 120.5), ("19", 99.0))
    LATE = ((0, 4.3), (1, 2.5))

    @pytest.mark.parametrize("rows", [[(7, 120.5), (19, 99.0)], [("7h", 120.5), ("19h", 99.0)], [(8, 120.5), (20, 99)]])
    def test_hours_may_be_numbers_or_texts(self, rows: list[Any]) -> None:
        assert result_share(rows, self.HOURS, True, open_label=0) == 1.0

    @pytest.mark.parametrize("rows", [[(19, 120.5), (7, 99.0)], [(120.5,), (99.0,)], [(1500, 120.5), (900, 99.0)]])
    def test_exchanged_missing_or_counted_labels_are_wrong(self, rows: list[Any]) -> None:
        assert result_share(rows, self.HOURS, True, open_label=0) < 1.0

    @pytest.mark.parametrize("months", [("201803", "201804"), (3, 4), ("março", "abril"), ("03/2018", "04/2018")])
    def test_months_may_be_named_or_numbered(self, months: Any) -> None:
        rows = list(zip(months, (10, 12), strict=True))
        assert result_share(rows, [("2018-03", 10), ("2018-04", 12)], True, open_label=0) == 1.0
        assert result_share(rows[::-1], [("2018-03", 10), ("2018-04", 12)], True, open_label=0) < 1.0

    def test_groups_may_stand_beside_each_other(self) -> None:
        assert result_share([(4.3, 2.5)], self.LATE, open_label=0) == 1.0
        assert result_share([(4.3, 2.6)], self.LATE, open_label=0) < 1.0
        assert result_share([(4.3, 2.5)], self.LATE) == 0.0


class TestWhereTheQueryIs:
    """What `run_query` runs is what the reward scores, wherever in the text it stands."""

    @pytest.mark.parametrize(
        "tag", ["", "sql", "SQL", "sqlite", "SQLite3", "postgresql", "MySQL", "sql linenums=1", "T-SQL"]
    )
    @pytest.mark.parametrize("fence", ["```", "~~~", "````", "~~~~~~"])
    def test_any_fence_with_any_tag(self, tag: str, fence: str) -> None:
        for query in (COUNTED, f"-- total\n{COUNTED}", f"/* total; */ {COUNTED}", f"{COUNTED}; -- fim"):
            answer = split_answer(f"Segue:\n{fence}{tag}\n{query}\n{fence}\nConta os pedidos.")
            assert answer == (query, "Segue:\n\n\nConta os pedidos.")

    @pytest.mark.parametrize(
        ("text", "query"),
        [
            (f"```text\nPasso 1: contar.\n```\n```sql\n{COUNTED}\n```", COUNTED),
            (f"```bash\nsqlite3 loja.db\n```\n```\n{COUNTED}\n```", COUNTED),
            (f"````markdown\n```sql\n{COUNTED}\n```\n````", COUNTED),
            (f"```sql {COUNTED} ```", COUNTED),
            (f"```sql\n{COUNTED}", COUNTED),
            (f"{COUNTED};\nConta.", COUNTED),
            (f"Consulta:\n{COUNTED}\nWHERE a = 'x;y' -- z; z\n\nConta.", f"{COUNTED}\nWHERE a = 'x;y' -- z; z"),
            ("Use `SELECT 1 FROM orders`.", "SELECT 1 FROM orders"),
            ("WITH /* um */ t AS (SELECT 1) SELECT * FROM t", "WITH /* um */ t AS (SELECT 1) SELECT * FROM t"),
            ("With the orders we see that\nselected rows", ""),
            ("```sql\nDROP TABLE orders\n```", ""),
        ],
    )
    def test_blocks_without_a_query_are_passed_over(self, text: str, query: str) -> None:
        assert split_answer(text).query == query

    def test_the_first_query_counts_unless_a_later_one_corrects_it(self) -> None:
        first, second = "```sql\nSELECT 1\n```\n", "```sql\nSELECT 2\n```\n"
        for words in ("Outra forma:", "E por estado:", ""):
            assert split_answer(f"{first}{words}\n{second}Conta.").query == "SELECT 1"
        for words in ("Corrigindo:", "Ops, errei o filtro.", "Na verdade, o certo é:", "Versão final:"):
            assert split_answer(f"{first}{words}\n{second}Conta.").query == "SELECT 2"
        for words in (
            "A consulta acima está errada.",
            "Havia um erro no filtro.",
            "A query correta é:",
            "**Correção:**",
        ):
            assert split_answer(f"{first}{words}\n{second}Conta.").query == "SELECT 2"
        for words in (
            "O resultado correto soma todos os pedidos. Para ver o total:",
            "Para evitar erro de leitura, filtre por estado:",
            "Para os pedidos com endereço errado:",
            "A receita corrigida pela inflação:",
        ):
            assert split_answer(f"{first}{words}\n{second}Conta.").query == "SELECT 1"
        assert split_answer(f"{first}Correção:\n{second}Por estado:\n{first}").query == "SELECT 2"

    @pytest.mark.parametrize(
        "query",
        [
            "WITH orders AS (SELECT * FROM orders_enriched)\n{}",
            "WITH orders_enriched AS (SELECT * FROM main.orders_enriched)\n{}",
            "-- a\n/* b; */ {} -- c",
            "{}; /* fim */",
        ],
    )
    def test_ctes_and_comments_do_not_hide_what_is_read(self, asked: dict[str, Any], query: str) -> None:
        sql = query.replace("{}", asked["reference"]["sql"])
        text = f"```sql\n{sql}\n```\nConta os pedidos de cada estado e mostra 3."
        assert score("sql_qa", text, asked, "v4.2").parts["result"] == 1.0


TABLE = {
    "columns": ["Estado", "Frete médio (R$)", "Pedidos"],
    "rows": [["São Paulo", 15.6, 4000], ["Bahia", 24.7, 400], ["Pará", 42.4, 100]],
}
ANALYSIS = (
    "Achados: O frete médio vai de R$ 15,60 em São Paulo a R$ 42,40 no Pará, uma diferença de R$ 26,80. "
    "A Bahia fica em R$ 24,70, com 400 pedidos.\n"
    "Causas prováveis: A distância até os vendedores encarece a entrega no Norte.\n"
    "Ações: Negociar a tabela de frete do Pará, priorizar vendedores próximos e monitorar os pedidos da Bahia."
)
ANALYSED = {
    "prompt": [{"role": "user", "content": "Analise a tabela de frete por estado."}],
    "meta": {"table": TABLE, "topic": "freight"},
}


class TestInsights:
    def total(self, text: str) -> float:
        return score("insights", text, ANALYSED, "v4.2").total

    def test_a_grounded_analysis_earns_everything(self) -> None:
        assert self.total(ANALYSIS) == 1.0

    @pytest.mark.parametrize("wrong", ["R$ 33,10", "R$ 26,81", "R$ 1.560"])
    def test_one_figure_that_is_not_the_tables_costs(self, wrong: str) -> None:
        assert self.total(ANALYSIS.replace("R$ 26,80", wrong)) < 0.9

    @pytest.mark.parametrize("same", ["26,8 reais", "2,7 vezes", "172%", "R$ 27"])
    def test_figures_that_follow_from_the_table_are_grounded(self, same: str) -> None:
        assert self.total(ANALYSIS.replace("R$ 26,80", same)) == 1.0

    def test_a_figure_of_another_row_costs(self) -> None:
        assert self.total(ANALYSIS.replace("A Bahia fica em", "O Pará fica em")) < 0.9

    @pytest.mark.parametrize(
        "findings", ["📊 Achados:", "• Achados:", "Achados (o que se vê):", "Achados —", "Análise:"]
    )
    @pytest.mark.parametrize("actions", ["✅ **Ações**:", "Sugestão:", "Ações -", "### Ações\r\n"])
    def test_a_section_is_read_however_its_label_is_written(self, findings: str, actions: str) -> None:
        written = ANALYSIS.replace("Achados:", findings).replace("Ações:", actions)
        assert self.total(written) == 1.0
        assert score("insights", written, ANALYSED, "v4.1").parts["structure"] < 1.0

    @pytest.mark.parametrize(
        ("figure", "grounded"),
        [
            ("mais de 300", True),
            ("quase 500", True),
            ("cerca de 400", True),
            ("mais de 390", True),
            ("menos de 390", False),
            ("mais de 410", False),
            ("quase 800", False),
        ],
    )
    def test_a_figure_may_be_rounded_where_its_words_say_so(self, figure: str, grounded: bool) -> None:
        total = self.total(ANALYSIS.replace("400 pedidos", f"{figure} pedidos"))
        assert (total == 1.0) is grounded

    def test_a_term_set_for_an_action_is_no_figure(self) -> None:
        assert self.total(ANALYSIS.replace("do Pará,", "do Pará em 30 dias,")) == 1.0
        assert self.total(ANALYSIS.replace("encarece a entrega", "soma 30 dias à entrega")) < 1.0

    @pytest.mark.parametrize(
        "plan",
        [
            "Responder em 24h.",
            "Responder em até 24 horas úteis.",
            "Concluir até 31/12.",
            "Medir o frete 3x por semana.",
            "Revisar 2 vezes por mês.",
            "Acompanhar nos próximos 30 dias.",
            "Testar em 2 semanas e, depois, a cada 15 dias.",
            "Publicar até 15 de dezembro de 2019, às 18h30.",
            "Reduzir o frete do Pará de R$ 42,40 para R$ 30.",
            "Reduzir o frete do Pará em 10%.",
            "Oferecer cupom de R$ 20 e frete grátis acima de R$ 150.",
            "Manter o frete abaixo de R$ 25 por pelo menos 3 meses.",
            "Contratar 2 transportadoras.",
        ],
    )
    def test_what_an_action_plans_is_no_figure(self, plan: str) -> None:
        assert self.total(f"{ANALYSIS} {plan}") == 1.0

    @pytest.mark.parametrize(
        "made_up",
        [
            "Reduzir o atraso de 8% para 3%.",
            "Reduzir o prazo de 19 dias para 9 dias.",
            "Reduzir o frete do Pará, que está em R$ 55,00.",
            "Investigar por que o frete subiu para R$ 99,00.",
            "Rever os 77% de atraso do Pará.",
        ],
    )
    def test_a_figure_that_an_action_starts_from_must_be_grounded(self, made_up: str) -> None:
        assert self.total(f"{ANALYSIS} {made_up}") < 0.95

    @pytest.mark.parametrize("plan", ["Avaliar em 24h.", "Medir até 31/12.", "Reduzir para 7%."])
    def test_outside_of_the_actions_a_plan_is_a_figure(self, plan: str) -> None:
        assert self.total(ANALYSIS.replace("\nCausas", f" {plan}\nCausas")) < 0.95

    def test_repetition_loses_everything(self) -> None:
        assert self.total(ANALYSIS * 4) == 0.0

    def test_another_language_loses_everything(self) -> None:
        english = "Findings: freight is 15.6 in São Paulo and 42.4 in Pará. Actions: talk to the sellers of the region."
        assert self.total(english) == self.total(SPANISH) == 0.0

    def test_form_without_figures_earns_little(self) -> None:
        assert (
            self.total("Achados: o frete varia muito entre os estados.\nAções: negociar, priorizar e monitorar.") < 0.3
        )


OFFER: dict[str, Any] = {
    "prompt": [{"role": "user", "content": "Escreva uma push.\nCliente: Ana\nProduto: tênis de corrida\nOferta: 10%"}],
    "reference": {"text": "Ana, seu tênis de corrida está com 10% de desconto. Aproveite!"},
    "meta": {"context": {"name": "Ana", "product": "tênis de corrida", "discount_percent": 10}},
}


class TestPush:
    def score(self, text: str) -> Any:
        return score("push", text, OFFER, "v4.2")

    def test_the_reference_earns_everything(self) -> None:
        assert self.score(OFFER["reference"]["text"]).total == 1.0

    @pytest.mark.parametrize(
        ("text", "flag"),
        [
            ("Bruno, seu tênis de corrida está com 10% de desconto. Aproveite!", "invented_name"),
            ("Ana, seu tênis de corrida está com 15% de desconto. Aproveite!", "invented_number"),
            ("Ana, seu tênis de corrida está com 10% de desconto. Use VOLTA20!", "invented_code"),
            ("Ana, seu tênis de corrida está com 10% e frete grátis. Aproveite!", "invented_offer"),
            ("Ana, seu tênis de corrida está com R$ 10 de desconto. Aproveite!", "invented_number"),
            ("Ana, seu tênis de corrida sai em 10 horas. Aproveite!", "invented_number"),
            ("Ana, seu tênis de corrida está com 10% de desconto.77% a mais!", "invented_number"),
        ],
    )
    def test_an_invented_fact_is_told_and_costs(self, text: str, flag: str) -> None:
        found = self.score(text)
        assert flag in found.flags and found.total < 0.5

    def test_the_words_for_a_promise_are_free(self) -> None:
        text = "Ana, frete grátis e 10% de desconto no seu tênis de corrida. Aproveite!"
        record = OFFER | {"reference": {"text": text}}
        for others in ("entrega gratuita e 10% off", "entrega grátis e 10 por cento de desconto"):
            assert score("push", text.replace("frete grátis e 10% de desconto", others), record, "v4.2").total >= 0.95
        for others in ("frete grátis e 10% de cashback", "brinde e 10% off"):
            changed = text.replace("frete grátis e 10% de desconto", others)
            assert "invented_offer" in score("push", changed, record, "v4.2").flags

    def test_a_number_of_two_units_may_be_written_in_either(self) -> None:
        prompt = [{"role": "user", "content": "Escreva uma push.\nCliente: Ana\nOferta: cupom de 30% vence em 30 dias"}]
        meta = {"context": {"name": "Ana", "discount_percent": 30, "days": 30}}
        record = {"prompt": prompt, "reference": {"text": "Ana, seu cupom de 30% vence em 30 dias. Use!"}, "meta": meta}
        for number, invented in (
            ("30 dias", False),
            ("30%", False),
            ("R$ 30", True),
            ("30h", True),
            ("30 reais", True),
        ):
            flags = score("push", f"Ana, use seu cupom: {number}!", record, "v4.2").flags
            assert ("invented_number" in flags) is invented, number

    @pytest.mark.parametrize(
        "mark", [" ->", " >> app", " <3", " | Ver", " [Ver]", " => [Ver agora]", " app > loja", " *hoje*"]
    )
    def test_typography_is_no_markup(self, mark: str) -> None:
        assert self.score(OFFER["reference"]["text"] + mark).parts["no_formulas"] > 0.9

    @pytest.mark.parametrize(
        "mark",
        ["<b>Ana</b>", "{nome}", "{{nome}}", "[aqui](http://a.b)", "`tênis`", "[Nome]", "[NOME_DO_CLIENTE]"],
    )
    def test_code_tags_and_templates_are_markup(self, mark: str) -> None:
        assert self.score(f"{OFFER['reference']['text']} {mark}").total == 0.0

    @pytest.mark.parametrize(
        "words",
        ["em março", "na cor rosa", "em cor clara", "é uma vitória", "ao sol", "em São Paulo", "rosa, azul"],
    )
    def test_a_name_that_is_a_word_is_none_where_it_is_used_as_a_word(self, words: str) -> None:
        found = self.score(f"Ana, seu tênis de corrida {words} está com 10% de desconto. Aproveite!")
        assert "invented_name" not in found.flags and found.total >= 0.9
        assert "invented_name" not in self.score(f"ANA, SEU TÊNIS {words.upper()} COM 10%. APROVEITE!").flags

    @pytest.mark.parametrize(
        "start", ["Rosa, ", "Oi, Clara! ", "Olá Vitória: ", "Marco, ", "Para a Rosa: ", "bruno, ", "Parabéns, Sol! "]
    )
    def test_a_name_that_is_a_word_is_invented_where_someone_is_called_by_it(self, start: str) -> None:
        assert "invented_name" in self.score(f"{start}seu tênis de corrida está com 10%. Aproveite!").flags

    @pytest.mark.parametrize("price", ["R$ 59,90", "a partir de 59,90", "59,90", "59,90 reais", "só R$ 59,90 à vista"])
    def test_a_price_that_the_context_tells_as_text_is_a_fact(self, price: str) -> None:
        text = "O tênis saiu por R$ 59,90. Aproveite!"
        meta = {"context": {"price": price, "product": "tênis"}}
        record = {"prompt": OFFER["prompt"], "reference": {"text": text}, "meta": meta}
        assert score("push", text, record, "v4.2").total >= 0.95
        assert score("push", text.replace("59", "69"), record, "v4.2").total < 0.5
        assert score("push", text.replace(" por R$ 59,90", ""), record, "v4.2").parts["facts"] == 0.5

    @pytest.mark.parametrize("text", ["", "Ana! " * 60, "Ana, your tênis is 10% off for you. Get it now!"])
    def test_what_is_no_portuguese_notification_earns_nothing(self, text: str) -> None:
        assert self.score(text).total == 0.0


FAMILY = "👨‍👩‍👧‍👦"


class TestLengths:
    """Every limit counts what a person counts."""

    @pytest.mark.parametrize("version", ["v4.1", "v4.2"])
    def test_a_notification_may_hold_120_characters_of_several_code_points(self, version: str) -> None:
        text = OFFER["reference"]["text"] + " "
        text += FAMILY * (120 - len(text))
        assert len(text) > 200 and score("push", text, OFFER, version).parts["length"] == 1.0
        assert score("push", text + FAMILY * 20, OFFER, version).parts["length"] < 1.0

    @pytest.mark.parametrize("version", ["v4.1", "v4.2"])
    def test_a_complaint_may_hold_120_characters_of_several_code_points(self, version: str) -> None:
        def total(complaint: str) -> float:
            return score("extraction", json.dumps(FIELDS | {"main_complaint": complaint}), REVIEW, version).total

        assert total("Entrega atrasada" + FAMILY * 104) > total("Entrega atrasada" + FAMILY * 105)

    def test_a_record_is_held_to_the_same_limits(self, tmp_path: Path) -> None:
        push = next(record for record in load_split("eval") if record["task"] == "push")
        review = next(record for record in load_split("eval") if record["task"] == "extraction")
        for characters, fits in ((113, True), (120, True), (121, False)):
            long = FAMILY * characters
            fields = review["reference"]["fields"] | {"main_complaint": long}
            for record, change in ((push, {"text": long}), (review, {"fields": fields})):
                path = tmp_path / "one.jsonl"
                write_jsonl(path, [record | {"reference": record["reference"] | change}])
                if fits:
                    assert len(load_records(path)) == 1
                else:
                    with pytest.raises(UserError, match="longer than 120 characters"):
                        load_records(path)


THINKING = "The user wants a text. Cliente: Bruno, 35% off, R$ 9.999,00. SELECT 1 FROM orders;"


class TestAnswer:
    """What a completion thinks, and what it says after its turn, is not its answer, whatever the task and version."""

    @pytest.fixture
    def records(self, asked: dict[str, Any]) -> dict[str, tuple[dict[str, Any], str]]:
        return {
            "push": (OFFER, OFFER["reference"]["text"]),
            "insights": (ANALYSED, ANALYSIS),
            "sql_qa": (asked, asked["reference"]["text"]),
            "extraction": (REVIEW, json.dumps(FIELDS, ensure_ascii=False)),
        }

    @pytest.mark.parametrize("version", ["v4.1", "v4.2"])
    @pytest.mark.parametrize(
        "dress",
        [
            f"<think>{THINKING}</think>{{}}",
            "<think>\n\n</think>\n\n{}",
            f"{THINKING}</think>\n{{}}",
            f"<thinking>{THINKING}</thinking>\n{{}}",
            "{}<|im_end|>\n<|im_start|>user\nOutro pedido: 35% off para Bruno",
            "{}</s>Bruno, 35% off",
            "{}<|eot_id|>Bruno, 35% off",
            "{}<end_of_turn>\n<start_of_turn>user\nBruno, 35% off",
            "{}<|endoftext|>Bruno, 35% off",
        ],
    )
    def test_what_stands_around_the_answer_changes_nothing(
        self, records: dict[str, Any], version: str, dress: str
    ) -> None:
        for task, (record, text) in records.items():
            dressed = score(task, dress.replace("{}", text), record, version)
            assert dressed.total == score(task, text, record, version).total, task

    @pytest.mark.parametrize("version", ["v4.1", "v4.2"])
    def test_long_thinking_does_not_hide_the_answer(self, records: dict[str, Any], version: str) -> None:
        for task, (record, text) in records.items():
            thought = f"<think>{THINKING * 400}</think>"
            assert score(task, thought + text, record, version).total == score(task, text, record, version).total, task

    @pytest.mark.parametrize("version", ["v4.1", "v4.2"])
    def test_a_thought_that_never_ends_answers_nothing(self, records: dict[str, Any], version: str) -> None:
        for task, (record, text) in records.items():
            assert score(task, f"<think>{text}", record, version).total == score(task, "", record, version).total

    @pytest.mark.parametrize(
        ("text", "answer"),
        [
            ("<Reasoning>a</Reasoning>b", "b"),
            ("<thought>a</thought> b", " b"),
            ("[THINK]a[/THINK]b", "b"),
            ("a<think>b</think>c", "ac"),
            ("<think>a<think>b</think>c</think>d", "d"),
            ("<think>a<|im_end|>b", ""),
            ("<|im_start|>assistant\na<|im_end|>b", "a"),
            ("<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b<|return|>", "b"),
            ("<|channel|>analysis<|message|>a", ""),
            ("a < b, <b>c</b> e </i>", "a < b, <b>c</b> e </i>"),
            ("", ""),
        ],
    )
    def test_the_answer_is_what_is_left(self, text: str, answer: str) -> None:
        assert (answer_text(text) or "") == answer

    def test_v4_keeps_reading_the_raw_text_of_an_extraction(self) -> None:
        text = json.dumps(FIELDS)
        assert score("extraction", f"<think>{{}}</think>{text}", REVIEW, "v4").total == 0.0


class TestNumbers:
    @pytest.mark.parametrize(
        ("text", "values"),
        [
            ("R$ 1.234,56", [1234.56]),
            ("1.234.567 pedidos", [1234567]),
            ("1,234.56", [1234.56]),
            ("4,5 e 4.5", [4.5, 4.5]),
            ("3,4 mil; 2 milhões; 1,5 bi", [3400, 2e6, 1.5e9]),
            ("de 10% a 12,5%", [10, 12.5]),
            ("2018-03", [2018, 3]),
            ("top10 e COVID19", []),
            ("15 dias.77% a mais", [15, 77]),
            ("até77% a menos, porR$ 30", [77, 30]),
            ("50%,30%", [50, 30]),
            ("versão 12.5.3", [12.5]),
            ("1. Negociar\n2) Rever\n- 3. Medir", []),
            ("o 1º e a 2ª", []),
            ("(239 contra 33).", [239, 33]),
            ("são 5. Depois", [5]),
        ],
    )
    def test_numbers_are_read_as_brazilians_write_them(self, text: str, values: list[float]) -> None:
        assert [number.values[0] for number in numbers_in(text)] == pytest.approx(values)

    def test_a_point_before_three_digits_may_group_or_divide(self) -> None:
        assert numbers_in("1.234")[0].values == (1234.0, 1.234)

    @pytest.mark.parametrize(("text", "held"), [("42", True), ("42,4", True), ("42,5", False), ("41", False)])
    def test_a_number_has_a_source_where_it_rounds_to_it(self, text: str, held: bool) -> None:
        assert Sources([42.4]).hold(numbers_in(text)[0]) is held

    def test_a_percentage_may_cite_a_fraction(self) -> None:
        assert Sources([0.082]).hold(numbers_in("8,2%")[0]) and not Sources([0.082]).hold(numbers_in("8,2")[0])

    @given(value=st.integers(0, 10**9), cents=st.integers(0, 99))
    def test_any_amount_in_brazilian_notation_is_read_back(self, value: int, cents: int) -> None:
        written = f"R$ {value:,}".replace(",", ".") + f",{cents:02d}"
        assert numbers_in(written)[0].values[0] == pytest.approx(value + cents / 100)


class TestTable:
    @pytest.mark.parametrize(
        ("text", "held"),
        [
            ("82,7", True),  # the total
            ("51,3%", True),  # a share of it
            ("11,1", False),
            ("1,7 vezes", True),  # a ratio
            ("58,3%", True),  # a change
            ("1,7", False),  # a ratio said plainly
            ("9.999", False),
        ],
    )
    def test_what_follows_from_a_table_is_held_in_its_unit(self, text: str, held: bool) -> None:
        assert TableFacts(TABLE).hold(numbers_in(text)[0]) is held

    def test_rows_are_named_by_all_their_words(self) -> None:
        assert TableFacts(TABLE).rows_named("SAO PAULO, Pará e Paulo") == {0, 2}


class TestResults:
    ROWS = (("SP", 20.13), ("RJ", 22.5))

    @pytest.mark.parametrize(
        ("rows", "share"),
        [
            ([("RJ", 22.5), ("SP", 20.13)], 1.0),
            ([("SP", 20.1283), ("RJ", 22.4999)], 1.0),
            ([(20.13, "SP"), (22.5, "RJ")], 1.0),
            ([("SP", "20.13"), ("RJ", "22.50")], 1.0),
            ([("SP", "R$ 20,13"), ("RJ", "22.5%")], 1.0),
            ([("SP", "20.13 ou"), ("RJ", "22.5 mil")], 0.0),
            ([("SP", 20.15), ("RJ", 22.5)], 0.25),
            ([("SP", 20.13)], 1 / 3),
            ([("SP", 20.13, 1), ("RJ", 22.5, 2)], 1.0),
            ([(0, "x", "SP", 1, 20.13, 1), (0, "x", "RJ", 2, 22.5, 1)], 1.0),
            ([("SP", 20.13, *range(5)), ("RJ", 22.5, *range(5))], 0.0),
            ([("SP", 20.13), ("SP", 20.13), ("RJ", 22.5)], 0.4),
            ([("SP",), ("RJ",)], 0.0),
            ([], 0.0),
        ],
    )
    def test_results_are_compared_as_multisets_of_rows(self, rows: list[Any], share: float) -> None:
        assert result_share(rows, self.ROWS) == pytest.approx(share)

    def test_a_share_may_be_a_fraction_where_the_question_names_no_percentage(self) -> None:
        def share(question: str, value: float) -> float:
            result = {"columns": ["pct_atraso"], "rows": [[12.3]]}
            record = {"reference": {"sql": "", "result": result}, "meta": {"question": question}}
            return answer_share([(value,)], record)

        for question in ("Qual a fração de pedidos atrasados?", "Qual a taxa de atraso?", "E a relação?"):
            assert [share(question, value) for value in (12.3, 0.1231, 0.121, 1230)] == [1.0, 1.0, 0.0, 0.0]
        for question in ("Que percentual atrasou?", "Quantos por cento?", "Quantos % atrasaram?"):
            assert [share(question, value) for value in (12.3, 0.1231)] == [1.0, 0.0]

    @pytest.mark.parametrize(
        ("rows", "share"),
        [
            ([("2017-01", None), ("2017-02", 5.0), ("2017-03", -2.5)], 1.0),
            ([("2017-02", 5.0), ("2017-03", -2.5)], 1.0),
            ([("2017-03", -2.5), ("2017-02", 5.0)], 0.5),
            ([("2017-01", 0.0), ("2017-02", 5.0), ("2017-03", -2.5)], 0.4),
            ([("2017-01", None), ("2017-02", 5.0)], 1 / 3),
        ],
    )
    def test_a_row_whose_figure_is_undefined_need_not_be_there(self, rows: list[Any], share: float) -> None:
        growth = [("2017-01", None), ("2017-02", 5.0), ("2017-03", -2.5)]
        assert result_share(rows, growth, True, open_label=0) == pytest.approx(share)

    def test_an_undefined_figure_beside_a_reference_without_one_is_wrong(self) -> None:
        assert result_share([("SP", 20.13), ("RJ", 22.5), (None, None)], self.ROWS) < 1.0

    def test_whole_numbers_must_be_equal(self) -> None:
        assert result_share([(101,)], [(100,)]) == 0.0 and result_share([(100.0,)], [(100,)]) == 1.0


SPANISH = (
    "Hallazgos: el flete promedio va de R$ 15,60 en São Paulo a R$ 42,40 en Pará, una diferencia de R$ 26,80. "
    "La distancia a los vendedores encarece la entrega. Acciones: negociar con las transportadoras de la región."
)


class TestCost:
    """Work is counted, in Python's calls and SQLite's steps, so that the tests hold on any machine."""

    UNITS = (
        "12 dias ",
        "1/1/",
        "para 3% ",
        "```sql\nSELECT 1\n",
        "```x\n",
        "Rosa, ",
        "<think>",
        "</think>",
        "[_",
        "/*",
        "1. ",
    )

    def calls_of(self, work: Callable[[], object]) -> int:
        count = 0

        def count_one(frame: Any, event: str, argument: Any) -> None:
            nonlocal count
            count += event in ("call", "c_call")

        sys.setprofile(count_one)
        try:
            work()
        finally:
            sys.setprofile(None)
        return count

    @pytest.mark.parametrize("unit", UNITS)
    def test_twice_the_text_takes_twice_the_work(self, asked: dict[str, Any], unit: str) -> None:
        records = {"push": OFFER, "insights": ANALYSED, "sql_qa": asked}
        for task, record in records.items():
            half, whole = (
                self.calls_of(partial(score, task, "Ações: " + unit * (size // len(unit)), record, "v4.2"))
                for size in (9_900, 19_800)
            )
            assert whole < 2.5 * half + 2_000 and whole < 1_000_000, task

    def test_a_completions_query_is_read_by_sqlite_alone(
        self, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        score("sql_qa", asked["reference"]["text"], asked, "v4.2")
        monkeypatch.setattr(sqlglot, "parse_one", None)
        joins = "SELECT COUNT(*) FROM orders " + "JOIN orders " * 40
        assert score("sql_qa", f"```sql\n{joins}\n```\nConta os pedidos de cada estado.", asked, "v4.2").total == 0.0

    def test_results_of_many_columns_are_compared_in_few_ways(self) -> None:
        columns = [(place % 7, place % 5, place % 3, 1, 2, 3, 4, 5) for place in range(50)]
        reference = [(place % 5, place % 3, 1, 2) for place in range(20)]
        assert self.calls_of(lambda: result_share(columns, reference, open_label=0)) < 1_000_000
        assert self.calls_of(lambda: result_share([(1,) * 100] * 50, reference)) < 100


class TestLanguage:
    @pytest.mark.parametrize(
        "text",
        [
            "A entrega do pedido está a caminho",
            "Ana, o preço caiu. Aproveite",
            "Davi, seu halter espera no carrinho há 48h. Finalize a compra!",
            "Durante a semana, contra o atraso",
            "Se tu voltares, ganhas 10%",
            "Use o cupom hoje: é só resgatá-lo",
        ],
    )
    def test_portuguese_prose_is_recognised(self, text: str) -> None:
        assert portuguese_share(text) == 1.0

    @pytest.mark.parametrize(
        "text",
        [
            "The order is on its way to you",
            "El pedido y la entrega en tu casa",
            "Ana, tu Mochila te espera. ¡Vuelve!",
            "Ana, no olvides tu Mochila: si vuelves hoy, te damos 20% de descuento",
            "Los pedidos de las tiendas",
            SPANISH,
            "frete preço",
            "",
        ],
    )
    def test_other_languages_and_word_lists_are_not_portuguese(self, text: str) -> None:
        assert portuguese_share(text) == 0.0

    def test_saying_a_thing_again_is_not_new(self) -> None:
        sentence = "O frete do Pará é o mais alto de todos os estados. "
        assert novelty_share(sentence) == 1.0 and novelty_share(sentence * 3) == 0.0

    def test_a_copy_is_not_in_ones_own_words(self) -> None:
        source = "Escreva uma notificação para a cliente Ana sobre o tênis"
        assert (
            own_words_share(source, source) == 0.0 and own_words_share("Ana, o tênis chegou hoje mesmo", source) == 1.0
        )

    def test_words_are_compared_by_their_stems(self) -> None:
        assert stem_f1("entregas atrasadas", "A entrega está atrasada") == 1.0 and stem_f1("preço", "entrega") == 0.0
