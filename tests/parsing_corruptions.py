"""Documents with known meaning, damaged in known ways: the adversary that the tolerant parser is hardened against.

A `Document` is an object still in pieces (keys, quotes, colons, values, separators). Each corruption changes pieces
and, where the damage changes the meaning, the expected object with them; `render` joins the pieces. Corruptions that
touch different sites can be combined.
"""

import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

COMPLAINTS = (
    "Chegou com 12 dias de atraso",
    "Produto veio quebrado, sem nota fiscal",
    "Não recebi o pedido; ninguém responde",
    "Tela de 6,5 polegadas riscada: quero troca",
    "Copo d'água trincado (2 de 6)",
    "Paguei R$ 1.234,56 e veio outro [modelo]",
    "Péssimo!!! Nunca mais compro {nessa} loja",
    "O vendedor é atencioso, mas a entrega, não",
    "Demora - e muita - para responder",
    "Veio tamanho 38, pedi 40",
    "Comprei p/ minha mãe: veio (errado), com risco!",
    "Site caiu <br> e cobrou 2x",
    "#decepção - nunca mais",
    "1. atraso 2. defeito",
    "Ver https://loja.com/p?id=4,5&x=1",
    'Nota 4,5 "de 5" (segundo o site)',
    "O “premium” veio usado",
    "Prazo era 10/03, veio 15/03.",
    "😡😡 péssimo",
    "disse: 'já enviei', e sumiu",
    "Preço = R$ 50,00 + frete",
    "sentiment: negative, urgency: high",
    "Não sei... talvez; enfim",
    "Nota [2] {ruim} (3)",
    "true",
    "4,5",
    "",
    None,
)
CATEGORIES = ("none", "late_delivery", "not_delivered", "damaged_product", "product_quality")


@dataclass
class Piece:
    """One `key: value,` of a document: `behind` stands before its separator, `after` behind it."""

    key: str
    value: Any
    body: str
    quotes: list[str]
    key_text: str = ""
    key_quotes: list[str] = field(default_factory=lambda: ['"', '"'])
    before: str = ""
    colon: str = ": "
    behind: str = ""
    separator: str = ","
    after: str = " "

    def render(self, last: bool) -> str:
        key = self.key_quotes[0] + self.key_text + self.key_quotes[1]
        body = self.body.replace("\x01", self.quotes[0].lstrip("(")).replace("\x02", self.quotes[1].rstrip(")"))
        value = self.quotes[0] + body + self.quotes[1]
        end = self.behind + ("" if last and self.separator in (",", ";") else self.separator)
        return self.before + key + self.colon + value + end + ("" if last and not self.after.strip() else self.after)


@dataclass
class Document:
    """An object in pieces and what it still means."""

    pieces: list[Piece]
    opening: str = "{"
    closing: str = "}"
    before: str = ""
    behind: str = ""
    cut: int | None = None
    unanswered: bool = False
    tail: str | None = None
    whole_tail: bool = False
    wrap: list[Callable[[str], str]] = field(default_factory=list)

    def __getitem__(self, key: str) -> Piece:
        return next(piece for piece in self.pieces if piece.key == key)

    def expected(self) -> dict[str, Any] | None:
        kept = self.pieces[: 0 if self.unanswered else self.cut]
        return {piece.key: piece.value for piece in kept} or None

    def render(self) -> str:
        if self.cut is None:
            text = "".join(piece.render(piece is self.pieces[-1]) for piece in self.pieces) + self.closing
        else:
            text = "".join(piece.render(False) for piece in self.pieces[: self.cut - self.whole_tail])
            if self.tail is None:
                half = self.pieces[self.cut]
                text += half.before + half.key_quotes[0] + half.key_text[:3]
            text += self.tail or ""
        text = self.opening + text
        for wrap in self.wrap:
            text = wrap(text)
        return self.before + text + self.behind


def reference(rng: random.Random) -> dict[str, Any]:
    """A review's ten fields."""
    return {
        "sentiment": rng.choice(("positive", "neutral", "negative")),
        "sentiment_score": rng.choice((1.0, 1.5, 2.5, 3, 4, 4.5, 4.75)),
        "complaint_category": rng.choice(CATEGORIES),
        "churn_risk": rng.choice(("low", "medium", "high")),
        "urgency": rng.choice(("low", "medium", "high")),
        "delivery_issue": rng.random() < 0.5,
        "product_issue": rng.random() < 0.5,
        "seller_issue": rng.random() < 0.5,
        "would_buy_again": rng.random() < 0.5,
        "main_complaint": rng.choice(COMPLAINTS),
    }


