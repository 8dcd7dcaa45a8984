"""The tokens of tolerant JSON as regular expressions, and the question that decides where a value ends.

Everything that looks ahead is bounded in length or possessive, so that no input makes matching quadratic.
"""

import re


def _any(*alternatives: str) -> str:
    return f"(?:{'|'.join(alternatives)})"


INVISIBLE = (
    "\x00-\x08\x0e-\x1b\x7f\u00ad\u034f\u061c\u180b-\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff"
)
INVISIBLES = re.compile(f"[{INVISIBLE}]+")

# One-character classes: separators, closers and the quotes that may open or close a string.
SEPARATORS = ",;，；"
OBJECT_CLOSERS = "}｝"
ARRAY_CLOSERS = "]］"
_DOUBLE = '"“”„‟＂«»「」'
_SINGLE = "'‘’‚‛＇`´‹›"
QUOTES = _DOUBLE + _SINGLE
_SEP = f"[{SEPARATORS}]"
_CLOSE = f"[{OBJECT_CLOSERS}]"
_CLOSE_ARRAY = r"[\]］]"
_QUOTE = f"[{QUOTES}]"

CLOSING_QUOTES: dict[str, str] = {
    '"': '"”', "“": '”"“', "”": '”"', "„": '“”"', "‟": '”"', "＂": '＂"', "«": '»"', "»": '«»"', "「": "」",
    "'": "'’", "‘": "’'", "’": "’'", "‚": "‘’'", "‛": "’'", "＇": "＇'", "`": "`´'", "´": "´`'", "‹": "›'", "›": "‹›'",
}  # fmt: skip
"""Which quotes may close a string, by the quote that opened it."""

# Between tokens: spaces, invisible characters, comments, a backslash that stands for white space or for nothing. GAP is
# what a reader passes over; `_G` is the same with a limit, for looking ahead.
_SPACE = rf"[\s{INVISIBLE}]++"
_STRAY = _any(r"\\[nrt](?=[\s\\\"'{}\[\],:]|\Z)", r"\\(?=[{}\[\],:\s])")
_HASH = r"\#(?!\d{1,3}\s)"  # `#1 ` is a list mark
_ENDLESS_COMMENT = _any(r"//[^\n]*+", r"/\*(?:[^*]++|\*(?!/))*+(?:\*/)?", _HASH + r"[^\n]*+", "<!--[^>]*+>")
GAP = re.compile(_any(_SPACE, _ENDLESS_COMMENT, _STRAY) + "*+")
_COMMENT = _any(
    r"//[^\n]{0,200}+(?=\n|\Z)",
    r"/\*(?:[^*]|\*(?!/)){0,300}+(?:\*/|\Z)",
    _HASH + r"[^\n]{0,200}+(?=\n|\Z)",
    "<!--[^>]{0,300}+>",
)
_G = _any(_SPACE, _COMMENT, _STRAY) + "*+"
COMMENT_START = re.compile(r"//|/\*|\#|<!--")

# Remarks: what stands between two pairs and is no pair. `_J` passes gaps and remarks.
_TAG = _any(r"&[a-z]{2,8};", r"</?[A-Za-z][\w:.\-]{0,30}+(?:\s[^<>\n]{0,60}+)?/?>", r"\[/?[A-Z_]{2,20}+\]")
_SYMBOL = rf"[^\w\s{QUOTES}{SEPARATORS}{OBJECT_CLOSERS}{{｛\[\]［］()（）:：=.…\\$%#/<]"  # a dash, a star, an emoji
_REMARK = _any(
    rf"<[a-z]{{1,8}}>[^<>{QUOTES}\n]{{0,60}}+</[a-z]{{1,8}}>",
    _TAG,
    r"\([^()\n{}]{0,120}+\)",
    rf"\[[^\[\]\n{{}}{QUOTES}]{{0,120}}+\]",
    rf"--\s[^{QUOTES}\n]{{0,120}}+(?=\n)",
    r"\#\d{1,3}(?=\s)",
    r"(?:\d{1,2}[.)]|[a-zA-Z]\))(?=\s)",
    r"\.(?![.\d])",
    rf"{_SYMBOL}{{1,16}}+",
)
REMARK = re.compile(_REMARK)
_J = _any(_SPACE, _COMMENT, _STRAY, _REMARK) + "*+"
_SEPS = rf"{_SEP}{_J}(?:{_SEP}{_J}){{0,4}}+"

