"""From the text of a completion to the JSON object it holds, with the repairs that took.

It feeds a reward, so inventing content is worse than rejecting. What a careful reader says a completion means:

R1   Valid JSON (white space around it allowed) keeps its strict meaning; nothing is reinterpreted, nothing reported.
R2   Thinking, and text after an end-of-turn token, never count (R16). Of the objects left, the last one that shares at
     least half of the largest one's keys is the answer. Braces without a `key: value` are no object, nor is an array.
R3   Nothing inside a string is changed. A quote closes a string only where the syntax can go on after it.
R4   `4,5` where an object's value stands is 4.5. In an array the comma separates, unless semicolons do (`[4,5; 3,2]`).
     A run of numbers (`4, 5`) never becomes a number: it is kept verbatim, as a string.
R5   `1.234,56`, `1.234.567`, `1,234.56`, `1 234,56`: only well-formed groups of three.
R6   Any other bare token is a string whose quotes were forgotten: `50%`, `4,5/5`, `R$ 10`, `negative`.
R7   true, false, null in any case, `None`, `undefined`, and verdadeiro, falso, nulo.
R8   In truncated text, whole values are kept and half ones dropped; a number at the very end is not whole.
R9   Commas, quotes, colons, closers, comments, escapes and double encoding are mended; a missing value is null.
R10  The last of duplicate keys counts.
R11  A number that is not a finite double is null.
R12  No object, or no certain meaning: rejected, with a reason.
R13  Never an exception, bounded time, bounded depth: for any input at all.
R14  A quote doubled on one or both sides of a key or value is one quote; an empty string stays empty.
R15  A remark between pairs (in brackets, a list mark, a tag, an emoji) is nothing, and never mixed with a value.
R16  <think>, <thinking>, <reasoning>, <thought>, [THINK] and harmony's channels mark thinking; where it never ends,
     nothing was answered. Other tags and role marks are nothing, also where they stand for a missing brace.
R17  A tuple is a list, strings joined by `+` are one, `1,5e-1` is 0.15, `- 0,5` is -0.5.
R18  A lone surrogate is U+FFFD: what is returned can always be written as UTF-8.

From the outside in: `completions` (text to result), `answer` (which part of it), `search` (which object), `objects`
(one object), `strings`, `numbers`, `syntax` (tokens), `strict` (the standard library's reading), `repairs` (their names
and classes). `baselines` holds the two earlier parsers, `trials` and `audit` compare parsers.
"""

from helpers.parsing.answer import answer_text
from helpers.parsing.baselines import PARSERS
from helpers.parsing.completions import ParsedCompletion, extract_json, parse_completion
from helpers.parsing.repairs import REPAIRS, repair_class

__all__ = [
    "PARSERS",
    "REPAIRS",
    "ParsedCompletion",
    "answer_text",
    "extract_json",
    "parse_completion",
    "repair_class",
]
