"""Documents with known meaning, damaged in known ways: the adversary that the tolerant parser is hardened against.

A `Document` is an object still in pieces (keys, colons, values, separators). Each corruption changes pieces and, where
the damage changes the meaning, the expected object with them; `render` joins the pieces.
"""

import json
import random
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
    None,
)
CATEGORIES = ("none", "late_delivery", "not_delivered", "damaged_product", "product_quality")


@dataclass
class Piece:
    """One `key: value,` of a document, as it will be written."""

    key: str
    value: Any
    key_text: str = ""
    value_text: str = ""
    colon: str = ": "
    after: str = ", "


@dataclass
class Document:
    """An object in pieces and what it still means."""

    pieces: list[Piece]
    opening: str = "{"
    closing: str = "}"
    before: str = ""
    behind: str = ""
    cut: int | None = None
    wrap: list[Callable[[str], str]] = field(default_factory=list)

    def expected(self) -> dict[str, Any] | None:
        kept = self.pieces if self.cut is None else self.pieces[: self.cut]
        return {piece.key: piece.value for piece in kept} or None

    def render(self) -> str:
        last = self.pieces[-1]
        last.after = "" if last.after == ", " else last.after
        body = "".join(p.key_text + p.colon + p.value_text + p.after for p in self.pieces)
        text = self.opening + body + self.closing
        if self.cut is not None:
            kept = "".join(p.key_text + p.colon + p.value_text + p.after for p in self.pieces[: self.cut])
            text = self.opening + kept + self.pieces[self.cut].key_text[:3]
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


def document(rng: random.Random) -> Document:
    """A strict document: one line, compact, or indented; keys in any order."""
    values = list(reference(rng).items())
    if rng.random() < 0.5:
        rng.shuffle(values)
    pieces = [Piece(key, value, json.dumps(key), json.dumps(value, ensure_ascii=False)) for key, value in values]
    style = rng.choice(("line", "line", "compact", "indented"))
    made = Document(pieces)
    if style == "indented":
        made.opening, made.closing = "{\n  ", "\n}"
    for piece in pieces:
        piece.colon = ":" if style == "compact" else ": "
        piece.after = {"line": ", ", "compact": ",", "indented": ",\n  "}[style]
    pieces[-1].after = ""
    return made


def _strings(made: Document) -> list[Piece]:
    return [
        p for p in made.pieces if isinstance(p.value, str) and p.value_text == json.dumps(p.value, ensure_ascii=False)
    ]


def _inside(made: Document, rng: random.Random) -> Piece:
    return rng.choice(made.pieces[:-1])


def decimal_comma(made: Document, rng: random.Random) -> None:
    for piece in made.pieces:
        if isinstance(piece.value, float):
            piece.value_text = piece.value_text.replace(".", ",")


def thousands(made: Document, rng: random.Random) -> None:
    text, value = rng.choice((("1.234,56", 1234.56), ("1.234.567", 1234567), ("1 234,5", 1234.5), ("1,234.5", 1234.5)))
    made.pieces.insert(1, Piece("valor", value, '"valor"', text, made.pieces[0].colon, made.pieces[0].after))


def requote(opening: str, closing: str) -> Callable[[Document, random.Random], None]:
    def corrupt(made: Document, rng: random.Random) -> None:
        for piece in made.pieces:
            piece.key_text = opening + piece.key + closing
            if isinstance(piece.value, str):
                piece.value_text = opening + piece.value + closing

    return corrupt


def literals(true: str, false: str, null: str) -> Callable[[Document, random.Random], None]:
    def corrupt(made: Document, rng: random.Random) -> None:
        for piece in made.pieces:
            for value, text in ((True, true), (False, false), (None, null)):
                if piece.value is value:
                    piece.value_text = text

    return corrupt


def bare_keys(made: Document, rng: random.Random) -> None:
    for piece in made.pieces:
        piece.key_text = piece.key


