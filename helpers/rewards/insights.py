"""Reward of insights: a short strategic analysis of a small table, with findings, causes and actions."""

import re
from collections.abc import Mapping
from itertools import zip_longest
from typing import Any

from helpers.rewards.base import Parser, Parts
from helpers.rewards.text.language import novelty_share, own_words_share, portuguese_share, prompt_words
from helpers.rewards.text.numbers import WrittenNumber, approximate, numbers_in
from helpers.rewards.text.table import TableFacts
from helpers.rewards.text.words import fold, vocabulary, words
from helpers.tasks import user_text

WEIGHTS = {
    "v4.1": {"structure": 0.30, "actions": 0.25, "length": 0.20, "vocabulary": 0.25},
    "v4.2": {"figures": 0.45, "labels": 0.10, "structure": 0.25, "actions": 0.10, "length": 0.10},
}

ACTION_WORDS_WANTED = 3
BUSINESS_TERMS_WANTED = 4
FULL_LENGTH = (250, 1500)
ZERO_LENGTH = 3000
SECTION_WORDS = 3
FIGURES_WANTED = 3
LABELS_WANTED = 2
UNGROUNDED = 0.3
"""What good form is worth in an analysis that cites none of its table's figures."""
UNNAMED = 0.3
"""What right figures are worth where no row of the table is named: a small table's figures are easily hit by chance."""
UNSTRUCTURED = 0.3
"""What right figures and names are worth outside of findings and actions: a table read aloud is no analysis."""


def _labels(mark: str, findings: str, actions: str, end: str) -> re.Pattern[str]:
    """A label opens a line or a sentence behind `mark`s (Markdown), and ends in a colon or with its line (`end`).

    Repetitions are bounded so that no text takes quadratic time.
    """
    return re.compile(
        rf"(?:^|[.;!?\n]){mark}{{0,12}}"
        r"(?:(?:principais|proximas|proximos|possiveis|provaveis|plano[ ]de)[ ]{1,3})?"
        r"(?:(?P<findings>achados?|descobertas?|constatac\w+|diagnostico|insights?|observac\w+|destaques?|resultados?|"
        rf"o[ ]que[ ]os[ ]dados[ ]mostram{findings})"
        r"|(?P<causes>causas?|hipoteses?|motivos?|por[ ]que)"
        rf"|(?P<actions>ac(?:ao|oes)|recomendac\w+|passos|sugestoes|o[ ]que[ ]fazer{actions}))"
        rf"(?:[ ]{{1,3}}\w{{1,20}}){{0,2}}{end}",
        re.MULTILINE,
    )


_HANDOFF_LABEL = _labels(r"[ \t#>*_\-\d.)]", "", "", r"[ \t*_]{0,6}(?::|$)")
_LABEL = _labels(
    r"[^a-z\n]", "|analises?|resumo", "|sugestao", r"(?:[ ]?\([^()\n]{0,60}\))?[ \t*_]{0,6}(?::|[–—]|-[ ]|\r?$)"
)
"""v4.2 also reads emojis and bullets before a label, and a remark, a dash or a Windows line end behind it."""

_SENTENCE_END = re.compile(r"(?<=[.;!?])\s+|\n")

