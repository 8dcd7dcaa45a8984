"""Probes of insights: the analysis in other dress, with figures that the table does not hold, or without analysis."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from helpers.rewards.probes.base import Probe
from helpers.rewards.text.numbers import WrittenNumber, numbers_in
from helpers.rewards.text.table import TableFacts
from helpers.rewards.text.words import terms
from helpers.tasks import user_text
from helpers.tasks.pairs.portuguese import number as written

_FACTORS = (1.37, 0.63, 1.71, 2.29, 0.41, 3.83, 1.19, 5.47, 0.29, 7.93)
_RENAMED = (("Achados", "Principais achados"), ("Ações", "Ações recomendadas"), ("Causas", "Possíveis causas"))
_SYNONYMS = (("Priorizar", "Focar"), ("Negociar", "Renegociar"), ("Investigar", "Apurar"), ("maior", "mais alto"))
_BOILERPLATE = (
    "Achados: os indicadores mostram diferenças importantes entre as linhas da tabela, com algumas bem acima da média "
    "e outras bem abaixo dela.\nCausas prováveis: logística, atendimento e mix de produtos.\n"
    "Ações: revisar os processos, negociar com as transportadoras, monitorar os resultados e priorizar os clientes."
)

_TERMS = (
    "Responder aos clientes em 24h, rever o plano 3x por semana nos próximos 30 dias e em 2 semanas, medir até 31/12, "
    "às 18h, no dia 5 de cada mês e contratar 2 analistas."
)


def probes(record: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> list[Probe]:
    """Everything tried on one table."""
    text = record["reference"]["text"]
    return [
        Probe("reference", "reference", text),
        *(Probe(name, "harmless", probe) for name, probe in _harmless(text).items()),
        *(Probe(name, "wrong_fact", probe) for name, probe in _wrong(record, text)),
        *_other(record, records),
        *(Probe(name, "lazy", probe) for name, probe in _lazy(record, text).items()),
        *(Probe(name, "cheat", probe) for name, probe in _cheats(record, text).items()),
        Probe("first sentence alone", "partial", text.split(". ", 1)[0]),
        Probe("two rows' names exchanged", "limit", _exchanged(record, text)),
    ]


def _harmless(text: str) -> dict[str, str]:
    return {
        "Markdown headings": _relabelled(text, r"\n## \1\n"),
        "bold labels": _relabelled(text, r"**\1:** "),
        "labels in capitals": re.sub(r"\b(Achados|Causas|Ações)\b", lambda match: match[0].upper(), text),
        "other labels": _replaced(text, _RENAMED),
        "extra blank lines": text.replace("\n", "\n\n\n"),
        "extra spaces": f"  {text.replace(' ', '  ')}  ",
        "decimal points": re.sub(r"(\d),(\d{1,2})(?!\d)", r"\1.\2", text),
        "bullets": re.sub(r"\n(?=\S)", "\n- ", text),
        "reworded": _replaced(text, _SYNONYMS),
        "a closing sentence": f"{text}\nVale acompanhar esses indicadores de perto.",
        "terms in actions": f"{text} {_TERMS}",
        "a target in an action": f"{text} Reduzir o problema para 3% e oferecer cupom de R$ 20 acima de R$ 150.",
        "Windows line ends": text.replace("\n", "\r\n"),
    }


def _relabelled(text: str, form: str) -> str:
    return re.sub(r"\b((?:Principais |Prováveis )?(?:Achados|Causas|Ações)(?: \w+){0,2}): ?", form, text)


def _replaced(text: str, pairs: tuple[tuple[str, str], ...]) -> str:
    for words, others in pairs:
        text = text.replace(words, others)
    return text


def _wrong(record: Mapping[str, Any], text: str) -> Iterator[tuple[str, str]]:
    facts = TableFacts(record["meta"]["table"], user_text(record["prompt"]))
    numbers = [number for number in numbers_in(text) if facts.direct.hold(number)]
    for name, number in zip(("first", "last"), (numbers[0], numbers[-1]), strict=True) if numbers else ():
        wrong = _changed(text, number, facts)
        if wrong:
            yield f"{name} figure wrong", wrong
    other = _other_row(record, text)
    if other:
        yield "another row's name", other
    yield "invented figure in an action", f"{text} Reduzir o problema de 98.765,4 para 3%."
    yield "invented figure", f"{text} No total, foram 98.765,4 ocorrências."


def _other_row(record: Mapping[str, Any], text: str) -> str | None:
    """The text with one row's name replaced by that of a row which it does not name."""
    labels = [str(row[0]) for row in record["meta"]["table"]["rows"]]
    used = [label for label in labels if label in text]
    unused = [label for label in labels if label.lower() not in text.lower()]
    if not used or not unused:
        return None
    return re.sub(re.escape(used[0]), unused[0], text, flags=re.IGNORECASE)


