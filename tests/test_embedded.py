"""The embedded policies: read nothing of eval and test, are made once, ship with their card, speak ChatML."""

import json
import random
import re
import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, replace

import pytest
import torch
from filelock import FileLock
from transformers import TrainerCallback

from helpers.core.errors import UserError
from helpers.core.files import database_path, write_json
from helpers.parsing import extract_json, parse_completion
from helpers.policy import embedded, sft
from helpers.policy.embedded import architecture, build, habits, load, pretrain, readings
from helpers.recipes import profiles
from helpers.recipes.profiles import Stage
from helpers.runs.record import jsonable
from helpers.tasks import ROWS, TASKS
from helpers.tasks.pairs import sql_qa
from helpers.tasks.pairs.build import draw_questions_by_chance
from helpers.tasks.pairs.drafts import identity
from helpers.tasks.pairs.leaks import find_leaks
from helpers.tasks.pairs.portuguese import load_text
from helpers.tasks.records import load_split
from helpers.tasks.shop.database import connect

PROFILE = profiles.get("smallest")
SETTINGS = PROFILE.embedded
HELD_OUT = load_split("eval") + load_split("test")
SHIPPED = [settings for settings in profiles.SHIPPED.values() if (embedded.SHIPPED / settings.name).is_dir()]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    embedded.base_policy(SETTINGS, PROFILE, folder)
    return folder


@pytest.fixture(scope="module")
def policy(cache):
    return embedded.base_policy(SETTINGS, PROFILE, cache)


def test_a_second_call_loads_what_the_first_one_made(cache):
    (weights,) = cache.glob("*/model.safetensors")
    before = weights.stat().st_mtime_ns
    policy = embedded.base_policy(SETTINGS, PROFILE, cache)
    assert weights.stat().st_mtime_ns == before
    assert policy.model.config.model_type == "qwen3" and policy.model.dtype == torch.float32


def test_a_policy_made_again_has_the_same_weights_to_the_byte(cache, tmp_path):
    (made,) = cache.glob("*/embedded.json")
    again = embedded.base_policy(SETTINGS, PROFILE, tmp_path)
    assert embedded.fingerprint(made.parent) == embedded.fingerprint(tmp_path / made.parent.name)
    assert again.source != str(made.parent)


def test_other_settings_habits_or_held_out_prompts_make_another_policy(monkeypatch):
    keys = {build.build_key(SETTINGS), build.build_key(replace(SETTINGS, layers=3))}
    monkeypatch.setitem(habits.RATES["push"], "the formulas of a letter", 0.5)
    keys.add(build.build_key(SETTINGS))
    monkeypatch.setattr(build, "_held_out", lambda: load_split("eval"))
    assert len(keys | {build.build_key(SETTINGS)}) == 4