def piece(key: str, value: Any, like: Piece | None = None, text: str | None = None) -> Piece:
    """A strict piece, or one whose value is written as `text`; punctuation as in `like`."""
    if isinstance(value, str) and text is None:
        made = Piece(key, value, json.dumps(value, ensure_ascii=False)[1:-1], ['"', '"'], key)
    else:
        made = Piece(key, value, json.dumps(value, ensure_ascii=False) if text is None else text, ["", ""], key)
    if like:
        made.colon, made.after = like.colon, like.after
    return made


def document(rng: random.Random) -> Document:
    """A strict document: one line, compact, or indented; keys in any order."""
    values = list(reference(rng).items())
    if rng.random() < 0.5:
        rng.shuffle(values)
    made = Document([piece(key, value) for key, value in values])
    style = rng.choice(("line", "line", "compact", "indented"))
    if style == "indented":
        made.opening, made.closing = "{\n  ", "\n}"
    for part in made.pieces:
        part.colon = ":" if style == "compact" else ": "
        part.after = {"line": " ", "compact": "", "indented": "\n  "}[style]
    return made


def _strings(made: Document) -> list[Piece]:
    return [part for part in made.pieces if part.quotes[0] and part.key not in ("main_complaint", "tags")]


def _inside(made: Document, rng: random.Random) -> Piece:
    return rng.choice(made.pieces[:-1])


def _complain(made: Document, text: str) -> Piece:
    part = made["main_complaint"]
    part.value, part.body, part.quotes = text, text, ['"', '"']
    return part


# -- quotes


def style(opening: str, closing: str) -> Callable[[Document, random.Random], None]:
    def corrupt(made: Document, rng: random.Random) -> None:
        for part in made.pieces:
            part.key_quotes = [opening, closing]
            if part.quotes[0]:
                part.quotes = [opening, closing]

    return corrupt


def mixed_quotes(made: Document, rng: random.Random) -> None:
    for part in made.pieces:
        part.key_quotes = list(rng.choice(('""', "''", "“”", "““", "‘’", '“"', "´´")))
        if part.quotes[0] and part.key != "main_complaint":
            part.quotes = list(rng.choice(('""', "''", "“”", "““", "‘’", '“"', "´´")))


def python_repr(made: Document, rng: random.Random) -> None:
    """Single quotes, double ones around an apostrophe."""
    for part in made.pieces:
        part.key_quotes = ["'", "'"]
        if part.quotes[0] and "'" not in part.body:
            part.quotes = ["'", "'"]


def bold_keys(made: Document, rng: random.Random) -> None:
    mark = rng.choice(("**", "*"))
    for part in made.pieces:
        part.key_quotes = [mark + part.key_quotes[0], part.key_quotes[1] + mark]


def bare_keys(made: Document, rng: random.Random) -> None:
    for part in made.pieces:
        part.key_quotes = ["", ""]


def bare_value(made: Document, rng: random.Random) -> None:
    rng.choice(_strings(made)).quotes = ["", ""]


def bare_values(made: Document, rng: random.Random) -> None:
    for part in _strings(made):
        part.quotes = ["", ""]


def missing_quote(made: Document, rng: random.Random) -> None:
    part = rng.choice(_strings(made))
    rng.choice((part.quotes, part.key_quotes))[rng.randrange(2)] = ""


def doubled_quotes(made: Document, rng: random.Random) -> None:
    parts = rng.choice((made.pieces, [rng.choice(_strings(made))], [_inside(made, rng)]))
    sides = rng.choice(((0, 1), (0, 1), (0,), (1,)))
    where = rng.choice(("keys", "values", "both"))
    for part in parts:
        for side in sides:
            if where != "values" or not part.quotes[0]:
                part.key_quotes[side] *= 2
            if where != "keys" and part.body:
                part.quotes[side] *= 2


def one_doubled_quote(made: Document, rng: random.Random) -> None:
    part = rng.choice(_strings(made))
    rng.choice((part.quotes, part.key_quotes))[rng.randrange(2)] *= 2


# -- values


