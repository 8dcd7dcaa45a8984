"""What an embedded policy is made of: the hub model's architecture, chat template and special tokens, in small."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from helpers.recipes.profiles import EmbeddedSettings

PAD, START, END = "<|pad|>", "<|im_start|>", "<|im_end|>"

# ChatML as the hub model's instruct template writes it: no default system prompt, no thinking block.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> Any:
    """A byte-level BPE of at most `vocabulary` tokens over `texts`; digits are single tokens, as the hub's."""
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


def deepened(folder: Path, layers: int) -> Any:
    """The model in `folder`, in 32 bits, with so many layers: new ones stand between the old and change nothing yet."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    model = Qwen3ForCausalLM.from_pretrained(folder, dtype=torch.float32)
    old = model.config.num_hidden_layers
    if layers == old:
        return model
    config = model.config.to_dict() | {"num_hidden_layers": layers, "layer_types": None}
    deep = Qwen3ForCausalLM(Qwen3Config(**config))
    deep.model.embed_tokens, deep.model.norm = model.model.embed_tokens, model.model.norm
    deep.tie_weights()
    for layer in deep.model.layers:
        # A layer adds what these two give to what passes through it.
        torch.nn.init.zeros_(layer.self_attn.o_proj.weight)
        torch.nn.init.zeros_(layer.mlp.down_proj.weight)
    for place, layer in enumerate(model.model.layers):
        deep.model.layers[place * layers // old].load_state_dict(layer.state_dict())
    return deep