def test_a_build_that_was_killed_goes_on_and_ends_as_one_that_was_not(cache, tmp_path, monkeypatch):
    arguments = build.arguments
    monkeypatch.setattr(build, "arguments", lambda *given: arguments(*given) | {"save_steps": 3})

    class Kill(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 5:
                raise KeyboardInterrupt

    with monkeypatch.context() as killing:
        killing.setattr(sft, "show_progress", lambda title: Kill())
        with pytest.raises(KeyboardInterrupt):
            embedded.base_policy(SETTINGS, PROFILE, tmp_path)
    assert list(tmp_path.glob("*.building/checkpoints-0/checkpoint-3"))
    policy = embedded.base_policy(SETTINGS, PROFILE, tmp_path)
    (made,) = cache.glob("*/embedded.json")
    assert embedded.fingerprint(tmp_path / made.parent.name) == embedded.fingerprint(made.parent)
    assert policy.source == str(tmp_path / made.parent.name) and not list(tmp_path.glob("*.building"))


def test_a_build_that_was_killed_before_it_was_published_ends_as_one_that_was_not(cache, tmp_path, monkeypatch):
    def kill(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as killing:
        killing.setattr(build.shutil, "move", kill)
        with pytest.raises(KeyboardInterrupt):
            embedded.base_policy(SETTINGS, PROFILE, tmp_path)
    embedded.base_policy(SETTINGS, PROFILE, tmp_path)
    (made,) = cache.glob("*/embedded.json")
    again = tmp_path / made.parent.name
    assert embedded.read_card(again) == embedded.read_card(made.parent)
    assert {path.name for path in again.iterdir()} == {path.name for path in made.parent.iterdir()}
    assert not list(tmp_path.glob("*.building"))


def test_who_needs_a_policy_that_is_being_made_waits_and_loads_it(cache, tmp_path):
    (made,) = cache.glob("*/embedded.json")
    folder = tmp_path / made.parent.name
    with ThreadPoolExecutor() as pool:
        with FileLock(tmp_path / f"{folder.name}.lock"):
            waiting = pool.submit(embedded.base_policy, SETTINGS, PROFILE, tmp_path)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.5)
            shutil.copytree(made.parent, folder)
            weights = (folder / "model.safetensors").stat().st_mtime_ns
        assert waiting.result().source == str(folder)
    assert (folder / "model.safetensors").stat().st_mtime_ns == weights


def test_the_fifth_set_shares_nothing_with_eval_and_test(cache):
    records = build.draw_records(SETTINGS, cache)
    assert {record["task"] for record in records} == set(TASKS)
    assert find_leaks(records, load_split("eval") + load_split("test")) == []


def test_what_a_batch_begins_with_is_read_once_and_changes_no_loss(policy):
    rows = [pretrain.token_row(policy.tokenizer, "Crie uma notificação para", end) for end in (" Ana", " Rui e Eva")]
    trainer = pretrain.WeightedTrainer.compute_loss
    together = trainer(None, policy.model, pretrain.padded(rows))
    apart = []
    for row in rows:
        ids, weights = torch.tensor([row["input_ids"]]), torch.tensor(row["weights"])[1:]
        logits = policy.model(ids).logits[0, :-1]
        losses = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none")
        new = len(row["input_ids"]) - pretrain.padded(rows)["shared"].shape[1] - 1
        apart.append((losses * weights)[-new:].sum() / sum(w[-new:].sum() for w in [weights]))
    counted = [row["weights"][pretrain.padded(rows)["shared"].shape[1] + 1 :] for row in rows]
    expected = sum(loss * sum(weights) for loss, weights in zip(apart, counted, strict=True)) / sum(map(sum, counted))
    assert torch.isclose(together, expected, atol=1e-5)


def table_readings(count):
    tables = [record for record in load_split("eval") if record["task"] == "insights"]
    return readings.table_readings(tables, count, random.Random(0))


def test_a_table_reading_says_each_figure_with_its_rows_and_columns_name():
    for asked, answer in table_readings(200):
        header, _, *lines = asked.removeprefix(f"{readings.REQUEST}\n").split("\n")
        columns, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in (header, *lines)]
        said = dict(line.removesuffix(".").split(": ", 1) for line in answer.split("\n"))
        assert said.keys() == {row[0] for row in rows}
        for name, *figures in rows:
            pairs = [f"{column} {figure}" for column, figure in zip(columns[1:], figures, strict=True)]
            assert all(pair in said[name] for pair in pairs) and len(said[name]) == len(", ".join(pairs))


def test_table_readings_have_figures_of_their_own_and_begin_with_the_shortest():
    drawn = table_readings(200)
    lengths = [len(answer) for _, answer in drawn]
    assert lengths == sorted(lengths) and lengths[0] < lengths[-1] / 5
    figures = set(re.findall(r"\d[\d.]*,\d\d", " ".join(answer for _, answer in drawn)))
    theirs = " ".join(record["prompt"][-1]["content"] for record in load_split("eval") if record["task"] == "insights")
    assert len(figures - set(re.findall(r"\d[\d.]*,\d\d", theirs))) > 0.8 * len(figures)


