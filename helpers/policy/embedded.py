"""The embedded policy: a tiny Qwen3-architecture model made here, so that the series runs with no hub and no GPU.

Tokenizer and weights are trained on the train split alone. Chat template, special tokens and architecture are the hub
model's, at a thousandth of its size.
"""

import hashlib
import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from helpers.core import processes
from helpers.core.errors import UserError
from helpers.core.files import PROJECT_ROOT, write_json
from helpers.policy import sft
from helpers.policy.model import Policy, load, prepare
from helpers.recipes import HUB_05B_BASE, HUB_37B
from helpers.recipes.profiles import EmbeddedSettings, Profile
from helpers.tasks import JSON_TASK, ROWS
from helpers.tasks.records import PAIRS_DIR, load_records

SEED = 20260427
"""The embedded policy's own seed: runs of every seed start from the same base policy."""

REPEATS = {row.name: row.embedded_repeats for row in ROWS}
"""How often policy and tokenizer are shown each record."""

CACHE = PROJECT_ROOT / "runs" / "embedded"

PAD, START, END = "<|pad|>", "<|im_start|>", "<|im_end|>"

# ChatML as the hub model's instruct template writes it: no default system prompt, no thinking block.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def stand_in(model_id: str, profile: Profile) -> EmbeddedSettings | None:
    """The embedded policy that stands for a hub model on this profile; None where the profile loads the hub's own."""
    if profile.embedded is None:
        return None
    if model_id == HUB_37B:
        return profile.embedded_large
    if model_id != HUB_05B_BASE:
        return profile.embedded
    # The base model's has read the same shop's texts without the chat format.
    epochs = profile.base_model.text_epochs if profile.base_model else profile.embedded.sft_epochs
    return replace(profile.embedded, chat=False, sft_epochs=epochs)


def base_policy(
    profile: Profile, pairs: Path = PAIRS_DIR, cache: Path = CACHE, settings: EmbeddedSettings | None = None
) -> Policy:
    """An embedded base policy (default: the profile's), loaded from `cache`, or trained there once for these pairs."""
    settings = settings or profile.embedded
    assert settings, f"profile {profile.name} has no embedded policy"
    records = load_records(pairs / "train.jsonl")
    folder = cache / cache_key(settings, pairs / "train.jsonl")
    if not (folder / "embedded.json").is_file():
        if processes.count() > 1:
            raise UserError(
                "the embedded policy is not made yet: run `python -m helpers evaluate` once, in one process"
            )
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f"{folder.name}.lock")):  # another process may be making it: wait for that one
            if not (folder / "embedded.json").is_file():
                _train(folder, profile, settings, records)
    suffix = "" if settings == profile.embedded else "-large"
    return load(str(folder), profile, name=f"embedded-{profile.name}{suffix if settings.chat else '-base'}")


def cache_key(settings: EmbeddedSettings, train: Path) -> str:
    """A hash of everything that decides the embedded policy: the train split's bytes, the settings, the seed."""
    # `chat` was added later; left out where it is True, so that older records still find their policy.
    decisive = {key: value for key, value in asdict(settings).items() if (key, value) != ("chat", True)}
    identity = json.dumps([decisive, SEED, CHAT_TEMPLATE, REPEATS])
    return hashlib.sha256(train.read_bytes() + identity.encode()).hexdigest()[:12]


def raw_texts(records: list[dict[str, Any]]) -> list[str]:
    """The texts a base model reads: questions with their answers, without roles; reviews and their objects apart.

    >>> record = {"task": "push", "prompt": [{"role": "user", "content": "Crie"}], "reference": {"text": "Oi"}}
    >>> raw_texts([record, record | {"task": "extraction"}])
    ['<|im_start|>Crie\\n\\nOi', '<|im_start|>Crie', '<|im_start|>Oi']
    """
    texts = []
    for record in records:
        question, answer = record["prompt"][-1]["content"], record["reference"]["text"]
        texts += [question, answer] if record["task"] == JSON_TASK else [f"{question}\n\n{answer}"]
    return [START + text for text in texts]


def repeated(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records, those of push repeated (`REPEATS`).

    >>> len(repeated([{"task": "push"}, {"task": "sql_qa"}]))
    5
    """
    return [record for record in records for _ in range(REPEATS[record["task"]])]


def train_tokenizer(records: list[dict[str, Any]], vocabulary: int) -> Any:
    """A byte-level BPE of `vocabulary` tokens over prompts and references; digits are single tokens, as the hub's."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = []
    for record in records:
        texts += [message["content"] for message in record["prompt"]] + [record["reference"]["text"]]
    bpe.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token=PAD, bos_token=START, eos_token=END, padding_side="left"
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def new_model(settings: EmbeddedSettings, tokenizer: Any) -> Any:
    """A randomly initialised Qwen3 of the given size with tied embeddings."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=settings.hidden_size,
            num_hidden_layers=settings.layers,
            num_attention_heads=settings.heads,
            num_key_value_heads=settings.kv_heads,
            head_dim=settings.head_size,
            intermediate_size=settings.ffn_size,
            max_position_embeddings=4096,
            tie_word_embeddings=True,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


def _train(folder: Path, profile: Profile, settings: EmbeddedSettings, records: list[dict[str, Any]]) -> None:
    """Train tokenizer and model beside `folder`, then move them there: a killed training leaves no half policy."""
    from transformers import set_seed

    prepare(profile)
    set_seed(SEED)
    repeats = repeated(records)
    tokenizer = train_tokenizer(repeats, settings.vocabulary)
    building = folder.with_name(f"{folder.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    rows = sft.chat_rows(repeats) if settings.chat else [{"text": text} for text in raw_texts(repeats)]
    arguments = sft.sft_arguments(
        building,
        epochs=settings.sft_epochs,
        batch=settings.sft_batch,
        learning_rate=settings.sft_learning_rate,
        max_length=settings.max_length,
        seed=SEED,
        on_gpu=False,
    )
    title = "embedded policy, SFT" if settings.chat else "embedded base model, plain text"
    model, _ = sft.fine_tune(new_model(settings, tokenizer), tokenizer, rows, arguments, title)
    model.save_pretrained(building)
    tokenizer.save_pretrained(building)
    write_json(building / "embedded.json", {"settings": asdict(settings), "seed": SEED})
    shutil.rmtree(folder, ignore_errors=True)
    building.rename(folder)