# What an action plans: terms, dates, times and rates of doing it ...
_TIME = r"(?:dias?|semanas?|quinzenas?|m[eê]s|meses|trimestres?|semestres?|anos?|horas?|hs?|min|minutos?)"
_TERM = re.compile(
    rf"\d{{1,3}}(?:\s?(?:a|e|ou|-|–)\s?\d{{1,3}})?\s?{_TIME}(?:\d\d)?\b"
    rf"|\d{{1,2}}\s?(?:x|vez(?:es)?)\s(?:por|ao|à|a|na|no|em|cada)\s(?:cada\s)?{_TIME}\b"
    r"|\d{1,2}/\d{1,2}(?:/\d{2,4})?\b|\d{1,2}/\d{4}\b|\b(?:em|at[eé]|de|durante|ano)\s20[1-4]\d\b|\bdias?\s\d{1,2}(?:\s(?:e|a)\s\d{1,2})?\b"
    r"|\d{1,2}\sde\s(?:jan|fev|mar|abr|mai|jun|jul|ago|set|out|nov|dez)\w*",
    re.IGNORECASE,
)
# ... and the figure it wants to reach, which words such as these introduce unless those before report a state.
_TARGET = re.compile(
    r"\b(?:para|at[eé]|abaixo de|acima de|(?:no |o )?m[aá]ximo(?: de)?|(?:no |o )?m[ií]nimo(?: de)?|pelo menos|ao menos"
    r"|a partir de|metas? (?:de|é)|teto de|limite de|(?:desconto|cupom|cupons|cashback|b[oô]nus|multa) de"
    r"|(?:reduz|cort|diminu|baix|aument|elev|ampli|cresc|sub|melhor)[^\W\d_]*\s[^.;,\d]{0,60}\bem|parcel\w+ em)\s+$",
    re.IGNORECASE,
)
_REPORTED = re.compile(
    r"\b(?:subiu|caiu|passou|foi|saiu|cresceu|aumentou|reduziu|chegou|variou|est[aá]|ficou|fica|tem|registr\w+)\b[^.;,]*$",
    re.IGNORECASE,
)
_BASELINE = re.compile(r"\bd[eao]s?\s+$", re.IGNORECASE)
_TO_TARGET = re.compile(rf"\s?(?:{_TIME}\s)?(?:para|até|ate|a)\s+(?:cerca de\s+)?(?:R\$\s?)?\d", re.IGNORECASE)
FEW = 20
PLAN_REACH = 80
"""Characters before a figure in which the words stand that make it a plan."""


def sections(text: str, label: re.Pattern[str] = _LABEL) -> dict[str, str]:
    """The folded text of each labelled section (`findings`, `causes`, `actions`); repeated labels are joined.

    >>> sections("Achados: o frete subiu.\\nAções: renegociar o frete.")
    {'findings': 'o frete subiu.', 'actions': 'renegociar o frete.'}
    """
    folded = fold(text)
    matches = list(label.finditer(folded))
    bodies: dict[str, str] = {}
    for match, following in zip_longest(matches, matches[1:]):
        name = str(match.lastgroup)
        body = folded[match.end() : following.start() if following else None]
        bodies[name] = f"{bodies.get(name, '')} {body}".strip(" \t\n*_")
    return bodies


def structure_share(text: str, label: re.Pattern[str] = _LABEL) -> float:
    """Half for a findings section with words in it, half for an actions section."""
    bodies = sections(text, label)
    return sum(len(words(bodies.get(name, ""))) >= SECTION_WORDS for name in ("findings", "actions")) / 2


def length_share(characters: int) -> float:
    """Full from 250 to 1,500 characters, linear below, falling to 0 at 3,000.

    >>> [length_share(n) for n in (0, 125, 250, 1500, 2250, 4000)]
    [0.0, 0.5, 1.0, 1.0, 0.5, 0.0]
    """
    low, high = FULL_LENGTH
    return max(0.0, min(1.0, characters / low, (ZERO_LENGTH - characters) / (ZERO_LENGTH - high)))


def form(text: str, record: Mapping[str, Any], parser: Parser) -> Parts:
    """v4.1: two labelled sections, action words, a sensible length, business words. No figure is checked."""
    return Parts(
        {
            "structure": structure_share(text, _HANDOFF_LABEL),
            "actions": vocabulary("actions").share(text, ACTION_WORDS_WANTED),
            "length": length_share(len(text.strip())),
            "vocabulary": vocabulary("business").share(text, BUSINESS_TERMS_WANTED),
        }
    )