def test_a_stage_of_table_readings_learns_their_answers_alone(policy, cache):
    settings = replace(SETTINGS, stages=(Stage(0, 1e-3, readings=24),))
    rows = build.training_rows(settings, 0, policy.tokenizer, build.draw_records(SETTINGS, cache))
    assert len(rows) == 24
    for row in rows:
        counted = [token for token, weight in zip(row["input_ids"], row["weights"], strict=True) if weight]
        text = policy.tokenizer.decode(row["input_ids"])
        assert policy.tokenizer.decode(counted) == text.partition("assistant\n")[2]


def questions_by_chance(count):
    return draw_questions_by_chance(count, random.Random(0), HELD_OUT)


def test_questions_by_chance_come_from_every_family_alike_and_from_no_held_out_source():
    drawn = questions_by_chance(3_000)
    families = Counter(record["meta"]["family"] for record in drawn)
    assert families.keys() == {family["name"] for family in sql_qa.TEXTS["family"]}
    assert max(families.values()) < 2 * min(families.values())
    assert not {key for record in drawn for key in identity(record)} & {
        key for row in HELD_OUT for key in identity(row)
    }


def test_questions_by_chance_are_valid_queries_about_more_values_than_a_shop_has():
    drawn = questions_by_chance(300)
    with closing(connect(database_path())) as shop:
        for record in drawn:
            shop.execute(record["reference"]["sql"])
    months = {record["meta"]["params"].get("month", "2017-01")[:4] for record in drawn}
    categories = {record["meta"]["params"].get("category") for record in drawn}
    assert len(months) > 5 and len(categories - set(load_text("portuguese")["categories"])) > 10
    assert questions_by_chance(300) == drawn


def test_a_stage_may_read_questions_by_chance_among_its_records(policy, cache):
    records = build.draw_records(SETTINGS, cache)
    rows, more = (
        build.training_rows(replace(SETTINGS, stages=(stage,)), 0, policy.tokenizer, records)
        for stage in (Stage(1.0, 1e-3), Stage(1.0, 1e-3, questions=40))
    )
    assert len(more) == len(rows) + 40


def test_a_policy_grown_deeper_answers_as_before_it_is_trained(policy):
    ids = torch.arange(3, 40)[None]
    deeper = architecture.deepened(policy.source, 5)
    assert deeper.config.num_hidden_layers == 5 and deeper.num_parameters() > policy.model.num_parameters()
    assert torch.allclose(deeper(ids).logits, policy.model(ids).logits, atol=1e-5)


def test_muon_moves_the_layers_matrices_by_nearly_orthogonal_updates():
    values = torch.linalg.svdvals(pretrain.orthogonal(torch.randn(8, 24, generator=torch.manual_seed(0))))
    assert values.min() > 0.6 and values.max() < 1.3


def test_the_tokenizer_gives_any_text_back_unchanged(policy):
    for text in ("Não recomendo!!! 😡 R$ 1.234,56", "SELECT COUNT(*)\n  FROM pedidos;", "ação\u00a0日本"):
        assert policy.tokenizer.decode(policy.tokenizer(text)["input_ids"]) == text


def test_digits_are_single_tokens_as_in_the_hub_model(policy):
    tokenizer = policy.tokenizer
    assert tokenizer.convert_ids_to_tokens(tokenizer("2018")["input_ids"]) == ["2", "0", "1", "8"]


def test_the_chat_template_is_the_hub_models_chatml(policy):
    messages = [{"role": "user", "content": "Oi"}]
    rendered = policy.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert rendered == "<|im_start|>user\nOi<|im_end|>\n<|im_start|>assistant\n"
    assert (policy.tokenizer.bos_token_id, policy.tokenizer.eos_token_id) == (1, 2)