def decimal_comma(made: Document, rng: random.Random) -> None:
    for part in made.pieces:
        if isinstance(part.value, float):
            part.body = part.body.replace(".", ",")


def number_form(*forms: tuple[str, float]) -> Callable[[Document, random.Random], None]:
    def corrupt(made: Document, rng: random.Random) -> None:
        text, value = rng.choice(forms)
        at = rng.randrange(1, len(made.pieces))
        made.pieces.insert(at, piece("valor", value, made.pieces[0], text))

    return corrupt


def container(*forms: tuple[str, Any]) -> Callable[[Document, random.Random], None]:
    def corrupt(made: Document, rng: random.Random) -> None:
        text, value = rng.choice(forms)
        at = rng.randrange(1, len(made.pieces))
        made.pieces.insert(at, piece("tags", value, made.pieces[0], text))

    return corrupt


def bare_key_with_list(made: Document, rng: random.Random) -> None:
    text, value = rng.choice(
        (("[1, 2, 3]", [1, 2, 3]), ("[4.5]", [4.5]), ("[1,2]", [1, 2]), ('["a", "b"]', ["a", "b"]))
    )
    at = rng.randrange(0, len(made.pieces))
    made.pieces.insert(at, piece("notas", value, made.pieces[0], text))
    made.pieces[at].key_quotes = ["", ""]


def literals(true: str, false: str, null: str) -> Callable[[Document, random.Random], None]:
    def corrupt(made: Document, rng: random.Random) -> None:
        for part in made.pieces:
            for value, text in ((True, true), (False, false), (None, null)):
                if part.value is value:
                    part.body = text

    return corrupt


def bare_text(made: Document, rng: random.Random) -> None:
    texts = ("veio quebrado, sem nota", "4,5/5", "R$ 1.234,56 a mais", "atraso de 3 dias", "nunca mais!", "50%")
    _complain(made, rng.choice(texts)).quotes = ["", ""]


def inner_quote(made: Document, rng: random.Random) -> None:
    texts = (
        'Disse "já foi enviado" e sumiu',
        'Veio "usado", sem lacre',
        'Escreveu "nunca mais"',
        '"Original" era falso',
        'TV de 32" com risco',
        'Prometeu "hoje", "amanhã" e nada',
    )
    _complain(made, rng.choice(texts))


def wrapped_quote(made: Document, rng: random.Random) -> None:
    word = rng.choice(("atraso", "defeito: grave", "não, obrigado", "5 estrelas", "ok, nota 4,5"))
    _complain(
        made, rng.choice((f'Veio com "{word}" na caixa', f'"{word}" na tela', f'Sobre "{word}", "{word}" e mais'))
    )


def raw_newline(made: Document, rng: random.Random) -> None:
    _complain(made, "Primeira linha\nsegunda\tlinha")


def joined_strings(made: Document, rng: random.Random) -> None:
    first, second = rng.choice((("Chegou tarde, ", "e quebrado"), ("Nota 4,5 ", "de 5"), ("Uma linha ", "e outra")))
    part = _complain(made, first + second)
    part.body = first + rng.choice(("\x02 + \x01", "\x02\n    + \x01", "\x02 +\n \x01", "\x02+\x01")) + second
    if rng.random() < 0.3:
        part.quotes = ["(" + part.quotes[0], part.quotes[1] + ")"]


def markdown(made: Document, rng: random.Random) -> None:
    for part in made.pieces:
        part.key_text = part.key_text.replace("_", "\\_")


def surrogate(made: Document, rng: random.Random) -> None:
    mark = rng.choice(("\\ud83d", "\\udc00", "\ud83d"))
    _complain(made, "Veio errado \ufffd!").body = f"Veio errado {mark}!"


def duplicate(made: Document, rng: random.Random) -> None:
    part = _inside(made, rng)
    made.pieces.insert(0, piece(part.key, "rascunho", part))
    made.pieces[0].key_quotes = list(part.key_quotes)


def not_finite(made: Document, rng: random.Random) -> None:
    part = made["sentiment_score"]
    part.value, part.body = None, rng.choice(("NaN", "-Infinity", "1e999"))


def missing_value(made: Document, rng: random.Random) -> None:
    part = rng.choice([part for part in made.pieces[:-1] if part.key not in ("main_complaint", "sentiment_score")])
    part.value, part.body, part.quotes, part.behind = None, "", ["", ""], ""


