"""What must hold of any text and any object: the parser's properties."""

import json
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from parsing_corruptions import CORRUPTIONS, PAIRS, damaged, damaged_syntax

from helpers.parsing import REPAIRS, ParsedCompletion, extract_json, parse_completion
from helpers.parsing.audit import same

MARKS = ("<|channel|>", "<|channel|>final<|message|>{}", "<|end|>", "<|im_end|>", "</s>", "<think>", "[THINK]")
TEXTS = st.text() | st.sampled_from(MARKS)  # a chat's marks are text where a string quotes them
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=12
)
OBJECTS = st.dictionaries(TEXTS, VALUES, max_size=6)
PIECES = re.split(
    r"\s+",
    """{  }  [  ]  "  '  “  ”  :  ,  ;  =  \\  //  /*  */  #  ...  ```  <think>  </think>  <|im_end|>  4,5
1.234,56  -  true  None  NaN  nota  \u200b  \\u00  é""",
)
SYNTAX = st.lists(st.sampled_from([*PIECES, " ", "\n"]), max_size=40).map("".join)


def is_well_formed(parsed: ParsedCompletion) -> bool:
    has_value = isinstance(parsed.value, dict)
    return (has_value == (parsed.reason is None)) and all(name in REPAIRS for name in parsed.repairs)


@given(st.text())
@settings(max_examples=300, deadline=None)
def test_any_text_gives_an_object_or_a_reason(text: str) -> None:
    assert is_well_formed(parse_completion(text))


@given(SYNTAX)
@settings(max_examples=1500, deadline=None)
def test_any_heap_of_json_punctuation_gives_an_object_or_a_reason(text: str) -> None:
    assert is_well_formed(parse_completion(text))


@given(OBJECTS, st.sampled_from([None, 2]), st.booleans())
@settings(max_examples=300, deadline=None)
def test_a_strict_object_comes_back_unchanged_and_unrepaired(value: dict, indent: int | None, ascii_only: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    assert parse_completion(text) == ParsedCompletion(value)


@given(SYNTAX)
@settings(max_examples=1500, deadline=None)
def test_repairs_are_reported_exactly_when_the_text_is_not_strict(text: str) -> None:
    parsed = parse_completion(text)
    try:
        strict = json.loads(text, parse_constant=lambda _: 1 / 0)
    except (ValueError, ZeroDivisionError):
        strict = None
    if parsed.value is not None and not parsed.repairs:
        assert isinstance(strict, dict) and same(strict, parsed.value)
    if isinstance(strict, dict):
        assert same(strict, parsed.value)


@given(
    st.dictionaries(
        TEXTS,
        st.floats(-1e6, 1e6).filter(lambda x: "e" not in repr(x)) | st.integers(-999, 999) | TEXTS | st.booleans(),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from([(", ", ": "), (",\n  ", ": "), (",", ":")]),
)
@example({"": "0»:", "0": 0.0}, (", ", ": "))  # a value that looks like a key, but for its closing quote
@example({"a": "“b”:", "c": 1.5}, (", ", ": "))
@example({"<|channel|>": 0.0}, (", ", ": "))
@example({"": '":', "0": 0.0}, (", ", ": "))  # its closing quote, as it looks, is an escaped one
@example({"a": 'b": 1', "c": 1.5}, (", ", ": "))
@settings(max_examples=500, deadline=None)
def test_decimal_commas_written_into_an_object_keep_its_values(value: dict, separators: tuple[str, str]) -> None:
    def written(item: object) -> str:
        text = json.dumps(item, ensure_ascii=False)
        return text.replace(".", ",") if isinstance(item, float) else text

    text = "{" + separators[0].join(json.dumps(k) + separators[1] + written(v) for k, v in value.items()) + "}"
    assert same(extract_json(text), value)


@given(st.dictionaries(TEXTS, st.floats(0, 9, width=16) | TEXTS, min_size=1, max_size=4), st.sampled_from(MARKS[2:4]))
@settings(max_examples=300, deadline=None)
def test_marks_around_an_object_are_left_out_and_marks_in_its_texts_are_kept(value: dict, end: str) -> None:
    final = f"<|channel|>analysis<|message|>4,5<|end|><|start|>assistant<|channel|>final<|message|>{json.dumps(value)}"
    assert same(extract_json(final + end), value)


@given(st.sampled_from(sorted(CORRUPTIONS)), st.integers(0, 10_000))
@example("missing_quote", 385)  # braces in a text whose opening quote is missing
@settings(max_examples=400, deadline=None)
def test_one_corruption_never_changes_a_value(name: str, seed: int) -> None:
    text, expected = damaged((name,), seed)
    assert same(extract_json(text), expected), text


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_every_corruption_alone_is_read_right(name: str) -> None:
    for seed in range(20):
        text, expected = damaged((name,), seed)
        assert same(extract_json(text), expected), text


def shares(results: list[tuple[object, object]]) -> tuple[float, float]:
    """Which share of (read, expected) is right, and which is wrong rather than missed."""
    right = sum(same(read, expected) for read, expected in results)
    wrong = sum(read is not None and not same(read, expected) for read, expected in results)
    return right / len(results), wrong / len(results)


def test_two_corruptions_at_once_rarely_cost_an_object_and_hardly_ever_a_value() -> None:
    results = [(extract_json(text), expected) for pair in PAIRS for text, expected in [damaged(pair, 1)]]
    right, wrong = shares(results)
    assert right >= 0.99 and wrong <= 0.005


@pytest.mark.parametrize(
    ("damage", "least_right", "most_wrong"),
    [("drop", 0.98, 0.0), ("double", 1.0, 0.0), ("replace", 0.97, 0.03), ("drop two", 0.9, 0.06)],
)
def test_a_character_of_the_syntax_that_is_lost_doubled_or_replaced_costs_nothing(
    damage: str, least_right: float, most_wrong: float
) -> None:
    results = [
        (extract_json(text), expected) for seed in range(500) for text, expected in [damaged_syntax(damage, seed)]
    ]
    right, wrong = shares(results)
    assert right >= least_right and wrong <= most_wrong
