"""What a parser had to mend, by name, and how far the meaning can be trusted afterwards."""

from collections.abc import Iterable
from typing import Literal

RepairClass = Literal["clean", "lossless", "lossy"]

REPAIRS: dict[str, RepairClass] = {
    # around the object
    "code_fence": "lossless",
    "surrounding_text": "lossless",
    "think_block": "lossless",
    "end_of_turn": "lossless",
    "double_encoding": "lossless",
    "several_objects": "lossy",
    # between the tokens
    "comma": "lossless",
    "semicolon": "lossless",
    "colon": "lossless",
    "comment": "lossless",
    "remark": "lossy",
    "full_width": "lossless",
    "invisible_character": "lossless",
    "exotic_space": "lossless",
    "doubled_brace": "lossless",
    "stray_backslash": "lossless",
    "ellipsis": "lossy",
    "closer": "lossy",
    "truncated": "lossy",
    # in keys and values
    "quotes": "lossless",
    "unquoted_key": "lossless",
    "raw_newline": "lossless",
    "invalid_escape": "lossless",
    "surrogate": "lossy",
    "joined_strings": "lossless",
    "tuple": "lossless",
    "literal": "lossless",
    "decimal_comma": "lossless",
    "digit_grouping": "lossless",
    "number_format": "lossless",
    "inner_quote": "lossy",
    "missing_quote": "lossy",
    "unquoted_value": "lossy",
    "number_run": "lossy",
    "missing_value": "lossy",
    "missing_colon": "lossy",
    "non_finite": "lossy",
    "duplicate_key": "lossy",
}
"""Every repair the parser reports. `lossless`: the meaning is certain. `lossy`: a guess, or something was left out."""


def repair_class(repairs: Iterable[str]) -> RepairClass:
    """The worst class among `repairs`; without any, the text was strict JSON.

    >>> repair_class(()), repair_class(("code_fence",)), repair_class(("code_fence", "truncated"))
    ('clean', 'lossless', 'lossy')
    """
    classes = {REPAIRS[name] for name in repairs}
    if "lossy" in classes:
        return "lossy"
    return "lossless" if classes else "clean"