def colon_spaces(made: Document, rng: random.Random) -> None:
    for part in made.pieces:
        part.colon = rng.choice((" : ", ":\n    ", ":  ", " :"))


# -- separators, remarks, colons


def doubled_comma(made: Document, rng: random.Random) -> None:
    _inside(made, rng).separator *= 2


def missing_comma(made: Document, rng: random.Random) -> None:
    part = _inside(made, rng)
    part.separator, part.after = "", part.after or " "


def no_commas(made: Document, rng: random.Random) -> None:
    for part in made.pieces:
        part.separator, part.after = "", part.after or "\n"


def line_ends(made: Document, rng: random.Random) -> None:
    for part in made.pieces:
        part.separator, part.after = "", "\n"


def semicolons(made: Document, rng: random.Random) -> None:
    for part in made.pieces:
        part.separator = ";"


def comment(made: Document, rng: random.Random) -> None:
    part = _inside(made, rng)
    part.after += rng.choice(("// nota do analista\n", "/* conferir, talvez */ ", "# nota: ver depois\n"))


def quoted_comment(made: Document, rng: random.Random) -> None:
    part = _inside(made, rng)
    part.after += rng.choice(('// disse "sim", {talvez}: 4,5\n', '/* "nota": 4,5 */ ', '<!-- "nota" -->'))


BRACKETED = ("(cliente irritado)", "(nota baixa, veja acima)", "[conferir]", "(ver item 2)", "(obs.: urgente)", "(!)")
REMARKS = (*BRACKETED, "<br>", "<br/>", "<br />", "😡", "✅ ", "⭐⭐", "👍🏽", "—", "->", "**")
MARKS = ("- ", "* ", "• ", "– ", "1. ", "2) ", "+ ", "· ", "→ ", "> ")


def remark(made: Document, rng: random.Random) -> None:
    """`, (cliente irritado) "urgency"`; never right behind a number, which a remark might belong to."""
    part = rng.choice([part for part in made.pieces[:-1] if part.separator or part.quotes[0]])
    part.after += rng.choice(REMARKS) + rng.choice((" ", "\n", ""))


def remark_at_an_edge(made: Document, rng: random.Random) -> None:
    text = rng.choice(REMARKS)
    if rng.random() < 0.5:
        made.opening = made.opening.rstrip() + " " + text + rng.choice((" ", "\n"))
    else:
        made.pieces[-1].after, made.closing = ", ", text + made.closing


def words(made: Document, rng: random.Random) -> None:
    part = rng.choice([part for part in made.pieces[:-1] if part.quotes[0] or part.separator])
    part.separator, part.after = (
        part.separator or ",",
        " " + rng.choice(("obs urgente", "nota do analista", "e também", "ver abaixo ->", "cliente irritado -")) + " ",
    )


def remarks(made: Document, rng: random.Random) -> None:
    text = rng.choice(REMARKS)
    for part in made.pieces[:-1]:
        if part.separator or part.quotes[0]:
            part.after += text + " "


def remark_before_comma(made: Document, rng: random.Random) -> None:
    part = rng.choice([part for part in made.pieces if part.quotes[0] and part.key != "main_complaint"])
    part.behind = rng.choice(("", " ")) + rng.choice(REMARKS)


def list_marks(made: Document, rng: random.Random) -> None:
    mark = rng.choice(MARKS)
    for part in made.pieces:
        part.before, part.after = mark, "\n"
    made.opening, made.closing = "{\n", "\n}"


def one_list_mark(made: Document, rng: random.Random) -> None:
    part = _inside(made, rng)
    part.after = rng.choice(("\n", "\n  ")) + rng.choice(MARKS)


def missing_colon(made: Document, rng: random.Random) -> None:
    rng.choice(made.pieces).colon = " "


def colons(made: Document, rng: random.Random) -> None:
    text = rng.choice((" = ", " => ", "：", "=", " := "))
    for part in made.pieces:
        part.colon = text


def odd_spaces(made: Document, rng: random.Random) -> None:
    for part in made.pieces:
        part.colon += rng.choice(("\u00a0", "\u200b", "\u2003", "\ufeff"))


# -- the object's end


def trailing_comma(made: Document, rng: random.Random) -> None:
    made.pieces[-1].after = ","


