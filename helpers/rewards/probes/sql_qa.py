"""Probes of sql_qa: the query and its explanation in other dress, with something wrong, half done, or faked."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import sqlglot
from sqlglot import exp

from helpers.rewards.probes.base import Probe
from helpers.rewards.sql_answer import split_answer
from helpers.rewards.sql_qa import answer_share, asked_columns, query_result
from helpers.rewards.text.words import terms

_QUOTED = re.compile(r"('[^']*')")
_EXPLANATION = "Esta consulta responde à pergunta que foi feita sobre a loja."
_ENGLISH = "This query computes what was asked from the orders of the shop and sorts the rows for you to read."
_ONE_ORDER = "orders WHERE order_id = (SELECT MIN(order_id) FROM orders)"
_FENCES = {
    "sqlite fence": ("```sqlite", "```"),
    "a dialect in capitals": ("```PostgreSQL", "```"),
    "attributes behind the tag": ('```sql title="consulta.sql"', "```"),
    "tildes": ("~~~sql", "~~~"),
    "five backticks": ("`````sql", "`````"),
}
_SYNONYMS = (("A consulta", "Esta query"), ("Leia", "Interprete"), ("Calcula", "Obtém"), ("mostra", "traz"))


def probes(record: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> list[Probe]:
    """Everything tried on one question."""
    sql = record["reference"]["sql"]
    explanation = split_answer(record["reference"]["text"]).explanation
    return [
        Probe("reference", "reference", record["reference"]["text"]),
        *(Probe(name, "harmless", text) for name, text in _harmless(record, sql, explanation)),
        *(Probe(name, "wrong_fact", text) for name, text in _wrong(record, sql, explanation)),
        *_other(record, records),
        *(Probe(name, "lazy", text) for name, text in _lazy(record, sql, explanation).items()),
        *(Probe(name, "cheat", text) for name, text in _cheats(record, sql, explanation).items()),
        Probe("right query alone", "partial", f"```sql\n{sql}\n```"),
        Probe("right explanation alone", "partial", explanation),
        Probe("right rows as constants", "limit", _answer(f"{_constants(record)} FROM {_ONE_ORDER}", explanation)),
    ]


def _answer(sql: str, explanation: str) -> str:
    return f"```sql\n{sql}\n```\n{explanation}"


def _is_right(record: Mapping[str, Any], sql: str) -> bool | None:
    """Whether a query gives the reference's result on the database at hand; None where it does not run."""
    result = query_result(sql)
    if result.error is not None:
        return None
    return answer_share(result.rows, record) == 1.0


def _harmless(record: Mapping[str, Any], sql: str, explanation: str) -> Iterator[tuple[str, str]]:
    rewrites: dict[str, str] = {
        "SQL in lower case": _outside_quotes(sql, str.lower),
        "SQL in upper case": _outside_quotes(sql, str.upper),
        "SQL on one line": " ".join(sql.split()),
        "SQL reformatted": sqlglot.transpile(sql, read="sqlite", write="sqlite", pretty=True)[0],
        "query in a CTE": f"WITH resposta AS (\n{sql}\n)\nSELECT * FROM resposta",
        "query as a subquery": f"SELECT * FROM (\n{sql}\n)",
        "numbers not rounded": _unrounded(sql),
        "other column names": _renamed(sql),
        "a comment": f"-- resposta\n{sql}",
        "a semicolon": f"{sql};",
        "comments all around": f"/* {_EXPLANATION} */\n{sql}; -- fim",
        **_shapes(record, sql),
    }
    yield from ((name, _answer(query, explanation)) for name, query in rewrites.items() if _is_right(record, query))
    yield "no fence", f"{sql};\n\n{explanation}"
    for name, (opening, closing) in _FENCES.items():
        yield name, f"{opening}\n{sql}\n{closing}\n{explanation}"
    yield "a block of text first", f"```text\n{_EXPLANATION}\n```\n{_answer(sql, explanation)}"
    yield "a shell block first", f"```bash\nsqlite3 commerce.db\n```\n{_answer(sql, explanation)}"
    yield "a draft corrected", f"{_answer('SELECT COUNT(*) FROM orders', 'Corrigindo:')}\n{_answer(sql, explanation)}"
    yield "explanation first", f"{explanation}\n\n```sql\n{sql}\n```"
    yield "explanation labelled", _answer(sql, f"**Explicação:** {explanation}")
    yield "explanation reworded", _answer(sql, _reworded(explanation))
    yield "extra spaces", f"\n\n```sql\n\n{sql}\n\n```\n\n   {explanation}  \n"


def _shapes(record: Mapping[str, Any], sql: str) -> dict[str, str]:
    """The same result with more columns, with only those that are asked for, as text, and under other labels."""
    result = record["reference"]["result"]
    asked, label = asked_columns(record["meta"]["family"], record["meta"]["question"], result["columns"])
    shapes = {
        "only what is asked for": f"SELECT {', '.join(asked)} FROM (\n{sql}\n)",
        "columns nobody asked for": f"SELECT 'loja' AS loja, *, 2018 AS ano FROM (\n{sql}\n)",
        "numbers as text": f"SELECT {', '.join(f'CAST({name} AS TEXT)' for name in asked)} FROM (\n{sql}\n)",
    }
    if label:
        labels = [row[result["columns"].index(label)] for row in result["rows"]]
        cases = " ".join(f"WHEN {_literal(value)} THEN 'grupo {place}'" for place, value in enumerate(labels))
        shown = [f"CASE {label} {cases} END" if name == label else name for name in asked]
        shapes["other labels"] = f"SELECT {', '.join(shown)} FROM (\n{sql}\n)"
    return shapes


