"""The parser, rule by rule: what a careful reader says a completion means."""

import json
import math
import re
import time
from pathlib import Path

import pytest

from helpers.core.files import PROJECT_ROOT, read_jsonl, write_jsonl
from helpers.parsing import (
    PARSERS,
    REPAIRS,
    ParsedCompletion,
    answer_text,
    extract_json,
    parse_completion,
    repair_class,
)
from helpers.parsing.audit import same
from helpers.parsing.baselines import handoff_object, regex_object
from helpers.parsing.completions import parse_counted
from helpers.parsing.objects import MAX_DEPTH
from helpers.tasks import REVIEW_FIELDS

QUIRKS = [row for _, row in read_jsonl(PROJECT_ROOT / "data" / "parser_quirks.jsonl")]
REVIEW = '{"sentiment": "negative", "sentiment_score": 1.5, "urgency": "high"}'


def test_r1_valid_json_keeps_its_strict_meaning() -> None:
    assert extract_json('{"a": [4,5], "b": "4,5", "c": 1.234, "resposta": {"d": null}}') == {
        "a": [4, 5], "b": "4,5", "c": 1.234, "resposta": {"d": None},
    }  # fmt: skip


def test_r2_thinking_and_later_turns_are_never_the_answer() -> None:
    assert extract_json(f'<think>{{"sentiment": "positive"}}</think>{REVIEW}') == json.loads(REVIEW)
    assert extract_json(f'{{"sentiment": "positive"}} ... </think>{REVIEW}') == json.loads(REVIEW)
    assert extract_json(f'{REVIEW}<|im_end|>{{"sentiment": "x", "urgency": "y"}}') == json.loads(REVIEW)
    assert extract_json(f"<think>{REVIEW}") is None


def test_r2_the_final_object_wins_over_drafts_but_not_over_notes() -> None:
    draft = '{"sentiment": "positive", "sentiment_score": 5, "urgency": "low"}'
    assert extract_json(f"Rascunho: {draft}\nFinal: {REVIEW}") == json.loads(REVIEW)
    for note in ('{"obs": "conferido"}', "{}", "{sentiment}", "{4,5}"):
        assert extract_json(f"{REVIEW}\n{note}") == json.loads(REVIEW), note


def test_r2_an_array_of_objects_is_not_one_answer() -> None:
    assert extract_json(f"[{REVIEW}, {REVIEW}]") is None
    assert extract_json(f"Lista:\n[{REVIEW},\n{REVIEW},]") is None


def test_r3_nothing_inside_a_string_is_changed() -> None:
    content = "1,5 {x} ```json // # /* */ “a” </think> <|im_end|> True \u200b fim"
    assert extract_json('Ok: {"texto": "' + content + '", "n": 4,5}') == {"texto": content, "n": 4.5}


def test_r3_a_quote_closes_only_where_the_syntax_goes_on() -> None:
    text = '{"texto": "disse "nunca mais", e "adeus"", "n": 1}'
    assert extract_json(text) == {"texto": 'disse "nunca mais", e "adeus"', "n": 1}


def test_r4_a_decimal_comma_is_one_number_in_an_object_and_a_separator_in_an_array() -> None:
    assert extract_json('{"a": 4,5, "b": -0,75, "c": [1,2], "d": [4,5; 3,2], "e": 4, "f": [{"g": 2,5}]}') == {
        "a": 4.5, "b": -0.75, "c": [1, 2], "d": [4.5, 3.2], "e": 4, "f": [{"g": 2.5}],
    }  # fmt: skip


@pytest.mark.parametrize("run", ["4, 5", "1,2,3", "4 ,5", "4,5, 6", "4,\n5", "4\n, 5", "4;\n\n-5"])
def test_r4_a_run_of_numbers_never_becomes_a_number(run: str) -> None:
    assert extract_json(f'{{"a": {run}, "b": 1}}') == {"a": run, "b": 1}