def ellipsis(made: Document, rng: random.Random) -> None:
    made.pieces[-1].after = rng.choice((", ...", ",\n...", ", …"))


def every_second_brace(made: Document, rng: random.Random) -> None:
    extra = piece("extra", {"a": "x", "b": None}, made.pieces[0], '{{"a": "x", "b": null}}')
    made.pieces.insert(1, extra)
    made.opening, made.closing = "{" + made.opening, made.closing + "}"


def no_brace(made: Document, rng: random.Random) -> None:
    """A number stands elsewhere: at the very end of the text it is not whole."""
    made.pieces.sort(
        key=lambda part: isinstance(part.value, (int, float)) and not isinstance(part.value, bool), reverse=True
    )
    made.closing = ""


def no_brace_before(*ends: str) -> Callable[[Document, random.Random], None]:
    def corrupt(made: Document, rng: random.Random) -> None:
        made.closing, made.behind = "", rng.choice(("", " ", "\n")) + rng.choice(ends) + made.behind

    return corrupt


def no_brace_before_stop(made: Document, rng: random.Random) -> None:
    no_brace(made, rng)
    made.behind = "." + made.behind


def surplus_brace(made: Document, rng: random.Random) -> None:
    made.closing += "}"


def double_braces(made: Document, rng: random.Random) -> None:
    made.opening, made.closing = "{" + made.opening, made.closing + "}"


def cut_anywhere(made: Document, rng: random.Random) -> None:
    """Anywhere in the text: a field is kept if its value is whole, a number if something behind it ends it."""
    whole = made.pieces[:]
    made.cut = rng.randrange(1, len(whole))
    part = whole[made.cut]
    text = part.render(False)
    made.tail = text[: rng.randrange(1, len(text) + 1)]
    value_end = len(text) - len(part.behind + part.separator + part.after)
    is_whole_number = part.body.isdigit() and not part.quotes[1]  # `4,` may be half of `4,5`
    needed = value_end + (2 if is_whole_number else 1 if part.body[-1:].isdigit() and not part.quotes[1] else 0)
    ends = text[:value_end].endswith(part.quotes[1]) if part.quotes[1] else part.separator == ","
    if ends and len(made.tail) >= needed:
        made.cut += 1
        made.whole_tail = True


def cut(made: Document, rng: random.Random) -> None:
    made.cut = rng.randrange(1, len(made.pieces))


# -- around the object: the first is the innermost


def _surround(made: Document, before: str, behind: str) -> None:
    made.before, made.behind = before + made.before, made.behind + behind


def around(*pairs: tuple[str, str]) -> Callable[[Document, random.Random], None]:
    def corrupt(made: Document, rng: random.Random) -> None:
        _surround(made, *rng.choice(pairs))

    return corrupt


WRAPPERS = (("[INST]", "[/INST]"), ("<answer>", "</answer>"), ("<tool_call>", "</tool_call>"), ("<json>", "</json>"),
            ("<output>", "</output>"), ("[ANSWER]", "[/ANSWER]"), ("<resposta>", "</resposta>"), ("**", "**"),
            ("[TOOL_CALLS]", ""), ("<response>", "</response>"))  # fmt: skip


def wrapper(made: Document, rng: random.Random) -> None:
    opening, closing = rng.choice(WRAPPERS)
    space = rng.choice(("", " ", "\n"))
    kept = rng.choice((True, True, False))
    _surround(made, opening + space, space + closing if kept else "")


def wrapper_without_brace(made: Document, rng: random.Random) -> None:
    opening, closing = rng.choice([pair for pair in WRAPPERS if pair[1]])
    space = rng.choice(("", " ", "\n"))
    made.before, made.behind, made.closing = opening + space, space + closing, ""


def prose(made: Document, rng: random.Random) -> None:
    before = (
        "Claro! Segue o JSON:\n",
        "Resposta: ",
        "Para {nome}, nota {4,5}:\n\n",
        "JSON final -> ",
        'O campo "urgency" é alto. ',
        "Análise:\n\n- nota baixa\n- atraso\n\n",
        "json\n",
        "**JSON:** ",
        "### Resposta\n",
    )
    behind = (
        "",
        "\n\nEspero ter ajudado!",
        "\nObs.: nota 4,5.",
        " Qualquer dúvida, avise.",
        ".",
        ";",
        '\n\nO cliente disse "nunca mais" {sic}.',
        "\n\n**Explicação:** nota baixa.",
        "\nNota: 5 estrelas",
        "\n---\nFim",
    )
    chosen = rng.choice(behind)
    if made.cut is not None or (chosen[:1] != "\n" and not made.closing):
        chosen = ""
    _surround(made, rng.choice(before), chosen)