def _outside_quotes(sql: str, change: Callable[[str], str]) -> str:
    return "".join(part if part.startswith("'") else change(part) for part in _QUOTED.split(sql))


def _unrounded(sql: str) -> str:
    tree = sqlglot.parse_one(sql, dialect="sqlite")
    return tree.transform(lambda node: node.this if isinstance(node, exp.Round) else node).sql(dialect="sqlite")


def _renamed(sql: str) -> str:
    for name in set(re.findall(r"\bAS ([a-z_]+)", sql)):
        sql = re.sub(rf"\b{name}\b", f"{name}_2", sql)
    return sql


def _reworded(explanation: str) -> str:
    for words, others in _SYNONYMS:
        explanation = explanation.replace(words, others)
    return f"Em resumo: {explanation}"


def _wrong(record: Mapping[str, Any], sql: str, explanation: str) -> Iterator[tuple[str, str]]:
    changes = {
        "another number": re.sub(r"\b\d+\b", lambda match: str(int(match[0]) + 1), sql, count=1),
        "another filter value": _QUOTED.sub("'nenhum'", sql, count=1),
        "filter dropped": re.sub(
            r"\bWHERE\b.*?(?=\bGROUP\b|\bORDER\b|\bLIMIT\b|\)|\Z)", "", sql, count=1, flags=re.DOTALL
        ),
        "sum for average": sql.replace("AVG(", "SUM("),
        "average for sum": sql.replace("SUM(", "AVG("),
        "count for sum": sql.replace("SUM(", "COUNT("),
        "order reversed": sql.replace(" DESC", " ASC"),
        "limit dropped": re.sub(r"\bLIMIT \d+", "", sql),
        "first column dropped": _one_column(sql),
        "labels exchanged": _exchanged(record, sql),
        "twice the rows": f"SELECT * FROM ({sql}) UNION ALL SELECT * FROM ({sql})",
    }
    for name, query in changes.items():
        if query != sql and _is_right(record, query) is False:
            yield name, _answer(query, explanation)
    yield "invented figure", _answer(sql, f"{explanation} O resultado é 7.391,4.")


def _exchanged(record: Mapping[str, Any], sql: str) -> str:
    """The query with each row's label moved to the next row."""
    result = record["reference"]["result"]
    asked, _ = asked_columns(record["meta"]["family"], record["meta"]["question"], result["columns"])
    labels = [row[result["columns"].index(asked[0])] for row in result["rows"]]
    cases = " ".join(f"WHEN {_literal(one)} THEN {_literal(two)}" for one, two in pairwise([*labels, labels[0]]))
    return f"SELECT CASE {asked[0]} {cases} END AS {asked[0]}, {', '.join(asked[1:]) or 1} FROM (\n{sql}\n)"


def _one_column(sql: str) -> str:
    return f"SELECT 'x' AS x, COUNT(*) AS n FROM ({sql})"


def _other(record: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> list[Probe]:
    """A good answer to a question of another family with another result."""
    for other in records:
        another = other["meta"]["family"] != record["meta"]["family"]
        if another and answer_share(other["reference"]["result"]["rows"], record) == 0.0:
            return [Probe("another record's reference", "other_record", other["reference"]["text"])]
    return []


def _lazy(record: Mapping[str, Any], sql: str, explanation: str) -> dict[str, str]:
    question = record["meta"]["question"]
    return {
        "right query, English explanation": _answer(sql, _ENGLISH),
        "counting all orders": _answer("SELECT COUNT(*) FROM orders_enriched", _EXPLANATION),
        "first rows, question copied": _answer("SELECT * FROM orders_enriched LIMIT 10", question),
        "a table that does not exist": _answer("SELECT AVG(valor) FROM pedidos GROUP BY estado", explanation),
        "query cut in half": f"```sql\n{sql[: len(sql) // 2]}",
    }


def _cheats(record: Mapping[str, Any], sql: str, explanation: str) -> dict[str, str]:
    return {
        "constants": _answer("SELECT 'SP', 42, 3.14", _EXPLANATION),
        "constants beside a CTE": _answer(f"WITH r AS (SELECT 1) {_constants(record)} FROM r", explanation),
        "SQL words in a row": " ".join(terms("sql_keywords")).upper() + " 1 2 3 pedidos clientes receita frete",
        "business words beside SELECT 1": _answer(
            "SELECT 1", "Receita, frete, pedidos, clientes, 10, 20, 30 e vendas."
        ),
        "query in a comment": _answer(f"-- {' '.join(sql.split())}\nSELECT 1", _EXPLANATION),
        "two statements": _answer(f"{sql};\nDROP TABLE orders", _EXPLANATION),
        "dropping a table": _answer("DROP TABLE orders", _EXPLANATION),
        "reading the schema table": _answer("SELECT name FROM sqlite_master", _EXPLANATION),
        "endless recursion": _answer(
            "WITH RECURSIVE r(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM r) SELECT COUNT(*) FROM r", _EXPLANATION
        ),
        "empty fence": "```sql\n```",
        "the query as prose": f"A consulta seria {_outside_quotes(' '.join(sql.split()), str.lower)[7:]}",
    }


def _constants(record: Mapping[str, Any]) -> str:
    """The reference's rows as literals, whatever they are read from: knowing the answer is the hard part."""
    rows = record["reference"]["result"]["rows"]
    selects = [f"SELECT {', '.join(map(_literal, row))}" for row in rows[:19]]
    return " UNION ALL ".join(selects)


def _literal(value: Any) -> str:
    if isinstance(value, str):
        quoted = value.replace("'", "''")
        return f"'{quoted}'"
    return "NULL" if value is None else repr(value)