# Keys, and what may pass for one.
_COLON = r"(?:\*{0,2}+\s*+(?:[:：]{1,2}=?|=>?))"
_QUOTED_KEY = _any(
    r'"(?:[^"\\\n]|\\u[0-9a-fA-F]{4}|\\.){0,1000}+"',
    rf"[“”„‟＂«»「][^{_DOUBLE}\n]{{0,200}}[{_DOUBLE}]",
    rf"[{_SINGLE}][^{_SINGLE}\"\n]{{0,200}}[{_SINGLE}]",
    r"\\[\"'][^\"'\\\n]{1,80}+\\[\"']",
    rf"{_QUOTE}{{1,3}}+[^{QUOTES}{SEPARATORS}\n{{}}\[\]:]{{1,80}}+{_QUOTE}{{1,3}}+",
)
_LITERAL = r"(?i:true|false|null|none|undefined|verdadeiro|falso|nulo)\b"
_VALUE_AHEAD = rf"(?:[{QUOTES}\d\[{{\-]|{_LITERAL})"
_WORD = r"(?:[^\W\d]|\$)[\w$.\-\\]{0,80}+"
_KEY = rf"{_QUOTED_KEY}{_G}{_COLON}"
_HALF_QUOTED_KEY = rf"{_QUOTE}{{1,2}}+{_WORD}\s*+{_COLON}"
_BARE_KEY = rf"(?:{_WORD}{_QUOTE}{{0,2}}+\s*+{_COLON}|\d{{1,9}}\s*+:(?!\d))"
_SPACED_KEY = rf"((?:[^\W\d]|\$)[\w$.\-\\ ]{{0,80}}|\d{{1,9}})(?<! ) *+({_QUOTE}{{0,2}}+){_G}{_COLON}"
_NAME = r"[a-z_\\]{2,40}+(?!```)"
_KEY_WITHOUT_COLON = (
    rf"{_QUOTE}{{1,2}}+{_NAME}(?:{_QUOTE}{{1,2}}+\*{{0,2}}+[ \t]++|{_QUOTE}\*{{0,2}}+)(?={_VALUE_AHEAD})"
)
_STRONG_PAIR = rf"[a-z][a-z_]{{1,40}}+\s*+:\s*+{_VALUE_AHEAD}"  # a bare key that prose has none of
_ANY_KEY = _any(_KEY, _HALF_QUOTED_KEY, _KEY_WITHOUT_COLON)

QUOTED_KEY = re.compile(rf"({_QUOTED_KEY}){_G}{_COLON}")
CLOSING_QUOTE = re.compile(r'(?<!\\)(?:\\\\)*+"\Z')
WORD_KEY = re.compile(rf"(?={_QUOTE}{{1,3}}+(?:\w|\$)[\w$.\-\\ ]*+{_QUOTE}){_KEY}")
HALF_QUOTED_KEY = re.compile(rf"{_QUOTE}{{1,2}}+({_WORD})\s*+{_COLON}")
BARE_KEY = re.compile(_SPACED_KEY)
KEY_WITHOUT_COLON = re.compile(_KEY_WITHOUT_COLON.replace(_NAME, f"({_NAME})"))
STRONG_PAIR = re.compile(_STRONG_PAIR)
KEY_AFTER_REMARK = re.compile(rf"(?!\d){_J}{_KEY}")
SNAKE_KEY = re.compile(rf"{_QUOTE}{{1,3}}+[a-z]++_[a-z_]++{_QUOTE}")
KEY_INSIDE = re.compile(rf"(?<=[\s{SEPARATORS}]){_KEY}")
# `, nota do analista "urgency": ...`: words that only a key follows.
_WORDS = rf"[^\W\d][^{QUOTES}{SEPARATORS}{{}}\[\]():=#/<\n]{{0,80}}+{_J}"
_STRAY_WORDS = rf"[^{QUOTES}{SEPARATORS}{{}}｛｝\[\]():=\n]{{1,80}}+(?={_CLOSE}|{_SEP}{_J}{_KEY})"
WORDS_BEFORE_KEY = re.compile(rf"{_WORDS}(?={_ANY_KEY})")
WORDS_FOR_PAIR = re.compile(rf"{_WORDS}(?={_ANY_KEY})|{_STRAY_WORDS}")
# What stands between the end of a value and the next key, as far as that can be told from the value.
TAIL = re.compile(rf"\s*+(?:{_SEP}|\n)(?:[\s{SEPARATORS}{OBJECT_CLOSERS}]|{_REMARK})*+\Z")
SYMBOLS_AT_END = re.compile(rf"\s++{_SYMBOL}++\s*+\Z")

