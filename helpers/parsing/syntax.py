"""The tokens of tolerant JSON as regular expressions, and the question that decides where a value ends.

Everything that looks ahead is bounded in length or possessive, so that no input makes matching quadratic.
"""

import re

INVISIBLE = (
    "\x00-\x08\x0e-\x1b\x7f\u00ad\u034f\u061c\u180b-\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff"
)
_END_OF_TURN = (
    r"<\|(?:im_end|im_start|endoftext|end_of_text|eot_id|eom_id|start_header_id|end|eos|return|user|assistant|system"
    r"|pad)\|>|</s>|<(?:end|start)_of_turn>|<eos>|<｜end▁of▁sentence｜>|\[INST\]"
)
_THINK = r"(?i:</?think(?:ing)?\s*+>)"
_STOP = rf"```|~~~|{_THINK}|{_END_OF_TURN}"

# One character classes: separators, closers and the quotes that may open or close a string.
SEPARATORS = ",;，；"
OBJECT_CLOSERS = "}｝"
ARRAY_CLOSERS = "]］"
_DOUBLE = '"“”„‟＂«»「」'
_SINGLE = "'‘’‚‛＇`´‹›"
QUOTES = _DOUBLE + _SINGLE
_SEP = f"[{SEPARATORS}]"
_CLOSE = f"[{OBJECT_CLOSERS}]"
_CLOSE_ARRAY = f"[{ARRAY_CLOSERS.replace(']', chr(92) + ']')}]"
_QUOTE = f"[{QUOTES}]"

CLOSING_QUOTES: dict[str, str] = {
    '"': '"”', "“": '”"“', "”": '”"', "„": '“”"', "‟": '”"', "＂": '＂"', "«": '»"', "»": '«»"', "「": "」",
    "'": "'’", "‘": "’'", "’": "’'", "‚": "‘’'", "‛": "’'", "＇": "＇'", "`": "`´'", "´": "´`'", "‹": "›'", "›": "‹›'",
}  # fmt: skip
"""Which quotes may close a string, by the quote that opened it."""

# Between tokens: spaces, invisible characters, comments, a backslash-letter that stands for white space.
_ESCAPED_SPACE = r"\\[nrt](?=[\s\\\"'{}\[\],:]|\Z)"
INVISIBLES = re.compile(f"[{INVISIBLE}]+")
GAP = re.compile(
    rf"(?:[\s{INVISIBLE}]++|//[^\n]*+|/\*(?:[^*]++|\*(?!/))*+(?:\*/)?|\#[^\n]*+|<!--[^>]*+>|{_ESCAPED_SPACE}"
    r"|\\(?=[{}\[\],:]))*+"
)
_G = (
    rf"(?:[\s{INVISIBLE}]++|//[^\n]{{0,200}}+(?=\n|\Z)|/\*(?:[^*]|\*(?!/)){{0,300}}+(?:\*/|\Z)|\#[^\n]{{0,200}}+(?=\n|\Z)|{_ESCAPED_SPACE}"
    r"|\\(?=[{}\[\],:]))*+"
)

# Keys, and what may pass for one.
_COLON = r"(?:[:：]{1,2}=?|=>?)"
COLON = re.compile(_COLON)
_QUOTED_KEY = (
    r'(?:"(?:[^"\\\n]|\\u[0-9a-fA-F]{4}|\\.){0,1000}+"'
    rf"|[“”„‟＂«»「][^{_DOUBLE}\n]{{0,200}}[{_DOUBLE}]"
    rf"|[{_SINGLE}](?:[^{_SINGLE}\"\n]){{0,200}}[{_SINGLE}])"
)
_WORD = r"(?:[^\W\d]|\$)[\w$.\-\\]{0,80}+"
_KEY = rf"{_QUOTED_KEY}{_G}{_COLON}"
_HALF_QUOTED_KEY = rf"{_QUOTE}{_WORD}\s*+{_COLON}"
_BARE_KEY = rf"(?:{_WORD}{_QUOTE}?\s*+{_COLON}|\d{{1,9}}\s*+:(?!\d))"
_CUT = rf"\s*+(?=\Z|{_STOP})"
_CUT_KEY = rf"{_QUOTE}[^{QUOTES}\n]{{0,200}}{_QUOTE}?{_CUT}"
_CUT_BARE_KEY = rf"{_WORD}{_QUOTE}?{_CUT}"
_LITERAL_AHEAD = r"(?:true|false|null|True|False|None)\b"
_KEY_WITHOUT_COLON = rf'"[a-z_]{{2,40}}"[ \t]++(?=["\d\[{{-]|{_LITERAL_AHEAD})'
_ELLIPSIS = r"(?:\.\.\.|…)"

