"""The shipped pairs are what the build writes, tell their task, are answered well, and leak nothing between splits."""

import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from helpers.cli import main
from helpers.core.errors import UserError
from helpers.tasks import MAX_PUSH_CHARACTERS, TASKS, classify_task, user_text
from helpers.tasks.pairs.build import COUNTS, add_pairs, build_pairs, write_pairs
from helpers.tasks.pairs.leaks import NEAR, find_leaks, five_grams
from helpers.tasks.records import PAIRS_DIR, SPLITS, load_records, load_split
from helpers.tasks.shop.database import build_db, connect
from helpers.tasks.shop.schema import DEFAULT_SEED
from helpers.tasks.shop.simulate import simulate

Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def splits() -> dict[str, Rows]:
    return {name: load_split(name) for name in SPLITS}


@pytest.fixture(scope="module")
def of_task(splits: dict[str, Rows]) -> Callable[[str], Rows]:
    return lambda task: [record for rows in splits.values() for record in rows if record["task"] == task]


@pytest.fixture(scope="module")
def db(commerce_db: Path) -> Iterator[sqlite3.Connection]:
    with closing(connect(commerce_db)) as connection:
        yield connection


def test_the_shipped_pairs_are_byte_for_byte_what_the_default_build_writes(tmp_path: Path) -> None:
    build_db(simulate(), tmp_path / "shop.db")
    write_pairs(build_pairs(tmp_path / "shop.db", DEFAULT_SEED), tmp_path)
    for name in SPLITS:
        assert (tmp_path / f"{name}.jsonl").read_bytes() == (PAIRS_DIR / f"{name}.jsonl").read_bytes(), name


def test_every_prompt_tells_its_task_and_is_short(splits: dict[str, Rows]) -> None:
    for record in (record for rows in splits.values() for record in rows):
        text = user_text(record["prompt"])
        assert classify_task(text) == record["task"], record["id"]
        assert len(text) <= 600, record["id"]


def test_every_reference_has_the_length_that_its_task_allows(of_task: Callable[[str], Rows]) -> None:
    limits = {"extraction": (0, 330), "sql_qa": (0, 480), "insights": (300, 600), "push": (1, MAX_PUSH_CHARACTERS)}
    for task, (low, high) in limits.items():
        assert all(low <= len(record["reference"]["text"]) <= high for record in of_task(task)), task


def test_every_reference_query_runs_and_gives_the_cached_rows(
    of_task: Callable[[str], Rows], db: sqlite3.Connection
) -> None:
    for record in of_task("sql_qa"):
        cursor = db.execute(record["reference"]["sql"])
        found = [list(row) for row in cursor]
        cached = record["reference"]["result"]
        assert [column[0] for column in cursor.description] == cached["columns"], record["id"]
        assert found and sorted(map(repr, found)) == sorted(map(repr, cached["rows"])), record["id"]
        if record["meta"]["ordered"]:
            assert found == cached["rows"], record["id"]


def test_sql_questions_come_from_forty_families_of_all_difficulties(of_task: Callable[[str], Rows]) -> None:
    families = Counter(record["meta"]["family"] for record in of_task("sql_qa"))
    assert len(families) >= 40
    assert max(families.values()) <= 25
    assert {record["meta"]["difficulty"] for record in of_task("sql_qa")} == {"easy", "medium", "hard"}


def test_no_sql_question_repeats_with_the_same_parameters(of_task: Callable[[str], Rows]) -> None:
    asked = [(record["meta"]["family"], str(record["meta"]["params"])) for record in of_task("sql_qa")]
    assert len(asked) == len(set(asked))
    questions = [record["meta"]["question"] for record in of_task("sql_qa")]
    assert len(questions) == len(set(questions))


def test_an_explanation_states_no_figure_beyond_question_and_query(of_task: Callable[[str], Rows]) -> None:
    for record in of_task("sql_qa"):
        query, explanation = record["reference"]["sql"], record["reference"]["text"].split("```")[2]
        known = set(re.findall(r"\d+", query + record["meta"]["question"]))
        assert set(re.findall(r"\d+", explanation)) <= known, record["id"]


