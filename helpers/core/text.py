"""Text as a person counts it."""

import regex

_GRAPHEME = regex.compile(r"\X")


def graphemes(text: str) -> int:
    """Characters as a person counts them: an emoji with its modifiers is one.

    >>> graphemes("Olá 👍🏽"), len("Olá 👍🏽")
    (5, 6)
    """
    return len(text) if text.isascii() and "\r\n" not in text else len(_GRAPHEME.findall(text))