# The end of the text, a fence, an ellipsis.
_STOP = r"(?:```|~~~|`(?=\s*+(?:\Z|\n)))"
_CUT = rf"\s*+(?=\Z|{_STOP})"
_CUT_KEY = rf"{_QUOTE}{{1,2}}+[^{QUOTES}\n]{{0,200}}{_QUOTE}{{0,2}}{_CUT}"
_CUT_BARE_KEY = rf"{_WORD}{_QUOTE}?{_CUT}"
_ELLIPSIS = r"(?:\.\.\.|…)"
STOP = re.compile(_STOP)
ELLIPSIS = re.compile(_ELLIPSIS)
CUT_KEY = re.compile(_any(_CUT_KEY, _CUT_BARE_KEY, _QUOTED_KEY + _CUT))
CLOSER_NEXT = re.compile(rf"{_J}(?:{_SEP}{_J})?(?:{_CLOSE}|{_CLOSE_ARRAY})")

# Whether, after a string's quote, the syntax can go on; and whether it surely does, which is asked where an odd number
# of inner quotes came before, so that this one more likely ends a quotation inside the string.
_NEXT_OBJECT = rf"[{{｛]\s*+{_QUOTE}"
_JOIN = rf"\s*+\+\s*+{_QUOTE}"
_PARENTHESIS = rf"(?:\s*+\)(?=[ \t]*+\n|\s*+(?:{_SEP}|{_CLOSE}|\*\*|{_TAG}|\Z)))?+"
_AFTER_SEPARATOR = _any(_CLOSE, _ANY_KEY, _BARE_KEY, _CUT_KEY, _NEXT_OBJECT, _ELLIPSIS, _STOP)
_IN_OBJECT = _any(
    rf"{_PARENTHESIS}{_J}(?:\Z|{_CLOSE}|{_KEY}|{_STOP}|{_CLOSE_ARRAY}{_G}(?:{_SEP}|{_CLOSE}))",
    rf"{_PARENTHESIS}{_J}{_SEPS}(?:\Z|{_AFTER_SEPARATOR}|{_CUT_BARE_KEY}|{_WORDS}{_ANY_KEY}|{_STRAY_WORDS})",
    rf"[ \t]*+\n\s*+{_J}(?:{_BARE_KEY}|{_HALF_QUOTED_KEY}|{_KEY_WITHOUT_COLON})",
    rf"[ \t]++(?:{_HALF_QUOTED_KEY}\s*+{_QUOTE}|{_STRONG_PAIR}|{_QUOTE}\w*+\Z)",
    _JOIN,
    # The brace was forgotten before a tag, stars or a full stop, and only words follow.
    rf"\s*+{_SEP}?+(?:\s*+(?:\*{{2,}}+|{_TAG}|\.)){{1,4}}(?=\s[^{QUOTES}]{{0,400}}+\Z|[ \t]*+\n[ \t]*+\n)",
)
_SURELY_IN_OBJECT = rf"{_J}(?:{_CLOSE}|{_KEY}|{_STOP}|{_SEPS}(?:{_CLOSE}|{_KEY}|{_STRONG_PAIR}))"


def _in_list(closer: str) -> str:
    element = rf"[{QUOTES}\d\-\[{{(]|{_LITERAL}|{_ELLIPSIS}|[^{QUOTES},\]\n]{{1,40}}+[,\]]|{_J}{_KEY}|{_STRONG_PAIR}"
    return _any(
        rf"{_J}(?:\Z|{closer}|{_CLOSE}|{_STOP}|{_SEPS}(?:\Z|{closer}|{_CLOSE}|{element}))",
        rf"\s++{_QUOTE}(?=\S)",
        _JOIN,
    )