def test_r15_a_list_mark_on_the_line_of_a_key_belongs_to_no_run_of_numbers() -> None:
    for mark in ("2.", "2)", "-"):
        assert extract_json(f'{{"a": 4,\n{mark} "b": 1}}') == {"a": 4, "b": 1}, mark


@pytest.mark.parametrize(
    ("written", "value"),
    [("1.234,56", 1234.56), ("1.234.567", 1234567), ("1,234.56", 1234.56), ("1 234,56", 1234.56), ("1.234", 1.234),
     ("12.34,56", "12.34,56"), ("1234.567,8", "1234.567,8")],
)  # fmt: skip
def test_r5_only_well_formed_groups_of_three_are_numbers(written: str, value: object) -> None:
    assert same(extract_json(f'{{"a": {written}, "b": 1,}}'), {"a": value, "b": 1})


@pytest.mark.parametrize(
    "word", ["50%", "4,5/5", "R$ 1.234,56", "4 de 5", "2018-03-10", "negative", "sim", "N/A", "none"]
)
def test_r6_any_other_bare_token_is_a_string_verbatim(word: str) -> None:
    assert extract_json(f'{{"a": {word}, "b": 1}}') == {"a": word, "b": 1}


def test_r7_literals_of_json_python_javascript_and_portuguese() -> None:
    text = '{"a": TRUE, "b": False, "c": None, "d": undefined, "e": verdadeiro, "f": Falso, "g": nulo}'
    expected = {"a": True, "b": False, "c": None, "d": None, "e": True, "f": False, "g": None}
    assert same(extract_json(text), expected)


@pytest.mark.parametrize(
    ("cut", "kept"),
    [
        ('"b": "abc', None),
        ('"b": 4', None),
        ('"b": 4,', None),
        ('"b": 4,5', None),
        ('"b": tr', None),
        ('"b": [1, 2', None),
        ('"b": {"c": 1', None),
        ('"b"', None),
        ('"b": "abc"', "abc"),
        ('"b": 4, ', 4),
        ('"b": true', True),
        ('"b": [1]', [1]),
    ],
)
def test_r8_a_truncated_text_keeps_whole_values_only(cut: str, kept: object) -> None:
    expected = {"a": "x"} if kept is None else {"a": "x", "b": kept}
    parsed = parse_completion('{"a": "x", ' + cut)
    assert same(parsed.value, expected)
    assert "truncated" in parsed.repairs
    assert kept is not None or extract_json("{" + cut) is None


@pytest.mark.parametrize(
    "text",
    [
        '{"a": "x", "n": 4.5,}',
        '{, "a": "x",, "n": 4.5}',
        '{"a": "x" "n": 4.5}',
        '{"a": "x"; "n": 4,5}',
        "{'a': 'x', 'n': 4.5}",
        '{a: "x", n: 4,5}',
        "{“a”: “x”, ‘n’: 4.5}",
        "{«a»: «x», `n`: 4.5}",
        "｛＂a＂：＂x＂，＂n＂：4.5｝",
        '{"a" = "x", "n" => 4.5}',
        '{"a": "x", // nota\n"n": 4.5 /* fim */}',
        '{"a": "x, "n": 4.5}',
        '{"a": x", n": 4.5}',
        '{{"a": "x", "n": 4.5}}',
        '{"a": "x", "n": 4.5, ...}',
        '{"a": "x", "n": 4.5}}',
        '{"n": 4.5, "a": "x"',
        '{\\"a\\": \\"x\\", \\"n\\": 4.5}',
        '{\u200b"a":\u00a0"x", "n": 4.5}',
    ],
)
def test_r9_structure_is_mended(text: str) -> None:
    parsed = parse_completion(text)
    assert parsed.value == {"a": "x", "n": 4.5}
    assert parsed.repairs


def test_r9_a_missing_value_is_null_and_markdown_escapes_are_undone() -> None:
    assert extract_json('{"a": , "sentiment\\_score": "R\\$ 5 \\d"}') == {"a": None, "sentiment_score": "R$ 5 \\d"}


