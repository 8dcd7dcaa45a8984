"""The embedded policy is made from the train split alone, once, and speaks the hub model's chat format."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from filelock import FileLock

from helpers.core.errors import UserError
from helpers.policy import embedded
from helpers.recipes import profiles
from helpers.tasks.records import PAIRS_DIR, load_split

PROFILE = profiles.get("smallest")
PAIRS = PAIRS_DIR / "train.jsonl"


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    embedded.base_policy(PROFILE, cache=folder)
    return folder


def test_a_second_call_loads_what_the_first_one_trained(cache):
    (weights,) = cache.glob("*/model.safetensors")
    before = weights.stat().st_mtime_ns
    policy = embedded.base_policy(PROFILE, cache=cache)
    assert weights.stat().st_mtime_ns == before
    assert policy.model.config.model_type == "qwen3"


def test_other_pairs_or_other_settings_make_another_policy(tmp_path):
    other_pairs = tmp_path / "train.jsonl"
    other_pairs.write_bytes(PAIRS.read_bytes()[:-1])
    other_settings = replace(PROFILE.embedded, layers=3)
    keys = {
        embedded.cache_key(PROFILE.embedded, PAIRS),
        embedded.cache_key(PROFILE.embedded, other_pairs),
        embedded.cache_key(other_settings, PAIRS),
    }
    assert len(keys) == 3


def test_a_training_that_was_killed_leaves_nothing_that_loads(cache, tmp_path):
    key = embedded.cache_key(PROFILE.embedded, PAIRS)
    (tmp_path / f"{key}.building").mkdir()
    (tmp_path / f"{key}.building" / "config.json").write_text("{}")
    policy = embedded.base_policy(PROFILE, cache=tmp_path)
    assert policy.model.num_parameters() > 0
    assert not list(tmp_path.glob("*.building"))


def test_who_needs_a_policy_that_is_being_made_waits_and_loads_it(cache, tmp_path):
    (made,) = cache.glob("*/embedded.json")
    folder = tmp_path / made.parent.name
    with ThreadPoolExecutor() as pool:
        with FileLock(tmp_path / f"{folder.name}.lock"):
            waiting = pool.submit(embedded.base_policy, PROFILE, cache=tmp_path)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.5)
            shutil.copytree(made.parent, folder)
            weights = (folder / "model.safetensors").stat().st_mtime_ns
        assert waiting.result().source == str(folder)
    assert (folder / "model.safetensors").stat().st_mtime_ns == weights


def test_the_tokenizer_gives_any_text_back_unchanged(cache):
    tokenizer = embedded.base_policy(PROFILE, cache=cache).tokenizer
    for text in ("Não recomendo!!! 😡 R$ 1.234,56", "SELECT COUNT(*)\n  FROM pedidos;", "ação\u00a0日本"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_digits_are_single_tokens_as_in_the_hub_model(cache):
    tokenizer = embedded.base_policy(PROFILE, cache=cache).tokenizer
    assert tokenizer.convert_ids_to_tokens(tokenizer("2018")["input_ids"]) == ["2", "0", "1", "8"]


def test_the_chat_template_is_the_hub_models_chatml(cache):
    tokenizer = embedded.base_policy(PROFILE, cache=cache).tokenizer
    messages = [{"role": "user", "content": "Oi"}]
    rendered = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert rendered == "<|im_start|>user\nOi<|im_end|>\n<|im_start|>assistant\n"
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (1, 2)


def test_the_tokenizer_is_trained_on_the_train_split_alone(cache):
    of_policy = embedded.base_policy(PROFILE, cache=cache).tokenizer.get_vocab()
    records = embedded.repeated(load_split("train"))
    assert of_policy == embedded.train_tokenizer(records, PROFILE.embedded.vocabulary).get_vocab()
    assert of_policy != embedded.train_tokenizer(load_split("eval"), PROFILE.embedded.vocabulary).get_vocab()


def test_missing_pairs_are_told_by_file(tmp_path):
    with pytest.raises(UserError, match=r"train\.jsonl: no such file"):
        embedded.base_policy(PROFILE, pairs=tmp_path, cache=tmp_path)