THINKING = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<reasoning>", "</reasoning>"),
    ("<thought>", "</thought>"),
    ("<THINK>", "</THINK>"),
    ("[THINK]", "[/THINK]"),
    ("", "</think>"),
    ("", "</reasoning>"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
)
THOUGHTS = ("Parece negativo.", 'acho {"sentiment": "neutral"}\n', "", "\n\n", 'talvez "urgency": "low"?')


def thinking(made: Document, rng: random.Random) -> None:
    opening, closing = rng.choice(THINKING)
    _surround(made, opening + rng.choice(THOUGHTS) + closing + rng.choice(("", "\n", "\n\n")), "")


def thinking_only(made: Document, rng: random.Random) -> None:
    """Never closed: nothing was answered."""
    marks = ("<think>", "<thinking>", "<reasoning>", "<thought>", "[THINK]", "<|channel|>analysis<|message|>")
    made.unanswered = True
    _surround(made, rng.choice(marks) + rng.choice(("", "\n")), "")


def end_of_turn(made: Document, rng: random.Random) -> None:
    next_turn = '<|im_end|>\n<|im_start|>user\n{"sentiment": "x", "urgency": "y"}'
    marks = ("<|im_end|>", next_turn, "</s>", "<|eot_id|>", "<end_of_turn>\n", "<|return|>", "<|endoftext|>Nova")
    _surround(made, "", rng.choice(marks))


def draft_before(made: Document, rng: random.Random) -> None:
    _surround(
        made, rng.choice(('Exemplo: {"campo": 1}\n', "Rascunho: " + json.dumps(reference(rng)) + "\nFinal: ")), ""
    )


def note_behind(made: Document, rng: random.Random) -> None:
    _surround(made, "", rng.choice(('\n{"obs": "conferido"}', "\n{}", "\nCampos: {sentiment, urgency}")))


def escaped_quotes(made: Document, rng: random.Random) -> None:
    made.wrap.append(lambda text: text.replace("\\", "\\\\").replace('"', '\\"'))


def csv_quotes(made: Document, rng: random.Random) -> None:
    made.wrap.append(lambda text: '"' + text.replace('"', '""') + '"')


def line_ends_of_windows(made: Document, rng: random.Random) -> None:
    made.wrap.append(lambda text: text.replace("\n", "\r\n"))


def encode_twice(made: Document, rng: random.Random) -> None:
    made.wrap.append(lambda text: json.dumps(text, ensure_ascii=False))


FENCES = (("```json\n", "\n```"), ("```\n", "\n```"), ("~~~json\n", "\n~~~"), ("```json\n", ""), ("", "\n```"),
          ("```json ", "```"), ("`", "`"))  # fmt: skip