def _changed(text: str, number: WrittenNumber, facts: TableFacts) -> str | None:
    """The text with one figure replaced by one that the table does not give, written with as many decimals."""
    shown = re.search(r"\d[\d.,]*\d|\d", text[number.start : number.end])
    if shown is None:
        return None
    decimals = len(shown[0].partition(",")[2])
    for factor in _FACTORS:
        figure = written(number.values[0] * factor, decimals)
        start = number.start + shown.start()
        wrong = text[:start] + figure + text[start + len(shown[0]) :]
        if not all(facts.hold(other) for other in numbers_in(wrong) if other.start <= start < other.end):
            return wrong
    return None


def _other(record: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> list[Probe]:
    """A good analysis of a table of another topic with none of this table's rows."""
    facts = TableFacts(record["meta"]["table"])
    for other in records:
        text = other["reference"]["text"]
        if other["meta"]["topic"] != record["meta"]["topic"] and not facts.rows_named(text):
            return [Probe("another record's reference", "other_record", text)]
    return []


def _lazy(record: Mapping[str, Any], text: str) -> dict[str, str]:
    return {
        "an analysis without figures": _BOILERPLATE,
        "in English": _in_english(record),
        "the table in words": _in_words(record),
    }


def _in_english(record: Mapping[str, Any]) -> str:
    rows = record["meta"]["table"]["rows"]
    facts = "; ".join(f"{row[0]} is at {row[1]} and this is one of the values in the table" for row in rows[:4])
    return f"Findings: {facts}. Causes: the price and the delivery. Actions: review the costs and talk to the sellers."


def _in_words(record: Mapping[str, Any]) -> str:
    return "\n".join(" ".join(map(str, row)) for row in record["meta"]["table"]["rows"])


def _cheats(record: Mapping[str, Any], text: str) -> dict[str, str]:
    table = record["meta"]["table"]
    finding = text.split(".", 1)[0]
    actions = " ".join(sorted(terms("actions")))
    return {
        "the table echoed": "\n".join(" | ".join(map(str, row)) for row in [table["columns"], *table["rows"]]),
        "one finding twenty times": f"{finding}. " * 20,
        "the reference five times": f"{text}\n" * 5,
        "labels without content": "Achados:\nCausas:\nAções:\n",
        "action words in a row": f"Achados: {actions} Ações: {actions}",
        "figures in a row": " ".join(str(value) for row in table["rows"] for value in row[1:]) * 3,
        "business words in a row": "Achados: " + ", ".join(sorted(terms("business"))),
    }


def _exchanged(record: Mapping[str, Any], text: str) -> str:
    """The names of two rows exchanged throughout: every figure stays, all now of the wrong row."""
    labels = [str(row[0]) for row in record["meta"]["table"]["rows"] if str(row[0]) in text]
    if len(labels) < 2:
        return text
    first, second = labels[:2]
    return text.replace(first, "\0").replace(second, first).replace("\0", second)