def bare_value(made: Document, rng: random.Random) -> None:
    piece = rng.choice([p for p in _strings(made) if p.key != "main_complaint"])
    piece.value_text = piece.value


def bare_text(made: Document, rng: random.Random) -> None:
    piece = next(p for p in made.pieces if p.key == "main_complaint")
    piece.value = rng.choice(
        ("veio quebrado, sem nota", "4,5/5", "R$ 1.234,56 a mais", "atraso de 3 dias", "nunca mais!")
    )
    piece.value_text = piece.value


def no_commas(made: Document, rng: random.Random) -> None:
    for piece in made.pieces[:-1]:
        piece.after = "\n"


def quoted_comment(made: Document, rng: random.Random) -> None:
    piece = _inside(made, rng)
    piece.after += rng.choice(('// disse "sim", {talvez}: 4,5\n', '/* "nota": 4,5 */ '))


def mixed_quotes(made: Document, rng: random.Random) -> None:
    for piece in made.pieces:
        opening, closing = rng.choice(('""', "''", "“”", "““", "‘’", '“"', "´´"))
        piece.key_text = opening + piece.key + closing
        if isinstance(piece.value, str) and piece.key != "main_complaint":
            piece.value_text = opening + piece.value + closing


def wrapped_quote(made: Document, rng: random.Random) -> None:
    piece = next(p for p in made.pieces if p.key == "main_complaint")
    word = rng.choice(("atraso", "defeito: grave", "não, obrigado", "5 estrelas", "ok, nota 4,5"))
    piece.value = rng.choice((f'Veio com "{word}" na caixa', f'"{word}"', f'Sobre "{word}", "{word}" e mais'))
    piece.value_text = f'"{piece.value}"'


def every_second_brace(made: Document, rng: random.Random) -> None:
    piece = made.pieces[0]
    made.pieces.insert(
        1, Piece("extra", {"a": "x", "b": None}, '"extra"', '{{"a": "x", "b": null}}', piece.colon, piece.after)
    )
    made.opening, made.closing = "{" + made.opening, made.closing + "}"


def trailing_comma(made: Document, rng: random.Random) -> None:
    made.pieces[-1].after = ","


def doubled_comma(made: Document, rng: random.Random) -> None:
    piece = _inside(made, rng)
    piece.after = "," + piece.after


def missing_comma(made: Document, rng: random.Random) -> None:
    piece = _inside(made, rng)
    piece.after = piece.after.replace(",", "") or " "


def semicolons(made: Document, rng: random.Random) -> None:
    for piece in made.pieces[:-1]:
        piece.after = piece.after.replace(",", ";")


def comment(made: Document, rng: random.Random) -> None:
    piece = _inside(made, rng)
    piece.after += rng.choice(("// nota do analista\n", "/* conferir, talvez */ ", "# nota: ver depois\n"))


def colons(made: Document, rng: random.Random) -> None:
    text = rng.choice((" = ", " => ", "："))
    for piece in made.pieces:
        piece.colon = text


def missing_quote(made: Document, rng: random.Random) -> None:
    piece = rng.choice(_strings(made))
    which = rng.randrange(4)
    if which == 0:
        piece.value_text = piece.value_text[1:]
    elif which == 1:
        piece.value_text = piece.value_text[:-1]
    elif which == 2:
        piece.key_text = piece.key_text[1:]
    else:
        piece.key_text = piece.key_text[:-1]


def inner_quote(made: Document, rng: random.Random) -> None:
    piece = next(p for p in made.pieces if p.key == "main_complaint")
    piece.value = rng.choice(
        ('Disse "já foi enviado" e sumiu', 'Veio "usado", sem lacre', 'Escreveu "nunca mais"', '"Original" era falso')
    )
    piece.value_text = f'"{piece.value}"'


def raw_newline(made: Document, rng: random.Random) -> None:
    piece = next(p for p in made.pieces if p.key == "main_complaint")
    piece.value = "Primeira linha\nsegunda\tlinha"
    piece.value_text = f'"{piece.value}"'