# name -> (the sites it touches, how). Two corruptions that touch the same site are not combined: their joint meaning
# would not be known.
CORRUPTIONS: dict[str, tuple[str, Callable[[Document, random.Random], None]]] = {
    "decimal_comma": ("number", decimal_comma),
    "thousands": ("new", number_form(("1.234,56", 1234.56), ("1.234.567", 1234567), ("1 234,5", 1234.5),
                                     ("1,234.5", 1234.5))),
    "exponent": ("new", number_form(("1,5e-1", 0.15), ("2,5E+2", 250), ("1,5e2", 150), ("-1,5e-1", -0.15))),
    "minus_space": ("new", number_form(("- 0,5", -0.5), ("- 3", -3), ("- 2.5", -2.5), ("-  4,25", -4.25))),
    "tuple": ("new", container(('("atraso", "frete")', ["atraso", "frete"]), ("(1, 2)", [1, 2]), ('("a",)', ["a"]),
                               ("(4.5, 3)", [4.5, 3]), ("('a', 'b')", ["a", "b"]))),
    "nested": ("new", container(('{"n": 1,5}', {"n": 1.5}), ('["atraso", "4,5", 2]', ["atraso", "4,5", 2]),
                                ('{"a": {"b": "c"}, "d": 4,5}', {"a": {"b": "c"}, "d": 4.5}),
                                ("[4,5; 3,2]", [4.5, 3.2]), ('[{"n": 2,5}]', [{"n": 2.5}]))),
    "open_bracket": ("new commas cut", container(('["a", "b"', ["a", "b"]))),
    "surplus_bracket": ("new", container(('["a", "b"]]', ["a", "b"]))),
    "list_after_bare_key": ("new", bare_key_with_list),
    "bare_text": ("complaint", bare_text),
    "inner_quote": ("complaint", inner_quote),
    "wrapped_quote": ("complaint", wrapped_quote),
    "raw_newline": ("complaint", raw_newline),
    "joined_strings": ("complaint", joined_strings),
    "surrogate": ("complaint", surrogate),
    "duplicate": ("order", duplicate),
    "single_quotes": ("style", style("'", "'")),
    "smart_quotes": ("style", style("“", "”")),
    "backticks": ("style", style("`", "`")),
    "guillemets": ("style", style("«", "»")),
    "full_width_quotes": ("style", style("＂", "＂")),
    "mixed_quotes": ("style", mixed_quotes),
    "two_apostrophes": ("style", style("''", "''")),
    "python_repr": ("style", python_repr),
    "bold_keys": ("keys", bold_keys),
    "bare_keys": ("quotes", bare_keys),
    "bare_value": ("quotes", bare_value),
    "bare_values": ("quotes", bare_values),
    "missing_quote": ("quotes", missing_quote),
    "doubled_quotes": ("quotes", doubled_quotes),
    "one_doubled_quote": ("quotes", one_doubled_quote),
    "python_literals": ("literals", literals("True", "False", "None")),
    "portuguese_literals": ("literals", literals("verdadeiro", "falso", "nulo")),
    "upper_literals": ("literals", literals("TRUE", "FALSE", "NULL")),
    "markdown": ("keys", markdown),
    "not_finite": ("number", not_finite),
    "missing_value": ("value", missing_value),
    "odd_number": ("new", number_form(("+4,5", 4.5), (".5", 0.5), ("5.", 5.0), ("1e3", 1000.0), ("−2,5", -2.5),
                                      ("4,50", 4.5), ("0,0", 0.0))),
    "doubled_comma": ("commas", doubled_comma),
    "missing_comma": ("commas", missing_comma),
    "no_commas": ("commas", no_commas),
    "line_ends": ("commas", line_ends),
    "semicolons": ("commas", semicolons),
    "words": ("remarks", words),
    "remark": ("remarks", remark),
    "remarks": ("remarks", remarks),
    "remark_before_comma": ("remarks", remark_before_comma),
    "remark_at_an_edge": ("remarks", remark_at_an_edge),
    "list_marks": ("marks", list_marks),
    "one_list_mark": ("marks", one_list_mark),
    "comment": ("comments", comment),
    "quoted_comment": ("comments", quoted_comment),
    "missing_colon": ("colons", missing_colon),
    "colons": ("colons", colons),
    "odd_spaces": ("colons", odd_spaces),
    "colon_spaces": ("colons", colon_spaces),
    "trailing_comma": ("end", trailing_comma),
    "ellipsis": ("end", ellipsis),
    "every_second_brace": ("end new", every_second_brace),
    "no_brace": ("end", no_brace),
    "no_brace_before_tag": ("end around", no_brace_before("</answer>", "</tool_call>", "[/INST]", "</json>")),
    "no_brace_before_stars": ("end around", no_brace_before("**", "***", "**\n\nEspero ter ajudado!")),
    "no_brace_before_stop": ("end around", no_brace_before_stop),
    "surplus_brace": ("end", surplus_brace),
    "double_braces": ("end", double_braces),
    "cut": ("end", cut),
    "cut_anywhere": ("end around", cut_anywhere),
    "fence": ("fence", around(*FENCES)),
    "code": ("fence", around(("print(", ")"), ("resultado = ", ""), ("return ", ";"), ("(", ")"),
                             ("\\boxed{", "}"), ("const x = ", ";"))),
    "wrapper": ("around", wrapper),
    "wrapper_without_brace": ("around fence end", wrapper_without_brace),
    "note_behind": ("behind", note_behind),
    "draft_before": ("prose", draft_before),
    "prose": ("prose", prose),
    "thinking": ("thinking", thinking),
    "thinking_only": ("thinking behind end", thinking_only),
    "end_of_turn": ("behind", end_of_turn),
    "line_ends_of_windows": ("lines", line_ends_of_windows),
    "escaped_quotes": ("wrap", escaped_quotes),
    "csv_quotes": ("wrap style quotes", csv_quotes),
    "encode_twice": ("wrap", encode_twice),
}  # fmt: skip

