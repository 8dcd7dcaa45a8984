"""Build an embedded policy: draw another shop's pairs, train tokenizer and weights, publish them in 16 bits.

Everything but the finished policy stays in a working folder, so that a build that was killed goes on where it was.
"""

import functools
import hashlib
import json
import random
import shutil
import tempfile
from dataclasses import asdict
from math import ceil
from operator import itemgetter
from pathlib import Path
from typing import Any

from filelock import FileLock

from helpers.core.errors import UserError
from helpers.core.files import PROJECT_ROOT, read_jsonl, shown, write_json, write_jsonl
from helpers.core.progress import say
from helpers.policy.embedded.architecture import END, START, deepened, new_model, train_tokenizer
from helpers.policy.embedded.habits import RATES, with_habits
from helpers.policy.embedded.readings import table_readings
from helpers.policy.model import load_tokenizer
from helpers.recipes.profiles import EmbeddedSettings
from helpers.tasks import JSON_TASK, ROWS, TASKS
from helpers.tasks.pairs.build import draw_embedded_pairs, draw_questions_by_chance
from helpers.tasks.records import Rows, load_split
from helpers.tasks.shop.database import build_db
from helpers.tasks.shop.simulate import simulate

SEED = 20260428
"""The embedded policies' own seed, of their shop, habits and weights: runs of every seed start from the same policy."""

CACHE = PROJECT_ROOT / "runs" / "embedded"
"""Where policies are built, and where those that do not ship are kept."""

SHIPPED = PROJECT_ROOT / "data" / "policies"

WEIGHTS = "model.safetensors"
CARD = "embedded.json"
"""The file of an embedded policy that says what it was made of; written last."""

STAGE = "stage.json"
"""The file that says what a stage of a build read and learned; written last, and left out of the finished policy."""


def make(settings: EmbeddedSettings, folder: Path, cache: Path = CACHE) -> None:
    """Make the policy that `settings` describe in `folder`; goes on with what an earlier build left in `cache`.

    Raises `UserError` where the policy that it starts from is not there.
    """
    records = draw_records(settings, cache)
    work = cache / f"{settings.name}-{build_key(settings)}.building"
    folders = [work / f"stage-{stage}" for stage in range(len(settings.stages))]
    for stage, trained in enumerate(folders):
        if not (trained / STAGE).is_file():
            _train_stage(settings, stage, records, work)
    finished = folders[-1]
    stages = [json.loads((trained / STAGE).read_text(encoding="utf-8")) for trained in folders]
    made = {
        "key": build_key(settings),
        "settings": asdict(settings),
        "seed": SEED,
        "records": {row.name: sum(record["task"] == row.name for record in records) for row in ROWS},
        "stages": stages,
        "sha256": file_hash(finished / WEIGHTS),
    }
    write_json(finished / CARD, made | {key: stages[-1].pop(key) for key in ("parameters", "vocabulary")})
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(finished, folder)
    (folder / STAGE).unlink()
    shutil.rmtree(work)


def _train_stage(settings: EmbeddedSettings, stage: int, records: Rows, work: Path) -> None:
    """Train one stage, and write its policy, in 16 bits as it would ship, to `work`/stage-<stage>."""
    from helpers.policy.embedded.pretrain import pretrain  # loads transformers, which Unsloth has to come before

    before = work / f"stage-{stage - 1}" if stage else SHIPPED / settings.starts_from if settings.starts_from else None
    if before and not (stage or (before / CARD).is_file()):
        raise UserError(f"{shown(before)}: {settings.name} starts from it; build that one first")
    tokenizer = load_tokenizer(str(before)) if before else train_tokenizer(all_texts(records), settings.vocabulary)
    rows = training_rows(settings, stage, tokenizer, records)
    checkpoints = work / f"checkpoints-{stage}"
    model, losses = pretrain(
        lambda: deepened(before, settings.layers) if before else new_model(settings, tokenizer),
        rows,
        arguments(settings, stage, checkpoints),
        f"{settings.name}, stage {stage + 1} of {len(settings.stages)}",
    )
    folder = work / f"stage-{stage}"
    model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    facts = {
        "parameters": model.num_parameters(),
        "vocabulary": len(tokenizer),
        "steps": len(rows) // settings.batch,
        "tokens": sum(len(row["input_ids"]) for row in rows),
        "losses": losses[::5],
    }
    write_json(folder / STAGE, facts)
    shutil.rmtree(checkpoints, ignore_errors=True)


def build_key(settings: EmbeddedSettings) -> str:
    """A hash of what decides an embedded policy: settings, seed, habits, and what it may not have read."""
    return _hash([asdict(settings), SEED, {task: dict(rates) for task, rates in RATES.items()}, _prompts_held_out()])


def draw_records(settings: EmbeddedSettings, cache: Path) -> Rows:
    """The fifth set: records of every task from another simulated shop, drawn once and kept in `cache`."""
    drawn = cache / f"pairs-{_hash([settings.orders, settings.records, SEED, _prompts_held_out()])}"
    drawn.mkdir(parents=True, exist_ok=True)
    with FileLock(drawn / "lock"), tempfile.TemporaryDirectory() as temporary:
        shop = Path(temporary) / "shop.db"
        # Looked for under the lock: another process may just have drawn them.
        for row in [row for row in ROWS if not (drawn / f"{row.name}.jsonl").is_file()]:
            if not shop.exists():
                say(f"simulating another shop of {settings.orders:,} orders")
                build_db(simulate(settings.orders, SEED), shop)
            count = min(settings.records, row.embedded_records)
            rows = draw_embedded_pairs(shop, row.name, count, SEED, _held_out())
            write_jsonl(drawn / f"{row.name}.jsonl", rows)
            say(f"{row.name}: {len(rows):,} records drawn")
    return [record for row in ROWS for _, record in read_jsonl(drawn / f"{row.name}.jsonl")]


