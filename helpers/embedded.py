"""The embedded policy: a tiny Qwen3-architecture model made here, so that the series runs with no hub and no GPU.

Tokenizer and weights are trained on our train split alone. Same chat template, special tokens and architecture as the
hub model, three orders of magnitude smaller; what it can and cannot do is measured, never assumed.
"""

import hashlib
import json
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers import models
from helpers.files import PROJECT_ROOT, write_json
from helpers.models import Policy
from helpers.profiles import EmbeddedSettings, Profile
from helpers.progress import Progress
from helpers.records import PAIRS_DIR, load_records

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

SEED = 20260427
"""The embedded policy's own seed, apart from a run's: every run and every seed starts from the same base policy."""

REPEATS = {"extraction": 1, "sql_qa": 1, "insights": 1, "push": 4}
"""How often policy and tokenizer are shown each record: push is 10 % of the records and the shortest of the answers."""

CACHE = PROJECT_ROOT / "runs" / "embedded"

PAD, START, END = "<|pad|>", "<|im_start|>", "<|im_end|>"

# ChatML as the hub model's instruct template writes it: no default system prompt, no thinking block.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def base_policy(profile: Profile, pairs: Path = PAIRS_DIR, cache: Path = CACHE) -> Policy:
    """The profile's embedded base policy: loaded where `cache` has the one of this train split, else trained.

    Raises `UserError` where the pairs are missing or malformed.
    """
    if profile.embedded is None:
        raise ValueError(f"profile {profile.name} has no embedded policy")
    records = repeated(load_records(pairs / "train.jsonl"))
    folder = cache / cache_key(profile.embedded, pairs / "train.jsonl")
    if not (folder / "embedded.json").is_file():
        _train_into(folder, profile, records)
    return models.load(str(folder), profile, name=f"embedded-{profile.name}")


def cache_key(settings: EmbeddedSettings, train: Path) -> str:
    """A short name for everything that decides the embedded policy: the train split's bytes, the settings, the seed."""
    identity = json.dumps([asdict(settings), SEED, CHAT_TEMPLATE, REPEATS])
    return hashlib.sha256(train.read_bytes() + identity.encode()).hexdigest()[:12]


def repeated(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records, those of push repeated (`REPEATS`).

    >>> len(repeated([{"task": "push"}, {"task": "sql_qa"}]))
    5
    """
    return [record for record in records for _ in range(REPEATS[record["task"]])]


def train_tokenizer(records: list[dict[str, Any]], vocabulary: int) -> "PreTrainedTokenizerFast":
    """A byte-level BPE of `vocabulary` tokens over prompts and references, digits split singly as the hub model's."""
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
    bpe.train_from_iterator((text for record in records for text in _texts(record)), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token=PAD, bos_token=START, eos_token=END, padding_side="left"
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def new_model(settings: EmbeddedSettings, tokenizer: "PreTrainedTokenizerFast") -> "PreTrainedModel":
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


def _texts(record: dict[str, Any]) -> list[str]:
    return [message["content"] for message in record["prompt"]] + [record["reference"]["text"]]


def _train_into(folder: Path, profile: Profile, records: list[dict[str, Any]]) -> None:
    """Train tokenizer and model beside `folder`, then move them there: a killed training leaves no half policy."""
    from transformers import set_seed

    assert profile.embedded is not None
    started = time.monotonic()
    models.prepare(profile)
    set_seed(SEED)
    tokenizer = train_tokenizer(records, profile.embedded.vocabulary)
    model = new_model(profile.embedded, tokenizer)
    building = folder.with_name(f"{folder.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    loss = _fine_tune(model, tokenizer, records, profile.embedded, building)
    model.save_pretrained(building)
    tokenizer.save_pretrained(building)
    facts = {
        "settings": asdict(profile.embedded),
        "parameters": model.num_parameters(),
        "seed": SEED,
        "final_loss": round(loss, 4),
        "seconds": round(time.monotonic() - started, 1),
    }
    write_json(building / "embedded.json", facts)
    shutil.rmtree(folder, ignore_errors=True)
    building.rename(folder)


def _fine_tune(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerFast",
    records: list[dict[str, Any]],
    settings: EmbeddedSettings,
    folder: Path,
) -> float:
    """Supervised training on the references, loss on assistant tokens only; returns the last logged loss."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    answers = [[{"role": "assistant", "content": record["reference"]["text"]}] for record in records]
    rows = [{"prompt": r["prompt"], "completion": answer} for r, answer in zip(records, answers, strict=True)]
    arguments = SFTConfig(
        output_dir=str(folder),
        num_train_epochs=settings.sft_epochs,
        per_device_train_batch_size=settings.sft_batch,
        learning_rate=settings.sft_learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=0.05,
        weight_decay=0.01,
        max_length=settings.max_length,
        completion_only_loss=True,
        packing=False,
        train_sampling_strategy="group_by_length",
        bf16=False,
        gradient_checkpointing=False,
        use_cpu=True,
        logging_steps=10,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=SEED,
        data_seed=SEED,
    )
    trainer = SFTTrainer(
        model=model, args=arguments, train_dataset=Dataset.from_list(rows), processing_class=tokenizer, callbacks=[]
    )
    return _train_with_progress(trainer)


def _train_with_progress(trainer: Any) -> float:
    from transformers import PrinterCallback, TrainerCallback

    class ShowProgress(TrainerCallback):
        """The one line a reader watches while the policy is made."""

        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.line = Progress("embedded policy, SFT", state.max_steps)
            self.loss = float("nan")

        def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.loss = kwargs["logs"].get("loss", self.loss)
            self.line.update(state.global_step, f"loss {self.loss:.2f}")

        def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.line.close(f"loss {self.loss:.2f} after {state.global_step} steps")

    show = ShowProgress()
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(show)
    trainer.train()
    return show.loss
