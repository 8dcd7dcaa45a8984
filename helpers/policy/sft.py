"""Supervised fine-tuning: a policy learns from reference answers, with loss on the assistant's tokens only.

Used twice: to make the embedded policies, and as the warm-up that a recipe may ask for before GRPO.
"""

import html
from pathlib import Path
from typing import Any

from helpers.core.errors import UserError
from helpers.core.progress import Progress

Row = dict[str, Any]


def chat_rows(records: list[dict[str, Any]]) -> list[Row]:
    """Records as prompt and completion: TRL then takes the loss from the completion's tokens alone."""
    return [
        {"prompt": record["prompt"], "completion": [{"role": "assistant", "content": record["reference"]["text"]}]}
        for record in records
    ]


def fine_tune(
    model: Any,
    tokenizer: Any,
    rows: list[Row],
    folder: Path,
    *,
    epochs: float,
    batch: int,
    learning_rate: float,
    max_length: int,
    seed: int,
    title: str,
    on_gpu: bool = False,
) -> tuple[Any, list[dict[str, float]]]:
    """Train on `rows` (`chat_rows`, or `{"text": ...}` for plain text); the trained model and its logged losses.

    Where `model` carries LoRA, that alone is trained. Nothing is saved; `folder` is where TRL may write.
    """
    from datasets import Dataset
    from transformers import PrinterCallback, set_seed
    from trl import SFTTrainer

    set_seed(seed)
    arguments = sft_arguments(folder, epochs, batch, learning_rate, max_length, seed, on_gpu)
    arguments["completion_only_loss"] = "completion" in rows[0]
    trainer = SFTTrainer(
        model=model,
        args=_config(arguments),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(_progress(title))
    trainer.train()
    losses = [{"step": row["step"], "loss": row["loss"]} for row in trainer.state.log_history if "loss" in row]
    return trainer.model, losses


def sft_arguments(
    folder: Path, epochs: float, batch: int, learning_rate: float, max_length: int, seed: int, on_gpu: bool
) -> dict[str, Any]:
    """Every argument we give TRL's `SFTConfig`; those that Unsloth would change are written out."""
    return {
        "output_dir": str(folder),
        "num_train_epochs": epochs,
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": 1,
        "learning_rate": learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.05,
        "weight_decay": 0.01,
        "optim": "adamw_torch_fused",
        "max_length": max_length,
        "packing": False,
        "train_sampling_strategy": "group_by_length",
        "bf16": on_gpu,
        "gradient_checkpointing": on_gpu,
        "use_cpu": not on_gpu,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "seed": seed,
        "data_seed": seed,
    }


def masked_and_counted(tokenizer: Any, record: dict[str, Any]) -> tuple[list[int], list[int]]:
    """A record's tokens as SFT sees them: those the loss ignores (the prompt), then those it counts (answer and end).

    Raises `UserError` where the template does not render the prompt as the start of the whole conversation: the mask
    would then cut at the wrong place.
    """
    answer = {"role": "assistant", "content": record["reference"]["text"]}
    prompt = tokenizer.apply_chat_template(record["prompt"], tokenize=False, add_generation_prompt=True)
    whole = tokenizer.apply_chat_template([*record["prompt"], answer], tokenize=False)
    if not whole.startswith(prompt):
        raise UserError("the chat template does not render a prompt as the start of its conversation; check it")
    masked, counted = (
        tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prompt, whole[len(prompt) :])
    )
    return masked, counted


def masked_html(tokenizer: Any, record: dict[str, Any]) -> str:
    """The rendered conversation, what the loss does not see in grey."""
    styles = ("color:#8a8a8a", "color:#000;background:#fff3c4")
    spans = [
        f'<span style="{style}">{html.escape(tokenizer.decode(ids))}</span>'
        for style, ids in zip(styles, masked_and_counted(tokenizer, record), strict=True)
    ]
    return f'<pre style="white-space:pre-wrap">{"".join(spans)}</pre>'


def _config(arguments: dict[str, Any]) -> Any:
    from trl import SFTConfig

    return SFTConfig(**arguments)


def _progress(title: str) -> Any:
    from transformers import TrainerCallback

    class ShowProgress(TrainerCallback):
        """The one line a reader watches meanwhile."""

        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            """Open the line."""
            self.line = Progress(title, state.max_steps)
            self.loss = float("nan")

        def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            """Show the step and its loss; TRL's closing summary has none and leaves the last one."""
            self.loss = kwargs["logs"].get("loss", self.loss)
            self.line.update(state.global_step, f"loss {self.loss:.2f}")

        def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            """Close the line."""
            self.line.close(f"loss {self.loss:.2f} after {state.global_step} steps")

    return ShowProgress()