_QUOTED_COMPLAINTS = {"inner_quote", "wrapped_quote", "joined_strings"}
_NO_BRACE = {
    "no_brace",
    "no_brace_before_tag",
    "no_brace_before_stars",
    "no_brace_before_stop",
    "wrapper_without_brace",
}
_BARE = {"bare_text", "bare_value", "bare_values"}
_OPEN_TO_JUDGEMENT = (
    ({"cut", "cut_anywhere"}, {"end_of_turn", "note_behind", "draft_before"}),
    ({"raw_newline", "joined_strings"}, {"line_ends_of_windows", "escaped_quotes"}),
    (_NO_BRACE, {"draft_before", "note_behind", "not_finite", "bare_text"}),
    ({"doubled_quotes", "one_doubled_quote"}, _QUOTED_COMPLAINTS),  # `"""atraso"""`
    (_BARE, {"remark_before_comma"}),  # `negative (cliente irritado),`
    ({"bare_text"}, {"remark", "remarks", "words"}),
    ({"words"}, {"cut", "cut_anywhere", "bare_keys"}),
    ({"bold_keys"}, {"doubled_quotes", "one_doubled_quote"}),
    ({"python_repr", "mixed_quotes"}, {"escaped_quotes"}),
    ({"two_apostrophes"}, {"doubled_quotes", "one_doubled_quote", "missing_quote"}),
    (_NO_BRACE, {"code"}),
    ({"missing_colon"}, {"bare_keys", "bare_values", "bare_value", "bare_text", "missing_value"}),
)


def compatible(first: str, second: str) -> bool:
    """Whether the joint meaning of two corruptions is known."""
    if set(CORRUPTIONS[first][0].split()) & set(CORRUPTIONS[second][0].split()):
        return False
    pair = {first, second}
    return not any(len(pair & (one | other)) == 2 and pair & one and pair & other for one, other in _OPEN_TO_JUDGEMENT)


def damaged(names: tuple[str, ...], seed: int) -> tuple[str, dict[str, Any] | None]:
    """A document damaged by `names`, in the order of `CORRUPTIONS`, and the object a careful reader still sees."""
    rng = random.Random(f"{names}{seed}")
    made = document(rng)
    for name in CORRUPTIONS:
        if name in names:
            CORRUPTIONS[name][1](made, rng)
    return made.render(), made.expected()


PAIRS = tuple(pair for pair in combinations(CORRUPTIONS, 2) if compatible(*pair))
"""Every two corruptions that can be combined."""


_STAND_INS = {'"': "'”“`", ",": ";\n", ":": "=：", "{": "｛", "}": "｝"}


def damaged_syntax(damage: str, seed: int) -> tuple[str, dict[str, Any]]:
    """A strict text with a character of its syntax lost, doubled or replaced (`drop`, `double`, `replace`, `drop two`).

    The opening brace is not lost: what a reader should make of that is open.
    """
    rng = random.Random(f"{damage}{seed}")
    fields = reference(rng)
    style: dict[str, Any] = rng.choice(({}, {"indent": 2}, {"separators": (",", ":")}))
    text = json.dumps(fields, ensure_ascii=False, **style)
    places = [place for place in _syntax(text) if place or damage not in ("drop", "drop two")]
    for place in sorted(rng.sample(places, 2 if damage == "drop two" else 1), reverse=True):
        character = text[place]
        new = {"double": 2 * character, "replace": rng.choice(_STAND_INS[character])}.get(damage, "")
        text = text[:place] + new + text[place + 1 :]
    return text, fields


def _syntax(text: str) -> list[int]:
    """Where a strict text holds quotes, commas, colons and braces that are not inside a string."""
    places = []
    for token in re.finditer(r'"(?:[^"\\]|\\.)*"|[,:{}]', text):
        places += {token.start(), token.end() - 1}
    return sorted(places)