def markdown(made: Document, rng: random.Random) -> None:
    for piece in made.pieces:
        piece.key_text = piece.key_text.replace("_", "\\_")


def duplicate(made: Document, rng: random.Random) -> None:
    piece = _inside(made, rng)
    made.pieces.insert(0, Piece(piece.key, piece.value, piece.key_text, '"rascunho"', piece.colon, piece.after))


def not_finite(made: Document, rng: random.Random) -> None:
    piece = next(p for p in made.pieces if p.key == "sentiment_score")
    piece.value, piece.value_text = None, rng.choice(("NaN", "-Infinity", "1e999"))


def missing_value(made: Document, rng: random.Random) -> None:
    piece = _inside(made, rng)
    piece.value, piece.value_text = None, ""


def odd_spaces(made: Document, rng: random.Random) -> None:
    for piece in made.pieces:
        piece.colon += rng.choice(("\u00a0", "\u200b", "\u2003", "\ufeff"))


def ellipsis(made: Document, rng: random.Random) -> None:
    made.pieces[-1].after = ", ..."


def nested(made: Document, rng: random.Random) -> None:
    piece = made.pieces[0]
    made.pieces.insert(
        1, Piece("tags", ["atraso", "4,5", 2], '"tags"', '["atraso", "4,5", 2]', piece.colon, piece.after)
    )
    made.pieces.insert(1, Piece("extra", {"n": 1.5}, '"extra"', '{"n": 1,5}', piece.colon, piece.after))


def open_bracket(made: Document, rng: random.Random) -> None:
    piece = made.pieces[0]
    made.pieces.insert(1, Piece("tags", ["a", "b"], '"tags"', '["a", "b"', piece.colon, piece.after))


def surplus_bracket(made: Document, rng: random.Random) -> None:
    piece = made.pieces[0]
    made.pieces.insert(1, Piece("tags", ["a", "b"], '"tags"', '["a", "b"]]', piece.colon, piece.after))


def no_brace(made: Document, rng: random.Random) -> None:
    made.pieces.sort(key=lambda p: isinstance(p.value, (int, float)) and not isinstance(p.value, bool), reverse=True)
    made.closing = ""
    made.pieces[0].after, made.pieces[-1].after = made.pieces[-1].after or made.pieces[0].after, ""


def surplus_brace(made: Document, rng: random.Random) -> None:
    made.closing += "}"


def double_braces(made: Document, rng: random.Random) -> None:
    made.opening, made.closing = "{" + made.opening, made.closing + "}"


def cut(made: Document, rng: random.Random) -> None:
    made.cut = rng.randrange(1, len(made.pieces))


def fence(made: Document, rng: random.Random) -> None:
    made.before, made.behind = rng.choice(("```json\n", "```\n", "~~~json\n")), "\n```"


def prose(made: Document, rng: random.Random) -> None:
    made.before = rng.choice(("Claro! Segue o JSON:\n", "Resposta: ", "Para {nome}, nota {4,5}:\n\n"))
    made.behind = "" if made.cut is not None else rng.choice(("", "\n\nEspero ter ajudado!", "\nObs.: nota 4,5."))


def thinking(made: Document, rng: random.Random) -> None:
    made.before = rng.choice(('<think>acho {"sentiment": "neutral"}\n</think>\n', 'hmm, "ok" </think>'))


def end_of_turn(made: Document, rng: random.Random) -> None:
    made.behind = rng.choice(("<|im_end|>", '<|im_end|>\n<|im_start|>user\n{"sentiment": "x", "urgency": "y"}', "</s>"))


def draft_before(made: Document, rng: random.Random) -> None:
    made.before = rng.choice(('Exemplo: {"campo": 1}\n', "Rascunho: " + json.dumps(reference(rng)) + "\nFinal: "))


def note_behind(made: Document, rng: random.Random) -> None:
    made.behind = rng.choice(('\n{"obs": "conferido"}', "\n{}", "\nCampos: {sentiment, urgency}"))