def test_r10_the_last_duplicate_counts_and_is_reported() -> None:
    for text in ('{"a": 1, "a": 2}', "{'a': 1, 'a': 2}"):
        parsed = parse_completion(text)
        assert parsed.value == {"a": 2}
        assert "duplicate_key" in parsed.repairs


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999", "9" * 5000, "9" * 400 + ",5"])
def test_r11_a_number_that_is_no_finite_double_is_null(number: str) -> None:
    parsed = parse_completion(f'{{"a": {number}, "b": 1}}')
    assert parsed.value == {"a": None, "b": 1}
    assert "non_finite" in parsed.repairs


@pytest.mark.parametrize("text", [row["text"] for row in QUIRKS if row["family"] == "reject"])
def test_r12_what_holds_no_object_is_rejected_with_a_reason(text: str) -> None:
    parsed = parse_completion(text)
    assert parsed.value is None
    assert parsed.reason


@pytest.mark.parametrize(
    "thing", [None, b'{"a": 1}', 4.5, ["{}"], "\ud800{\udfff", "\x00" * 50, "{" * 50, "\\", '{"a": "\\']
)
def test_r13_anything_at_all_gives_a_result(thing: object) -> None:
    parsed = parse_completion(thing)
    assert parsed.value is None and parsed.reason


QUOTED = [
    ('""urgency"": ""high""', "high"),
    ('""urgency": "high"', "high"),
    ('"urgency"": "high"', "high"),
    ('"urgency": ""high"', "high"),
    ('"urgency": "high""', "high"),
    ('"urgency": """high"""', "high"),
    ("''urgency'': ''high''", "high"),
    ('""urgency"": 2', 2),
    ('"urgency": ""', ""),
    ('""urgency"": ""', ""),
]


@pytest.mark.parametrize(("pair", "value"), QUOTED)
@pytest.mark.parametrize(
    "around", ['{{"a": "x", {}, "b": 1}}', "{{{}}}", '{{"a": 4,5,\n{}\n}}', '{{"a": true {}}}', '{{{}; "b": [1]}}']
)
def test_r14_a_doubled_quote_is_one_quote(around: str, pair: str, value: object) -> None:
    parsed = extract_json(around.format(pair))
    assert parsed is not None and parsed["urgency"] == value
    assert set(parsed) <= {"a", "b", "urgency"} and parsed.get("b") in (None, 1, [1])


REMARKS = [
    "(cliente irritado)",
    "(nota: 4,5)",
    "[ver acima]",
    "<br>",
    "<br/>",
    "😡",
    "- ",
    "* ",
    "• ",
    "1. ",
    "2) ",
    "->",
    '("urgente")',
]


@pytest.mark.parametrize("remark", REMARKS)
@pytest.mark.parametrize(
    "pair", ['"urgency": "high"', "'urgency': 'high'", '""urgency"": "high"', '"urgency" = "high"']
)
def test_r15_a_remark_between_pairs_is_nothing(remark: str, pair: str) -> None:
    expected = {"sentiment": "negative", "urgency": "high", "n": 4.5}
    for before in (", ", ",", ",\n", "\n"):
        text = f'{{"sentiment": "negative"{before}{remark} {pair}, "n": 4,5}}'
        assert extract_json(text) == expected, text
    assert extract_json(f'{{"sentiment": "negative" {remark}, {pair}, {remark} "n": 4,5}}') == expected


def test_r15_what_may_be_a_value_is_left_out_and_never_mixed() -> None:
    assert extract_json('{"sentiment": "negative", urgency low}') == {"sentiment": "negative"}
    assert extract_json('{"delivery_issue": true, urgency low, "n": 4,5}') == {"delivery_issue": True, "n": 4.5}
    assert extract_json('{"sentiment": "negative" urgency low}') is None


