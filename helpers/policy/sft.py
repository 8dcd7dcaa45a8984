"""Supervised fine-tuning: a policy learns from reference answers, with loss on the assistant's tokens only.

It is the warm-up that a recipe may ask for before GRPO.
"""

import html
from pathlib import Path
from typing import Any

from helpers.core.errors import UserError
from helpers.core.progress import Progress
from helpers.policy import backends
from helpers.recipes.profiles import Profile

Row = dict[str, Any]


def chat_rows(records: list[dict[str, Any]]) -> list[Row]:
    """Records as prompt and completion: TRL then takes the loss from the completion's tokens alone."""
    return [
        {"prompt": record["prompt"], "completion": [{"role": "assistant", "content": record["reference"]["text"]}]}
        for record in records
    ]


def fine_tune(
    model: Any, tokenizer: Any, rows: list[Row], arguments: dict[str, Any], title: str
) -> tuple[Any, list[dict[str, float]]]:
    """Train on `rows` (`chat_rows`); return the model and its logged losses.

    `arguments` come from `sft_arguments`. Where `model` carries LoRA, that alone is trained. Nothing is saved.
    """
    from datasets import Dataset
    from transformers import PrinterCallback, set_seed
    from trl import SFTConfig, SFTTrainer

    set_seed(arguments["seed"])
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(**arguments, completion_only_loss=True),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(show_progress(title))
    trainer.train()
    losses = [{"step": row["step"], "loss": row["loss"]} for row in trainer.state.log_history if "loss" in row]
    return trainer.model, losses


def sft_arguments(
    folder: Path, epochs: float, batch: int, learning_rate: float, max_length: int, seed: int, profile: Profile
) -> dict[str, Any]:
    """Every argument given to TRL's `SFTConfig`, including those whose defaults Unsloth changes."""
    return backends.device_arguments(profile) | {
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
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "seed": seed,
        "data_seed": seed,
    }


def masked_and_counted(tokenizer: Any, record: dict[str, Any]) -> tuple[list[int], list[int]]:
    """A record's tokens as SFT sees them: those the loss ignores (the prompt), then those it counts (answer and end).

    Raises `UserError` where the template does not render the prompt as the start of the conversation: the mask would
    cut at the wrong place.
    """
    answer = {"role": "assistant", "content": record["reference"]["text"]}
    prompt = tokenizer.apply_chat_template(record["prompt"], tokenize=False, add_generation_prompt=True)
    whole = tokenizer.apply_chat_template([*record["prompt"], answer], tokenize=False)
    if not whole.startswith(prompt):
        raise UserError("the chat template does not render a prompt as the start of its conversation; check it")
    masked = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    counted = tokenizer(whole[len(prompt) :], add_special_tokens=False)["input_ids"]
    return masked, counted


def masked_html(tokenizer: Any, record: dict[str, Any]) -> str:
    """The rendered conversation as HTML, with the tokens the loss ignores in grey."""
    masked, counted = (html.escape(tokenizer.decode(ids)) for ids in masked_and_counted(tokenizer, record))
    return (
        '<pre style="white-space:pre-wrap">'
        f'<span style="color:#8a8a8a">{masked}</span>'
        f'<span style="color:#000;background:#fff3c4">{counted}</span></pre>'
    )


def show_progress(title: str) -> Any:
    """The callback that shows one line while a transformers `Trainer` trains: step, loss, time left."""
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