QUOTED_KEY = re.compile(rf"({_QUOTED_KEY}){_G}{_COLON}")
WORD_KEY = re.compile(rf"(?={_QUOTE}(?:\w|\$)[\w$.\-\\ ]*+{_QUOTE}){_KEY}")
_NEXT_OBJECT = rf"[{{｛]\s*+{_QUOTE}"
HALF_QUOTED_KEY = re.compile(rf"{_QUOTE}({_WORD})\s*+{_COLON}")
_SPACED_KEY = rf"((?:[^\W\d]|\$)[\w$.\-\\ ]{{0,80}}|\d{{1,9}})(?<! ) *+({_QUOTE}?){_G}{_COLON}"
BARE_KEY = re.compile(_SPACED_KEY)
OBJECT_START = re.compile(
    rf"[{{｛]{_G}(?:[{{｛]{_G})?(?:{_SEP}{_G}|{_ELLIPSIS}{_G}){{0,4}}+(?:{_KEY}|{_HALF_QUOTED_KEY}|{_SPACED_KEY}|{_CLOSE}|{_CUT_KEY}|{_KEY_WITHOUT_COLON})"
)
KEY_WITHOUT_COLON = re.compile(rf'("[a-z_]{{2,40}}")[ \t]++(?=["\d\[{{-]|{_LITERAL_AHEAD})')
CUT_KEY = re.compile(rf"{_CUT_KEY}|{_CUT_BARE_KEY}|{_QUOTED_KEY}{_CUT}")
CLOSER_NEXT = re.compile(rf"{_G}(?:{_SEP}{_G})?[{OBJECT_CLOSERS}{ARRAY_CLOSERS.replace(']', chr(92) + ']')}]")
COMMENT_START = re.compile(r"//|/\*|\#|<!--")
ELLIPSIS = re.compile(_ELLIPSIS)
STOP = re.compile(_STOP)

# Whether, after a string's quote in an object, the syntax can go on. `_SURE` asks for more: it is used where an odd
# number of inner quotes came before, so that this one more likely ends a quotation inside the string.
OBJECT_GOES_ON = re.compile(
    rf"{_G}(?:\Z|{_CLOSE}|{_KEY}|{_STOP}|{_CLOSE_ARRAY}{_G}[{SEPARATORS}{OBJECT_CLOSERS}]|{_SEP}{_G}(?:{_SEP}{_G}){{0,4}}+(?:\Z|{_CLOSE}|{_KEY}|{_HALF_QUOTED_KEY}"
    rf"|{_BARE_KEY}|{_CUT_KEY}|{_CUT_BARE_KEY}|{_KEY_WITHOUT_COLON}|{_NEXT_OBJECT}|{_ELLIPSIS}|{_STOP}))"
    rf"|[ \t]*+\n\s*+(?:{_BARE_KEY}|{_HALF_QUOTED_KEY})"
)
OBJECT_SURELY_GOES_ON = re.compile(
    rf"{_G}(?:{_CLOSE}|{_KEY}|{_STOP}"
    rf"|{_SEP}{_G}(?:{_SEP}{_G}){{0,4}}+(?:{_CLOSE}|{_KEY}))"
)
ARRAY_GOES_ON = re.compile(
    rf"{_G}(?:\Z|{_CLOSE_ARRAY}|{_CLOSE}|{_STOP}|{_SEP}{_G}(?:{_SEP}{_G}){{0,4}}+(?:\Z|{_CLOSE_ARRAY}|{_CLOSE}|[{QUOTES}\d\-\[{{]"
    rf"|{_LITERAL_AHEAD}|{_ELLIPSIS}|[^{QUOTES},\]\n]{{1,40}}+[,\]]))|\s++{_QUOTE}(?=\S)"
)
ARRAY_SURELY_GOES_ON = re.compile(
    rf"{_G}(?:{_CLOSE_ARRAY}{_G}(?:\Z|[{SEPARATORS}{OBJECT_CLOSERS}\]]|{_STOP})|{_STOP}"
    rf"|{_SEP}{_G}(?:{_CLOSE_ARRAY}|{_CLOSE}|{_QUOTE}))"
)