def test_a_number_of_the_question_is_in_the_query_or_the_explanation(of_task: Callable[[str], Rows]) -> None:
    for record in of_task("sql_qa"):
        asked = set(
            re.findall(r"\d+", re.sub(r"[a-z_]+_\d|eletrodomésticos 2|conforto 2", "", record["meta"]["question"]))
        )
        assert asked <= set(re.findall(r"\d+", record["reference"]["text"])), record["id"]


def test_an_extraction_reference_agrees_with_its_score_and_order(of_task: Callable[[str], Rows]) -> None:
    for record in of_task("extraction"):
        fields, meta = record["reference"]["fields"], record["meta"]
        expected = "positive" if meta["review_score"] >= 4 else "neutral" if meta["review_score"] == 3 else "negative"
        assert fields["sentiment"] == expected, record["id"]
        if fields["complaint_category"] == "late_delivery":
            assert meta["delay_days"] > 0, record["id"]
        if fields["complaint_category"] == "not_delivered":
            assert meta["status"] != "delivered", record["id"]


def test_extraction_shows_every_category_and_all_levels(of_task: Callable[[str], Rows]) -> None:
    fields = [record["reference"]["fields"] for record in of_task("extraction")]
    categories = Counter(field["complaint_category"] for field in fields)
    assert len(categories) == 8 and min(categories.values()) >= 10
    for name in ("churn_risk", "urgency"):
        assert min(Counter(field[name] for field in fields).values()) >= 50


def test_every_number_of_an_analysis_is_in_its_table_or_a_difference_or_ratio_of_two(
    of_task: Callable[[str], Rows],
) -> None:
    for record in of_task("insights"):
        rows = record["meta"]["table"]["rows"]
        labels = " ".join(row[0] for row in rows)
        columns = list(zip(*[row[1:] for row in rows], strict=True))
        known = {value for column in columns for value in column}
        known |= {abs(a - b) for column in columns for a in column for b in column}
        known |= {a / b for column in columns for a in column for b in column if b}
        stated = re.findall(r"\d[\d.]*(?:,\d+)?", record["reference"]["text"])
        for shown in (text.rstrip(".") for text in stated):
            value, decimals = float(shown.replace(".", "").replace(",", ".")), len(shown.partition(",")[2])
            near = any(abs(value - other) <= 0.5 * 10**-decimals + 1e-9 for other in known)
            assert near or shown in labels, (record["id"], shown)


def test_the_prompt_shows_the_raw_table_in_brazilian_notation(of_task: Callable[[str], Rows]) -> None:
    for record in of_task("insights"):
        lines = [line for line in user_text(record["prompt"]).split("\n") if line.startswith("|")]
        shown = [[cell.strip() for cell in line.strip("|").split("|")] for line in (lines[0], *lines[2:])]
        table = record["meta"]["table"]
        assert shown[0] == table["columns"]
        for cells, row in zip(shown[1:], table["rows"], strict=True):
            assert cells[0] == row[0]
            assert [float(cell.replace(".", "").replace(",", ".")) for cell in cells[1:]] == row[1:]


def test_push_prompts_tell_every_fact_of_the_context(of_task: Callable[[str], Rows]) -> None:
    for record in of_task("push"):
        text = user_text(record["prompt"])
        assert all(str(fact) in text for fact in record["meta"]["context"].values()), record["id"]


def test_a_push_names_its_customer_and_no_number_that_the_context_lacks(of_task: Callable[[str], Rows]) -> None:
    for record in of_task("push"):
        text, context = record["reference"]["text"], record["meta"]["context"]
        assert context["name"] in text
        known = set(re.findall(r"\d+", " ".join(map(str, context.values()))))
        assert set(re.findall(r"\d+", text)) <= known, record["id"]


def test_no_held_out_prompt_shares_four_fifths_of_its_five_grams_with_a_train_prompt(splits: dict[str, Rows]) -> None:
    for task in ("extraction", "push"):
        train = [five_grams(user_text(record["prompt"])) for record in splits["train"] if record["task"] == task]
        for record in splits["eval"] + splits["test"]:
            if record["task"] == task:
                grams = five_grams(user_text(record["prompt"]))
                assert max(len(grams & other) for other in train) <= NEAR * len(grams), record["id"]


