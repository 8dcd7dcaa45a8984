"""Characters and letters as a person sees them."""

import re
import unicodedata

import regex

_COMBINING = re.compile("[\u0300-\u036f]")
_GRAPHEME = regex.compile(r"\X")


def graphemes(text: str) -> int:
    """Characters as a person counts them: an emoji with its modifiers is one.

    >>> graphemes("Olá 👍🏽"), len("Olá 👍🏽")
    (5, 6)
    """
    return len(text) if text.isascii() and "\r\n" not in text else len(_GRAPHEME.findall(text))


def without_accents(text: str) -> str:
    """The text's letters without accents, in their own case; compatibility forms (full-width, ligatures) made plain.

    >>> without_accents("Não é ótimo")
    'Nao e otimo'
    """
    return _COMBINING.sub("", unicodedata.normalize("NFKD", text))