# Bare values: where they may end, and what follows a comma that does end one.
SIMPLE_VALUE = re.compile(
    r"(-?(?:0|[1-9]\d*+)(?:\.\d++)?|true|false|null)(?=\s*+(?:}|,?\n|,\s*+\"[^\"\n]{0,80}\"\s*+:))", re.ASCII
)
BARE_STOP = re.compile(
    rf"[{SEPARATORS}{OBJECT_CLOSERS}{QUOTES}{{｛\n\]］]|\\(?=[}}\],])|(?<=\s)(?://|/\*|\# )|/\*|{_STOP}"
)
# `compro {nessa} loja`: braces that hold no object belong to the words around them.
BRACED_WORDS = re.compile(rf"[{{｛][^{{}}｛｝:：={QUOTES}\n]{{0,80}}+[{OBJECT_CLOSERS}]")
SEPARATOR_ENDS_VALUE = re.compile(
    rf"{_SEP}{_G}(?:{_SEP}{_G}){{0,4}}+(?:{_CLOSE}|{_KEY}|{_HALF_QUOTED_KEY}|{_BARE_KEY}|{_CUT_KEY}|{_KEY_WITHOUT_COLON}"
    rf"|{_NEXT_OBJECT}|{_ELLIPSIS}|{_STOP})"
)
_PLAIN_KEY = r'"([^"\\\x00-\x1f]{1,64})"\s*+:'
_PLAIN_VALUE = r'(?:"([^"”\\\x00-\x1f]*+)"|(true|false|null)|(-?(?:0|[1-9]\d{0,14})(?:[.,]\d{1,15})?))'
_PLAIN_NEXT = r'(?=\s*+(?:,\s*+"[^"\\\x00-\x1f]{1,64}"\s*+:|\}))'
FIRST_PLAIN_PAIR = re.compile(rf"\s*+{_PLAIN_KEY}\s*+{_PLAIN_VALUE}{_PLAIN_NEXT}", re.ASCII)
NEXT_PLAIN_PAIR = re.compile(rf"\s*+,\s*+{_PLAIN_KEY}\s*+{_PLAIN_VALUE}{_PLAIN_NEXT}", re.ASCII)
MISMATCHED_QUOTE = re.compile(rf"{_SEP}{_G}{_KEY}|{_CLOSE}\s*+(?:\Z|```)")
SEPARATOR_AT_END = re.compile(rf"{_SEP}{_G}\Z")
SEPARATOR_CUT_KEY = re.compile(rf"{_SEP}{_G}(?:{_CUT_BARE_KEY}|{_QUOTE})")
NEXT_BARE_PAIR = re.compile(rf"[ \t]++{_WORD}\s*+:\s*+(?:[{QUOTES}\d\[{{\-]|{_LITERAL_AHEAD})")
NUMBER_OR_LITERAL = re.compile(
    rf"((?:[-+−]?\d[\d.,]*+|(?i:true|false|null|verdadeiro|falso|nulo)|None|undefined)(?<![,.]))(?:\s++{_BARE_KEY}|\s*+(?=//|/\*|\#))"
)

# Around the object.
TOP_LEVEL = re.compile(rf"{_END_OF_TURN}|[{{｛\[\]]|(?:```|~~~)[ \t]*\w*|{_THINK}", re.IGNORECASE)
THINK_OR_TURN_END = re.compile(rf"</think(?:ing)?\s*+>|{_END_OF_TURN}", re.IGNORECASE)
TURN_HEADER = re.compile(
    r"\s*(?:<\|im_start\|>\s*assistant|<\|start_header_id\|>\s*assistant\s*<\|end_header_id\|>"
    r"|<start_of_turn>\s*model|<\|assistant\|>)[ \t]*\n?"
)
ESCAPED_OBJECT = re.compile(r"[{]\s*+(?:\\+[nrt]\s*+)*+\\+[\"']")
ESCAPED_TEXT = re.compile(r'(?:[^"\\]++|\\[\s\S])*+')
AFTER_SURPLUS_CLOSER = re.compile(rf"\s*+,{_G}{_QUOTED_KEY}\s*+{_COLON}")
# Inside what was taken for a string: a sign that its closing quote never came.
BOUNDARY = re.compile(rf"\n[ \t]*+(?:```|[{{]\s*+[\"'“]\w)|{_THINK}|{_END_OF_TURN}", re.IGNORECASE)