def test_references_are_worded_in_many_ways(of_task: Callable[[str], Rows]) -> None:
    for task in ("sql_qa", "insights", "push"):
        texts = [record["reference"]["text"] for record in of_task(task)]
        assert len(set(texts)) == len(texts), task
    openings = Counter(record["reference"]["text"].split("```")[2].split()[0] for record in of_task("sql_qa"))
    assert len(openings) >= 8


@pytest.mark.parametrize("version", ["v4.1", "v4.2"])
def test_every_reference_earns_nearly_the_whole_reward(
    splits: dict[str, Rows], commerce_db: Path, version: str
) -> None:
    from helpers.rewards import score

    for record in (record for rows in splits.values() for record in rows):
        no_number = record["task"] == "sql_qa" and not re.search(r"\d", record["meta"]["question"])
        least = 0.70 if no_number and version == "v4.1" else 0.95
        assert score(record["task"], record["reference"]["text"], record, version).total >= least, record["id"]


def test_the_leak_check_finds_copies_sources_and_near_copies(splits: dict[str, Rows]) -> None:
    train = splits["train"]
    review = next(
        record for record in train if record["task"] == "extraction" and len(user_text(record["prompt"])) > 250
    )
    assert find_leaks(train, splits["eval"] + splits["test"]) == []
    assert any("prompt" in line for line in find_leaks(train, [review | {"id": "copy"}]))
    changed = review["prompt"][1] | {"content": review["prompt"][1]["content"].replace(":", " é", 1)}
    other = review | {"id": "near", "prompt": [changed], "meta": review["meta"] | {"review_id": "r", "order_id": "o"}}
    assert [line for line in find_leaks(train, [other]) if "5-grams" in line]
    question = next(record for record in train if record["task"] == "sql_qa")
    same = question | {"id": "same", "prompt": [{"role": "user", "content": "SQL ..."}]}
    assert any("family and params" in line for line in find_leaks(train, [same]))


def test_more_pairs_of_a_task_repeat_no_known_record(splits: dict[str, Rows], commerce_db: Path) -> None:
    rows = add_pairs(commerce_db, "insights", 40, "sentiment='negative'", DEFAULT_SEED, splits)
    assert len(rows) == 40
    assert find_leaks([record for known in splits.values() for record in known], rows) == []
    assert all("sentiment='negative'" in record["meta"]["title"] for record in rows)


def test_the_condition_limits_the_orders_that_records_come_from(splits: dict[str, Rows], commerce_db: Path) -> None:
    rows = add_pairs(commerce_db, "extraction", 30, "customer_state = 'RJ'", 1, splits)
    with closing(connect(commerce_db)) as db:
        for record in rows:
            sql = "SELECT customer_state FROM orders_enriched WHERE order_id = ?"
            assert db.execute(sql, (record["meta"]["order_id"],)).fetchone() == ("RJ",)


def test_the_pairs_verb_writes_records_that_load(commerce_db: Path, tmp_path: Path) -> None:
    out = tmp_path / "more.jsonl"
    arguments = ["pairs", "--task", "push", "--add", "12", "--where", "review_score <= 2", "--out", str(out)]
    assert main(arguments) == 0
    assert Counter(record["task"] for record in load_records(out)) == {"push": 12}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--task", "pull", "--add", "1"], f"the valid ones are: {', '.join(TASKS)}"),
        (["--task", "push", "--add", "0"], "at least 1 record"),
        (["--task", "push", "--add", "1", "--where", "mood = 1"], "no such column: mood"),
        (["--task", "insights", "--add", "5000", "--where", "customer_state = 'RR'"], "5000 were wanted"),
        (["--task", "push", "--add", "1", "--db", "/nowhere/shop.db"], "python -m helpers data"),
    ],
)
def test_bad_requests_for_pairs_get_one_line(
    commerce_db: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    out = tmp_path / "more.jsonl"
    assert main(["pairs", *arguments, "--out", str(out)]) == 2
    error = capsys.readouterr().err.strip()
    assert told in error and "\n" not in error
    assert not out.exists()


def test_a_shop_too_small_for_the_counts_says_so(tmp_path: Path) -> None:
    build_db(simulate(orders=300, seed=1), tmp_path / "small.db")
    with pytest.raises(UserError, match="extraction records for"):
        build_pairs(tmp_path / "small.db", DEFAULT_SEED)
    assert sum(COUNTS["train"].values()) == 1_484