def _surely_in_list(closer: str) -> str:
    return rf"{_G}(?:{closer}{_G}(?:\Z|{_SEP}|{_CLOSE}|\]|{_STOP})|{_STOP}|{_SEP}{_G}(?:{closer}|{_CLOSE}|{_QUOTE}))"


GOES_ON: dict[str, tuple[re.Pattern[str], re.Pattern[str]]] = {
    "{": (re.compile(_IN_OBJECT), re.compile(_SURELY_IN_OBJECT)),
    "[": (re.compile(_in_list(_CLOSE_ARRAY)), re.compile(_surely_in_list(_CLOSE_ARRAY))),
    "(": (re.compile(_in_list(r"\)")), re.compile(_surely_in_list(r"\)"))),
}
"""By the container that a string stands in: whether the syntax can go on after a quote, and whether it surely does."""

MISMATCHED_QUOTE = re.compile(rf"{_SEP}{_J}{_KEY}|\s*+{_CLOSE}\s*+(?:\Z|```)")
NEXT_BARE_PAIR = re.compile(rf"[ \t]++{_WORD}\s*+:\s*+{_VALUE_AHEAD}")
EMPTY_STRING_ENDS = re.compile(rf"\s|{_SEP}|{_CLOSE}|{_CLOSE_ARRAY}|\)|\Z|{_KEY}")
JOIN = re.compile(rf"\s*+\+\s*+(?={_QUOTE})(?!{_KEY})")
# Inside what was taken for a string: a sign that its closing quote never came.
BOUNDARY = re.compile(r"\n[ \t]*+(?:```|[{]\s*+[\"'“]\w)")

# How a value may begin, besides a quote, a brace and a bracket.
_ELEMENT = _any(
    r'"(?:[^"\\\n]|\\.){0,300}+"', r"'(?:[^'\\\n]|\\.){0,300}+'", r"“[^”\n]{0,300}+”", r"[-+]?\d[\d.]*+", _LITERAL
)
TUPLE_START = re.compile(
    rf"\(\s*+(?:[)\[{{]|\(?\s*+{_ELEMENT}\s*+(?:,|\)\s*+(?:[{SEPARATORS}{OBJECT_CLOSERS}\])\n]|\Z)))"
)
PARENTHESISED_STRING = re.compile(rf"\(\s*+(?={_QUOTE})")
CLOSING_PARENTHESIS = re.compile(r"\s*+\)")
ESCAPED_STRING = re.compile(r"\\([\"'])((?:[^\\\n]|\\(?!\1)){0,500}+)\\\1")
MARK_BEFORE_VALUE = re.compile(rf"\*{{1,2}}(?=[\w\"'])|(?!\d)(?:{_REMARK}\s*+)++(?={_QUOTE}|[{{｛])(?!{_KEY})")
REMARK_BEHIND_ELEMENT = re.compile(rf"\s*+(?:{_REMARK}\s*+)++(?={_SEP}|{_CLOSE_ARRAY}|\))")
MARK_BEFORE_ELEMENT = re.compile(rf"(?:\d{{1,2}}[.)]|[a-z]\))\s++(?={_QUOTE})")