THOUGHTS = [
    *[(f"<{name}>", f"</{name}>") for name in ("think", "thinking", "reasoning", "Thought")],
    ("[THINK]", "[/THINK]"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
]


@pytest.mark.parametrize(("opening", "closing"), THOUGHTS)
@pytest.mark.parametrize("thought", ["", "\n\n", '{"sentiment": "positive", "urgency": "low"}', 'diz "oi'])
def test_r16_only_what_stands_outside_of_thinking_is_the_answer(opening: str, closing: str, thought: str) -> None:
    for answer in ("SELECT 1", REVIEW, f"```json\n{REVIEW}\n```", ""):
        assert answer_text(f"{opening}{thought}{closing}{answer}") == answer
        assert answer_text(f"{opening}{thought}{closing}{answer}<|im_end|>\n<|im_start|>user\n{REVIEW}") == answer
    assert extract_json(f"{opening}{thought}{closing}{REVIEW}") == json.loads(REVIEW)
    assert answer_text(f"{opening}{thought}{REVIEW}") is None
    assert parse_completion(f"{opening}{thought}{REVIEW}").reason in ("thinking never closed", "no final channel")


def test_r16_a_mark_inside_a_string_of_json_is_text() -> None:
    text = '{"main_complaint": "o site mostra </think> e <|im_end|>", "n": 4,5}'
    assert answer_text(text) == text
    assert extract_json(text) == {"main_complaint": "o site mostra </think> e <|im_end|>", "n": 4.5}


@pytest.mark.parametrize(
    "end", ["", "</answer>", " </tool_call>", "[/INST]", "**", ".", "\n**", "</s>", "\n```", "\n\nEspero ter ajudado!"]
)
def test_r16_no_field_is_lost_where_the_brace_is_missing(end: str) -> None:
    for last in ('"high"', "true", "null", '"veio quebrado, sem nota"', "4,5"):
        text = '<answer>{"sentiment": "negative", "x": ' + last + end
        kept = json.loads(last.replace(",5", ".5"))
        expected = {"sentiment": "negative"} | ({} if last == "4,5" and end in ("", ".") else {"x": kept})
        assert same(extract_json(text), expected), text


@pytest.mark.parametrize(
    ("written", "value"),
    [('("a", "b")', ["a", "b"]), ("(1, 2)", [1, 2]), ('("a",)', ["a"]), ('["a", ("b", 2)]', ["a", ["b", 2]]),
     ("()", []), ('"a" + "b"', "ab"), ('"a, " +\n "b" + "c"', "a, bc"), ('("a" + "b")', "ab"),
     ("1,5e-1", 0.15), ("2,5E+2", 250), ("- 0,5", -0.5), ("- 3", -3), ("(11) 99999-9999", "(11) 99999-9999"),
     ("[1, 2]", [1, 2])],
)  # fmt: skip
@pytest.mark.parametrize("key", ['"x"', "x", "'x'", '""x""'])
def test_r17_what_python_and_javascript_write(key: str, written: str, value: object) -> None:
    assert same(extract_json(f'{{"a": "y", {key}: {written}, "b": 1,}}'), {"a": "y", "x": value, "b": 1})
    assert same(extract_json(f"{{{key}: {written}}}"), {"x": value})


@pytest.mark.parametrize(
    "text", ['{"a": "\\ud83d"}', '{"a": "\ud83d",}', '{"\\udfff": ["\\ud83d", {"b": "x\\udc00"}]}', "{a: \ud800}"]
)
def test_r18_what_is_returned_can_be_written(text: str, tmp_path: Path) -> None:
    parsed = parse_completion(text)
    assert parsed.value is not None and "surrogate" in parsed.repairs
    assert "\ufffd" in json.dumps(parsed.value, ensure_ascii=False)
    write_jsonl(tmp_path / "rows.jsonl", [{"value": parsed.value, "reason": parsed.reason}])
    assert str(parsed).encode()
    assert parse_completion('{"a": "\\ud83d\\ude21"}') == ParsedCompletion({"a": "\U0001f621"})


@pytest.mark.parametrize("row", QUIRKS, ids=[row["id"] for row in QUIRKS])
def test_every_documented_quirk_has_its_documented_value(row: dict) -> None:
    assert same(extract_json(row["text"]), row["expected"])


def test_the_quirk_corpus_is_large_and_covers_every_rule() -> None:
    assert len(QUIRKS) >= 150
    assert len({row["id"] for row in QUIRKS}) == len(QUIRKS)
    assert {row["rule"] for row in QUIRKS} == {f"R{number}" for number in range(1, 19)}


def test_repairs_fall_into_their_classes() -> None:
    cases = {"clean": REVIEW, "lossless": f"```json\n{REVIEW}\n```", "lossy": REVIEW[:-1]}
    for expected, text in cases.items():
        assert repair_class(parse_completion(text).repairs) == expected
    assert set(REPAIRS.values()) == {"lossless", "lossy"}


def test_known_fields_tell_the_answer_from_a_larger_example() -> None:
    example = '{"x": 1, "y": 2, "z": 3, "w": 4}'
    assert extract_json(f"{REVIEW} {example}", fields=REVIEW_FIELDS) == json.loads(REVIEW)


def test_nesting_is_bounded() -> None:
    deep = "{'a':" * (MAX_DEPTH + 1) + "1" + "}" * (MAX_DEPTH + 1)
    assert parse_completion(deep).reason == "nested too deeply"
    assert extract_json(deep[len("{'a':") : -1]) is not None


PREFIXES = ("", '{"a": ', '{"a": "', '{"a": 1', "{'a': '", '{"a": [')
UNITS = """{  {"a":  {"a":[  [  "  {"  1  1,  ,  }  ]  \\  '  “  “”,  :  =  //
/*  /**/  #  ...  ```  <think>  </think>  <|im_end|>
" "  x  "b":  "b'd,  ;1,2;  {\\"  \\u0041  {a:b}  {"a":1}  {a:1}  \t}
""  ""b"":  (x)  ("a",  <br>  </b  &nbsp;  **  -  1.  😡  [x]  <|channel|>  [THINK]  +"b"  \\"b\\":  "b"1  #1  nota"""
HOSTILE = [
    (prefix, unit) for prefix in PREFIXES for unit in [*re.split(r"  |\n", UNITS), " ", "\n", '" ', "\n ", "x, ", ", "]
]


@pytest.mark.parametrize(("prefix", "unit"), HOSTILE)
def test_hostile_text_costs_work_in_proportion_to_its_length(prefix: str, unit: str) -> None:
    small, large = ((prefix + unit * (size // len(unit))) for size in (1_500, 6_000))
    (_, few), (parsed, many) = parse_counted(small), parse_counted(large)
    assert parsed.value is None or isinstance(parsed.value, dict)
    assert many <= 25 * len(large)
    assert few < 200 or math.log(many / few) / math.log(len(large) / len(small)) <= 1.3


def test_a_megabyte_is_read_within_the_budget() -> None:
    text = "[" + '{"a": 4,5, "b": "x"}\n' * 48_000
    parsed, steps = parse_counted(text)
    assert parsed.value is None
    assert steps <= 25 * len(text)


def test_the_earlier_parsers_keep_their_defects() -> None:
    assert regex_object('{"sentiment_score": 4,5}') is None
    assert handoff_object('{"sentiment_score": 4,5}') == {"sentiment_score": 4.5}
    assert handoff_object('{"notas": [1,2], "media": 1,5}') == {"notas": [1.2], "media": 1.5}
    assert PARSERS["handoff"]('{"a":' * 100_000 + "1" + "}" * 100_000).reason == "exception: RecursionError"
    assert PARSERS["regex"]('{"a": ' + "9" * 5000 + "}").reason == "exception: ValueError"


@pytest.mark.parametrize("text", ["{" * 200_000, "}" * 100_000 + "{" * 100_000])
def test_the_earlier_parsers_read_braces_without_a_partner_in_linear_time(text: str) -> None:
    started = time.process_time()
    assert regex_object(text) is None and handoff_object(text) is None
    assert time.process_time() - started < 2