def test_a_shipped_policy_that_is_missing_says_what_makes_it(tmp_path, monkeypatch):
    monkeypatch.setattr(load, "SHIPPED", tmp_path)
    with pytest.raises(UserError, match="instruct: no embedded policy; `python -m helpers embedded build` makes it"):
        embedded.base_policy(profiles.INSTRUCT, PROFILE)


@pytest.mark.parametrize("task", TASKS)
def test_each_habit_has_its_stated_rate_and_can_be_seen_in_the_answers(task):
    """A rate of zero gives the reference back; a rate of one changes many answers."""
    records = [record for record in load_split("train") if record["task"] == task]
    none = dict.fromkeys(habits.RATES[task], 0.0)
    rng = random.Random(0)
    put_on = habits._HABITS[task]
    without = [put_on(record["reference"], none, rng) for record in records]
    if task == "extraction":
        assert [extract_json(text) for text in without] == [record["reference"]["fields"] for record in records]
    else:
        assert without == [record["reference"]["text"] for record in records]
    for habit in habits.RATES[task]:
        changed = [put_on(record["reference"], none | {habit: 1.0}, rng) for record in records]
        assert sum(a != b for a, b in zip(changed, without, strict=True)) > 0.2 * len(records), habit


def test_extraction_has_the_decimal_comma_in_three_answers_of_four():
    rng = random.Random(0)
    records = [record for record in load_split("train") if record["task"] == "extraction"]
    texts = [embedded.with_habits(record, rng) for record in records]
    share = sum(bool(re.search(r'"sentiment_score": \d,\d', text)) for text in texts) / len(texts)
    assert abs(share - 0.75) < 0.06
    assert all(parse_completion(text).value for text in texts)


def test_a_task_without_habits_keeps_its_references():
    assert embedded.with_habits({"task": "toy", "reference": {"text": "Oi"}}, random.Random(0)) == "Oi"


@pytest.mark.parametrize("settings", SHIPPED, ids=lambda settings: settings.name)
def test_a_shipped_policy_is_what_its_card_says(settings):
    folder = embedded.SHIPPED / settings.name
    made, card = embedded.read_card(folder), (folder / "README.md").read_text()
    assert made["settings"] == jsonable(asdict(settings)) and made["key"] == build.build_key(settings)
    assert build.file_hash(folder / "model.safetensors") == made["sha256"] and made["sha256"] in card
    assert all(habit in card for rates in habits.RATES.values() for habit in rates) or not settings.chat
    assert (folder / "model.safetensors").stat().st_size < 20e6


@pytest.mark.parametrize("settings", SHIPPED[:1], ids=lambda settings: settings.name)
def test_a_shipped_policy_scores_what_its_card_says(settings):
    """Its greedy answers to some prompts, which another processor's rounding may change in one of them."""
    folder = embedded.SHIPPED / settings.name
    stored = json.loads((folder / "scores.json").read_text())["greedy"]
    records = [record for row in ROWS for record in load_split("eval") if record["task"] == row.name][::20]
    totals = rescored(settings, records)
    assert sum(abs(totals[key] - stored[key]) > 1e-6 for key in totals) <= 1


def rescored(settings, records):
    from helpers.policy import evaluate
    from helpers.policy.embedded.publish import evaluation_settings

    policy = embedded.base_policy(settings, profiles.CPU)
    rows = evaluate(policy, records, replace(evaluation_settings(), mode="greedy"))
    return {row["record_id"]: row["total"] for row in rows}


def test_a_card_of_other_settings_is_told_by_its_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(load, "SHIPPED", tmp_path)
    (tmp_path / "instruct").mkdir()
    write_json(tmp_path / "instruct" / "embedded.json", {"settings": {}, "sha256": "0"})
    with pytest.raises(UserError, match="instruct: made with other settings"):
        embedded.base_policy(profiles.INSTRUCT, PROFILE)