# Bare values: where they may end, and what follows a comma that does end one.
_NUMBER = r"[-+]?\d[\d.]*+"
NUMBER_RUN = re.compile(rf"({_NUMBER}(?:\s*+[,;]\s*+{_NUMBER})++)(?<!\.)(?=\s*+(?:{_SEP}|{_CLOSE}|{_KEY}))", re.ASCII)
"""Numbers where one value is allowed, on one line or several; a list mark before a key (`2. "b":`) is none of them."""
SIMPLE_VALUE = re.compile(
    r"(-?(?:0|[1-9]\d*+)(?:\.\d++)?|true|false|null)(?=\s*+(?:}|,?\n|,\s*+\"[^\"\n]{0,80}\"\s*+:))", re.ASCII
)
_NUMBER_OR_LITERAL = r"((?:[-+−]?\d[\d.,]*+|(?i:true|false|null|verdadeiro|falso|nulo)|None|undefined)(?<![,.]))"
NUMBER_OR_LITERAL = re.compile(
    _NUMBER_OR_LITERAL
    + _any(
        rf"\s++{_BARE_KEY}",
        r"\s*+(?=//|/\*|\#)",
        rf"(?=\s*+{_J}{_KEY})",
        rf"(?=\s*+(?:[`)!;]|{_SYMBOL}|{_TAG})++\s*+(?:\Z|\n))",
        r"(?<=[a-z])\.(?:\s|\Z)",
    )
)
"""A number or a literal that its surroundings end: a bare key, a comment, a remark before a key, a forgotten brace."""
BARE_STOP = re.compile(
    rf"[{SEPARATORS}{OBJECT_CLOSERS}{QUOTES}{{｛\n\]］]|\\(?=[}}\],])|(?<=\s)(?://|/\*|\# )|/\*|{_STOP}"
    rf"|{_TAG}|\*\*|(?<!\d)\.\s*+\Z"
)
TUPLE_STOP = re.compile(rf"\)|{BARE_STOP.pattern}")
# `compro {nessa} loja`: braces that hold no object belong to the words around them.
BRACED_WORDS = re.compile(rf"[{{｛][^{{}}｛｝:：={QUOTES}\n]{{0,80}}+[{OBJECT_CLOSERS}]")
SEPARATOR_ENDS_VALUE = re.compile(_SEPS + _AFTER_SEPARATOR)
SEPARATOR_BEFORE_WORDS = re.compile(rf"{_SEP}{_J}{_WORDS}{_KEY}")
WORD_AFTER_SEPARATOR = re.compile(rf"{_SEP}\s+[^\W\d]")
SEPARATOR_AT_END = re.compile(rf"{_SEP}{_G}\Z")
SEPARATOR_CUT_KEY = re.compile(rf"{_SEP}{_G}(?:{_CUT_BARE_KEY}|{_QUOTE})")

# Pairs with strict keys and values, or a decimal comma: read in one match each.
_PLAIN_KEY = r'"([^"\\\x00-\x1f]{1,64})"\s*+:'
_PLAIN_VALUE = r'(?:"([^"”\\\x00-\x1f]*+)"|(true|false|null)|(-?(?:0|[1-9]\d{0,14})(?:[.,]\d{1,15})?))'
_PLAIN_NEXT = r'(?=\s*+(?:,\s*+"[^"\\\x00-\x1f]{1,64}"\s*+:|\}))'
FIRST_PLAIN_PAIR = re.compile(rf"\s*+{_PLAIN_KEY}\s*+{_PLAIN_VALUE}{_PLAIN_NEXT}", re.ASCII)
NEXT_PLAIN_PAIR = re.compile(rf"\s*+,\s*+{_PLAIN_KEY}\s*+{_PLAIN_VALUE}{_PLAIN_NEXT}", re.ASCII)

# Around the object.
OBJECT_START = re.compile(
    rf"[{{｛]{_G}(?:[{{｛]{_G})?(?:{_SEP}{_G}|{_ELLIPSIS}{_G}){{0,4}}+{_J}"
    + _any(_ANY_KEY, _SPACED_KEY, _CLOSE, _CUT_KEY)
)
TOP_LEVEL = re.compile(r"[{｛\[\]]|(?:```|~~~)[ \t]*\w*")
AFTER_SURPLUS_CLOSER = re.compile(rf"\s*+,{_G}{_QUOTED_KEY}\s*+{_COLON}")
# Objects inside a JSON string, and inside a CSV cell.
ESCAPED_OBJECT = re.compile(rf"[{{](?:[^{QUOTES}{{}}\\]|\\+[^\\\"']){{0,200}}+\\+[\"']")
ESCAPED_TEXT = re.compile(r'(?:[^"\\]++|\\[\s\S])*+')
CSV_OBJECT = re.compile(r'(?<=")\{\s*+""[^"\n]{1,80}+""\s*+:')
CSV_TEXT = re.compile(r'(?:[^"]++|"")*+')
