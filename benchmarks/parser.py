"""What parsing costs: clean text against `json.loads`, other text against json_repair, hostile text against its length.

`python -m benchmarks.parser`. Ratios are taken within this one run, each time the best of several repetitions.
"""

import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import json_repair

from helpers.parsing import parse_completion
from helpers.parsing.audit import Case, quirk_cases

REPETITIONS = 7
HOSTILE_CHARACTERS = 100_000
HOSTILE: dict[str, tuple[str, str]] = {
    "digits": ('{"a": ', "1"),
    "digits and commas": ('{"a": ', "1,"),
    "run of numbers": ('{"a": ', "1, "),
    "open braces": ("", "{"),
    "open brackets": ("", "["),
    "open objects": ("", '{"a":'),
    "quotes": ('{"a": "', '" '),
    "inner quotations": ('{"a": "', 'b "c", '),
    "curly quotes": ('{"a": "', "“”, "),
    "apostrophes": ("{'a': '", "d'a "),
    "backslashes": ('{"a": "', "\\"),
    "comments": ('{"a": 1 ', "/**/"),
    "comment marks in a string": ('{"a": "', '" // '),
    "line breaks": ('{"a": "x', "\n "),
    "spaces": ("{", " "),
    "commas": ('{"a": 1', ","),
    "templates": ("", "{a:b} "),
    "objects": ("", "{'a': 4,5} "),
    "arrays with semicolons": ('{"a": [', "1,1; "),
    "escaped objects": ("", '{\\"a\\": 1} '),
    "fences": ("", '```json\n{"a": "'),
    "think tags": ("", '</think>{"a": 1,}'),
    "keys": ('{"a": "x"', ', "b": "c'),
    "doubled quotes": ('{"a": ""x', '""'),
    "doubled keys": ("{", ',""b"": ""c"'),
    "remarks": ('{"a": "x"', "(x) "),
    "list marks": ('{"a": 1, ', "- "),
    "tags": ('{"a": "x"', "<br>"),
    "words": ('{"a": "x"', ', nota "b'),
    "joined strings": ('{"a": "x"', ' + "y"'),
    "tuples": ('{"a": ', "(1,"),
    "CSV cells": ("", '"{""a"": ""b"" '),
    "channels": ("", "<|channel|>final<|message|>x"),
}


def seconds(read: Callable[[str], Any], text: str, repetitions: int = REPETITIONS) -> float:
    """The shortest of several repetitions of `read(text)`."""
    best = math.inf
    for _ in range(repetitions):
        start = time.perf_counter()
        read(text)
        best = min(best, time.perf_counter() - start)
    return best


def clean(cases: list[Case]) -> str:
    """Strict objects: our time as a multiple of `json.loads`'s."""
    texts = [json.dumps(case.expected, ensure_ascii=False) for case in cases if case.expected]
    ratios = [seconds(parse_completion, text, 30) / seconds(json.loads, text, 30) for text in texts]
    return f"clean ({len(texts)} texts): {statistics.median(ratios):.2f}x json.loads at the median (at most 3x)"


def repaired(cases: list[Case]) -> str:
    """Texts that need repair: our median time beside json_repair's."""
    texts = [case.text for case in cases if case.family not in ("strict", "hostile")]
    ours = statistics.median(seconds(parse_completion, text) for text in texts) * 1e6
    theirs = statistics.median(seconds(json_repair.loads, text) for text in texts) * 1e6
    return f"the rest ({len(texts)} texts): median {ours:.1f} µs, json_repair {theirs:.1f} µs ({ours / theirs:.2f}x)"


def hostile() -> list[str]:
    """Hostile texts of two sizes: the time for the larger, and how it grows with the length."""
    lines = [f"hostile text of {HOSTILE_CHARACTERS:,} characters (at most 1 s, growth at most n^1.3)"]
    for name, (prefix, unit) in HOSTILE.items():
        sizes = (HOSTILE_CHARACTERS // 8, HOSTILE_CHARACTERS)
        small, large = ((prefix + unit * (size // len(unit) + 1))[:size] for size in sizes)
        quick, slow = seconds(parse_completion, small, 3), seconds(parse_completion, large, 3)
        growth = math.log(slow / quick) / math.log(sizes[1] / sizes[0])
        lines.append(f"  {name:28} {slow * 1e3:8.1f} ms   n^{growth:4.2f}")
    return lines


if __name__ == "__main__":
    corpus = quirk_cases()
    print("\n".join([clean(corpus), repaired(corpus), *hostile()]))