def correctness(text: str, record: Mapping[str, Any], parser: Parser) -> Parts:
    """v4.2: the figures cited are the table's or follow from it; form counts as far as they do.

    Nothing counts in a text that is not Portuguese, repeats itself or copies the prompt.
    """
    prompt = user_text(record["prompt"])
    facts = TableFacts(record["meta"]["table"], prompt)
    figures, ungrounded = figures_share(text, facts)
    labels = min(1.0, len(facts.rows_named(text)) / min(LABELS_WANTED, max(1, facts.label_count)))
    figures *= UNNAMED + (1 - UNNAMED) * labels
    language = portuguese_share(text)
    readable = language * novelty_share(text) * own_words_share(text, prompt_words(record))
    structure = structure_share(text)
    analysed = readable * (UNSTRUCTURED + (1 - UNSTRUCTURED) * structure)
    form_worth = readable * (UNGROUNDED + (1 - UNGROUNDED) * figures)
    shares = {
        "figures": analysed * figures,
        "labels": analysed * labels,
        "structure": form_worth * structure,
        "actions": form_worth * vocabulary("actions").share(text, ACTION_WORDS_WANTED),
        "length": form_worth * length_share(len(text.strip())),
    }
    return Parts(shares, ("ungrounded_figure",) if ungrounded else ())


def figures_share(text: str, facts: TableFacts) -> tuple[float, int]:
    """How well a text's figures rest on the table, and how many do not.

    The share of grounded figures, squared so that one invention shows, times the distinct figures of the table itself
    that are cited, out of three. A row's figure in a sentence that names only other rows is not grounded. What an
    action plans is no figure: its terms and dates, and the target it sets (`de 8% para 3%` must ground the 8 alone).
    """
    acts_in_section = "actions" in sections(text)
    section = ""
    grounded, ungrounded, cited = 0, 0, set()
    for sentence in _SENTENCE_END.split(text):
        section = next((str(label.lastgroup) for label in _LABEL.finditer(fold(sentence))), section)
        numbers = [approximate(number, sentence) for number in numbers_in(sentence)]
        if not numbers:
            continue
        acts = section == "actions" if acts_in_section else bool(vocabulary("actions").found(sentence))
        numbers = _without_terms(sentence, numbers) if acts else numbers
        named = facts.rows_named(sentence)
        compares = bool(vocabulary("comparisons").found(sentence))
        held = [number for number in numbers if facts.hold_about(number, named, compares)]
        held_at = {number.start for number in held}
        others = [number for number in numbers if number.start not in held_at]
        grounded += len(held)
        ungrounded += sum(not (acts and _is_target(sentence, number)) for number in others)
        cited |= {number.values for number in held if facts.direct.hold(number)}
    if not cited:
        return 0.0, ungrounded
    return (grounded / (grounded + ungrounded)) ** 2 * min(1.0, len(cited) / FIGURES_WANTED), ungrounded


def _without_terms(sentence: str, numbers: list[WrittenNumber]) -> list[WrittenNumber]:
    in_terms = {place for match in _TERM.finditer(sentence) for place in range(*match.span())}
    return [number for number in numbers if number.start not in in_terms or _is_baseline(sentence, number)]


def _is_baseline(sentence: str, number: WrittenNumber) -> bool:
    """Whether an action starts from the figure: the 8 of `de 8% para 3%`."""
    return bool(_BASELINE.search(_before(sentence, number)) and _TO_TARGET.match(sentence, number.end))


def _is_target(sentence: str, number: WrittenNumber) -> bool:
    """Whether an action wants to reach the figure, or to do so many things (`contratar 2 transportadoras`)."""
    before = _before(sentence, number)
    if _is_baseline(sentence, number) or _REPORTED.search(before):
        return False
    verb = before.split()[-1:]
    few = number.unit == "plain" and number.values[0] < FEW
    return bool(_TARGET.search(before) or (verb and few and vocabulary("actions").found(verb[0])))


def _before(sentence: str, number: WrittenNumber) -> str:
    return sentence[max(0, number.start - PLAN_REACH) : number.start]