def encode_twice(made: Document, rng: random.Random) -> None:
    made.wrap.append(lambda text: json.dumps(text, ensure_ascii=False))


# name -> (what it touches, how); two corruptions that touch the same thing are not combined, as their joint meaning
# would not be known.
CORRUPTIONS: dict[str, tuple[str, Callable[[Document, random.Random], None]]] = {
    "decimal_comma": ("number", decimal_comma),
    "thousands": ("new piece", thousands),
    "single_quotes": ("quotes", requote("'", "'")),
    "smart_quotes": ("quotes", requote("“", "”")),
    "backticks": ("quotes", requote("`", "`")),
    "guillemets": ("quotes", requote("«", "»")),
    "full_width_quotes": ("quotes", requote("＂", "＂")),
    "python_literals": ("literals", literals("True", "False", "None")),
    "portuguese_literals": ("literals", literals("verdadeiro", "falso", "nulo")),
    "upper_literals": ("literals", literals("TRUE", "FALSE", "NULL")),
    "bare_keys": ("quotes", bare_keys),
    "bare_value": ("quotes", bare_value),
    "bare_text": ("complaint", bare_text),
    "no_commas": ("commas", no_commas),
    "quoted_comment": ("comments", quoted_comment),
    "mixed_quotes": ("quotes", mixed_quotes),
    "wrapped_quote": ("complaint", wrapped_quote),
    "every_second_brace": ("end", every_second_brace),
    "trailing_comma": ("end", trailing_comma),
    "doubled_comma": ("commas", doubled_comma),
    "missing_comma": ("commas", missing_comma),
    "semicolons": ("commas", semicolons),
    "comment": ("comments", comment),
    "colons": ("colons", colons),
    "missing_quote": ("quotes", missing_quote),
    "inner_quote": ("complaint", inner_quote),
    "raw_newline": ("complaint", raw_newline),
    "markdown": ("keys", markdown),
    "duplicate": ("order", duplicate),
    "not_finite": ("number", not_finite),
    "missing_value": ("value", missing_value),
    "odd_spaces": ("colons", odd_spaces),
    "ellipsis": ("end", ellipsis),
    "nested": ("new piece", nested),
    "open_bracket": ("new piece", open_bracket),
    "surplus_bracket": ("new piece", surplus_bracket),
    "no_brace": ("end", no_brace),
    "surplus_brace": ("end", surplus_brace),
    "double_braces": ("end", double_braces),
    "cut": ("end", cut),
    "fence": ("around", fence),
    "prose": ("around", prose),
    "thinking": ("around", thinking),
    "end_of_turn": ("around", end_of_turn),
    "draft_before": ("around", draft_before),
    "note_behind": ("around", note_behind),
    "encode_twice": ("wrap", encode_twice),
}
_NOT_TOGETHER = {
    # with no quotes to go by, the meaning of the other damage is open
    ("quotes", "complaint"),
    ("quotes", "value"),
    ("quotes", "keys"),
    ("quotes", "new piece"),
    # each would take the other's piece
    ("value", "complaint"),
    ("value", "number"),
    ("value", "order"),
    ("value", "literals"),
    ("order", "end"),
}
_OPEN_TO_JUDGEMENT = [
    {"cut", "end_of_turn"},
    {"cut", "note_behind"},
    {"cut", "open_bracket"},
    {"cut", "draft_before"},
    {"no_brace", "draft_before"},
    {"no_brace", "not_finite"},
    {"no_brace", "bare_text"},
]


def compatible(first: str, second: str) -> bool:
    """Whether the joint meaning of two corruptions is known."""
    one, other = CORRUPTIONS[first][0], CORRUPTIONS[second][0]
    if {first, second} in _OPEN_TO_JUDGEMENT:
        return False
    return one != other and (one, other) not in _NOT_TOGETHER and (other, one) not in _NOT_TOGETHER


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