def training_rows(settings: EmbeddedSettings, stage: int, tokenizer: Any, records: Rows) -> Rows:
    """What the policy reads in a stage, as token ids with weights, batch after batch, batches in random order.

    A batch is of one task and of like length; each epoch puts other habits on the answers. Table readings go
    from short to long: after a million tokens of any length, figures were still not copied.
    """
    rng = random.Random(f"{SEED + stage} {settings.name}")
    epochs, _, readings, questions = settings.stages[stage]
    if readings:
        return _reading_rows(tokenizer, _of_task(records, "insights"), readings, rng)
    batches: list[Rows] = []
    for epoch in range(ceil(epochs)):
        share = min(1.0, epochs - epoch)
        for task in TASKS:
            batches += _batches(settings, tokenizer, _of_task(records, task), share, rng)
    if questions:
        batches += _batches(settings, tokenizer, draw_questions_by_chance(questions, rng, _held_out()), 1.0, rng)
    rng.shuffle(batches)
    return [row for batch in batches for row in batch]


def _of_task(records: Rows, task: str) -> Rows:
    """The records of one task, in their order."""
    return [record for record in records if record["task"] == task]


def _batches(settings: EmbeddedSettings, tokenizer: Any, records: Rows, share: float, rng: random.Random) -> list[Rows]:
    """A share of one task's records in whole batches of like length."""
    from helpers.policy.embedded.pretrain import token_row

    texts = _texts(settings, tokenizer, records, rng)
    rows = [token_row(tokenizer, *text) for text in rng.sample(texts, round(share * len(texts)))]
    rows = sorted((row for row in rows if row["length"] <= settings.max_length), key=itemgetter("length"))
    whole = len(rows) // settings.batch * settings.batch
    return [rows[start : start + settings.batch] for start in range(0, whole, settings.batch)]


def _reading_rows(tokenizer: Any, records: Rows, count: int, rng: random.Random) -> Rows:
    """Readings of the records' tables; no prompt's token counts, since its figures are drawn by chance."""
    from helpers.policy.embedded.pretrain import token_row

    rows = []
    for text, answer in table_readings(records, count, rng):
        prompt = _rendered(tokenizer, [{"role": "user", "content": text}])
        rows.append(token_row(tokenizer, prompt, answer + END, prompt_weight=0.0))
    return rows


def _texts(settings: EmbeddedSettings, tokenizer: Any, records: Rows, rng: random.Random) -> list[tuple[str, str]]:
    """Every record once, as prompt and answer; the plain texts of a base model have no prompt."""
    if not settings.chat:
        return [("", START + text + END) for text in plain_texts(records)]
    prompts = [_rendered(tokenizer, record["prompt"]) for record in records]
    return [(prompt, with_habits(record, rng) + END) for prompt, record in zip(prompts, records, strict=True)]


def _rendered(tokenizer: Any, messages: list[dict[str, str]]) -> str:
    """A conversation as the policy reads it, up to where its answer begins."""
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


def plain_texts(records: Rows) -> list[str]:
    """The texts a base model reads: questions with their answers, without roles; reviews and their objects apart.

    >>> record = {"task": "push", "prompt": [{"role": "user", "content": "Crie"}], "reference": {"text": "Oi"}}
    >>> plain_texts([record, record | {"task": "extraction"}])
    ['Crie\\n\\nOi', 'Crie', 'Oi']
    """
    texts = []
    for record in records:
        question, answer = record["prompt"][-1]["content"], record["reference"]["text"]
        texts += [question, answer] if record["task"] == JSON_TASK else [f"{question}\n\n{answer}"]
    return texts


def all_texts(records: Rows) -> list[str]:
    """Users' texts and answers of all records, with and without habits, and each system prompt once."""
    rng = random.Random(SEED)
    texts = [row.system_prompt for row in ROWS]
    for record in records:
        texts += [record["prompt"][-1]["content"], record["reference"]["text"], with_habits(record, rng)]
    return texts


def arguments(settings: EmbeddedSettings, stage: int, folder: Path) -> dict[str, Any]:
    """What transformers' `TrainingArguments` gets."""
    return {
        "output_dir": str(folder),
        "num_train_epochs": 1,
        "per_device_train_batch_size": settings.batch,
        "learning_rate": settings.stages[stage][1],
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.03,
        "max_grad_norm": 1.0,
        "train_sampling_strategy": "sequential",
        "remove_unused_columns": False,
        "logging_first_step": True,
        "logging_steps": 10,
        "save_steps": 100,
        "save_total_limit": 2,
        "use_cpu": True,
        "report_to": [],
        "disable_tqdm": True,
        "seed": SEED + stage,
        "data_seed": SEED + stage,
    }


def file_hash(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:12]


def _prompts_held_out() -> list[Any]:
    return [record["prompt"] for record in _held_out()]


@functools.cache  # a policy that is made where it is needed asks for its key each time it is loaded
def _held_out() -> Rows:
    return load_split("eval") + load_split("test")
