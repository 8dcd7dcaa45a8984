"""The memory plan against numbers worked out by hand, and against the live tensors of a real block."""

import io
import weakref
from dataclasses import replace
from typing import Any

import pytest
from matplotlib.figure import Figure

from helpers import recipes
from helpers.core.errors import UserError
from helpers.plots import plan_bars
from helpers.plots.style import WIDTH
from helpers.recipes import memory, profiles
from helpers.recipes.memory import GENERATION, GIB, TRAINING
from helpers.recipes.profiles import Profile

SMALL, LARGE = memory.SHAPES[recipes.HUB_05B], memory.SHAPES[recipes.HUB_37B]
V41, V42A = recipes.get("v4.1"), recipes.get("v4.2a")
L4 = profiles.get("l4")
PLAIN = replace(L4, backend="transformers", vllm_memory_share=0.0)
CARDS = [profile for profile in profiles.PROFILES.values() if profile.memory_gib]
each_card = pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)


def gib(plan: memory.MemoryPlan, consumer: str) -> float:
    (row,) = [row for row in plan.rows if row.consumer == consumer]
    return row.gib


def card(memory_gib: float, **values: Any) -> Profile:
    """A card of any size, as the L4's profile would use it."""
    return replace(L4, name="card", memory_gib=memory_gib, **values)


# Worked out by hand: a block of the 0.5B has 2 x 1,024 x 2,048 (q, o) + 2 x 1,024 x 1,024 (k, v) + 3 x 1,024 x 3,072
# (feed-forward) = 15,728,640 weights and 2 x 1,024 + 2 x 128 norms; there are 28, one more norm of 1,024, and the tied
# embedding of 49,152 x 1,024.


@pytest.mark.parametrize(
    ("model", "parameters"),
    [(recipes.HUB_05B, 490_799_104), (recipes.HUB_05B_BASE, 490_799_104), (recipes.HUB_37B, 3_759_341_056)],
)
def test_a_hub_model_has_exactly_the_parameters_of_its_card(model: str, parameters: int) -> None:
    assert memory.SHAPES[model].parameters() == parameters


def test_an_untied_head_counts_a_second_time() -> None:
    assert replace(SMALL, tied=False).parameters() == 490_799_104 + 49_152 * 1_024


def test_a_shape_counts_what_transformers_builds() -> None:
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        num_hidden_layers=3,
        hidden_size=64,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        intermediate_size=96,
        vocab_size=512,
        tie_word_embeddings=False,
    )
    with torch.device("meta"):
        model = Qwen3ForCausalLM(config)
    assert memory.shape_of_config(config).parameters() == model.num_parameters()


def test_an_unknown_model_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"Tucano2-qwen-3\.7B"):
        memory.shape_of(replace(V41, model_id="someone/else"))


def test_every_recipes_model_has_a_shape() -> None:
    assert {memory.shape_of(recipe) for recipe in recipes.RECIPES.values()} == {SMALL, LARGE}


def test_a_token_in_the_cache_is_a_key_and_a_value_of_16_bits_in_every_layer() -> None:
    assert SMALL.kv_bytes() == 2 * 28 * 8 * 128 * 2 == 114_688
    assert LARGE.kv_bytes() == 2 * 36 * 8 * 128 * 2 == 147_456


def test_lora_has_its_rank_times_inputs_and_outputs_of_seven_layers() -> None:
    assert memory.lora_parameters(SMALL, 16) == 28 * 16 * (2 * 3_072 + 2 * 2_048 + 3 * 4_096) == 10_092_544
    assert memory.lora_parameters(LARGE, 16) == 36 * 16 * (2 * 6_656 + 2 * 3_584 + 3 * 12_288) == 33_030_144


def test_lora_is_trained_at_16_bytes_a_weight() -> None:
    plan = memory.plan(V41, SMALL, L4)
    assert gib(plan, "LoRA, gradients, optimiser") * GIB == pytest.approx(10_092_544 * (4 + 4 + 4 + 4))


def test_weights_take_two_bytes_each_and_are_counted_once_with_unsloth() -> None:
    plan = memory.plan(V42A, LARGE, L4)
    assert gib(plan, "Weights") * GIB == pytest.approx(3_759_341_056 * 2)
    assert "vLLM's copy of the weights" not in {row.consumer for row in plan.rows}


def test_vllm_without_unsloth_has_its_own_copy_which_sleeps_while_training() -> None:
    plan = memory.plan(V42A, LARGE, replace(L4, backend="vllm"))
    assert gib(plan, "vLLM's copy of the weights") == gib(plan, "Weights")
    awake = memory.plan(V42A, LARGE, replace(L4, backend="vllm", sleep_mode=False))
    asleep = gib(plan, "vLLM's copy of the weights") + gib(plan, "KV cache")
    assert awake.total(TRAINING) - plan.total(TRAINING) == pytest.approx(asleep)


def test_in_4_bits_embedding_and_norms_stay_and_constants_are_counted() -> None:
    linear, rest = 36 * 100_925_440, 49_152 * 2_560 + 36 * (2 * 2_560 + 2 * 128) + 2_560
    constants = linear / 64 + 4 * linear / (64 * 256)
    plan = memory.plan(V42A, LARGE, replace(L4, load_in_4bit=True))
    assert gib(plan, "Weights") * GIB == pytest.approx(linear / 2 + constants + 2 * rest)


def test_without_vllm_every_completion_of_a_step_grows_at_once() -> None:
    plan = memory.plan(V41, SMALL, PLAIN)
    assert gib(plan, "KV cache") == 32 * 2_048 * 114_688 / GIB == 7.0
    assert plan.at_once == 32


def test_vllm_reserves_what_its_share_leaves_and_queues_what_does_not_fit() -> None:
    narrow = replace(L4, vllm_memory_share=0.5)
    plan = memory.plan(V42A, LARGE, narrow)
    pool = 0.5 * 22.1 - 3_759_341_056 * 2 / GIB - 1.0
    assert gib(plan, "KV cache") == pytest.approx(pool)
    assert plan.at_once == int(pool * GIB / (2_048 * 147_456)) == 10


def test_the_logits_of_a_micro_batch_fill_the_backward_pass_of_a_small_model() -> None:
    plan = memory.plan(V41, SMALL, PLAIN)
    assert gib(plan, "Logits, then a block") == 8 * 512 * 49_152 * 16 / GIB == 3.0


def test_unsloth_takes_the_logits_in_pieces_so_that_a_block_is_larger() -> None:
    plan = memory.plan(V41, SMALL, L4)
    block = 18 * 1_024 + 14 * 2_048 + 4 * 1_024 + 16 * 3_072 + 2 * 2_048
    assert gib(plan, "Logits, then a block") == 8 * 2_048 * block / GIB > 8 * 512 * 49_152 * 4 / GIB


def test_the_inputs_of_all_blocks_are_kept_on_the_card_only_without_unsloth() -> None:
    assert gib(memory.plan(V41, SMALL, PLAIN), "Activations kept") == 8 * 2_048 * 28 * 1_024 * 2 / GIB == 0.875
    assert gib(memory.plan(V41, SMALL, L4), "Activations kept") == 0


@pytest.mark.parametrize("shape", [SMALL, LARGE], ids=["0.5B", "3.7B"])
def test_a_real_block_keeps_the_bytes_a_token_that_the_plan_says(shape: memory.Shape) -> None:
    two, three = (live_after_forward(replace(shape, layers=layers, vocabulary=64), 4, 512) for layers in (2, 3))
    assert (three - two) / (4 * 512) == pytest.approx(memory.kept_bytes(shape, 512), rel=0.02)


def live_after_forward(shape: memory.Shape, rows: int, length: int) -> int:
    """Bytes of the tensors that a forward pass of the policy with LoRA leaves for its backward pass.

    Nothing is computed: fake tensors have shapes and types but no values.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class Live(TorchDispatchMode):
        storages: dict[int, int]

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            for tensor in tree_leaves(result):
                if isinstance(tensor, torch.Tensor):
                    storage = tensor.untyped_storage()
                    if storage._cdata not in self.storages:
                        self.storages[storage._cdata] = storage.nbytes()
                        weakref.finalize(storage, self.storages.pop, storage._cdata)
            return result

    model = meta_policy(shape)
    with FakeTensorMode(allow_non_fake_inputs=True), Live() as live:
        live.storages = {}
        materialise(model)
        before = sum(live.storages.values())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            ids = torch.zeros(rows, length, dtype=torch.long)
            output = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
        assert output.logits.requires_grad
        return sum(live.storages.values()) - before


def meta_policy(shape: memory.Shape) -> Any:
    """A 16-bit Qwen3 of this shape with the recipe's LoRA in 32 bits, without memory for its weights."""
    import torch
    from peft import get_peft_model
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from helpers.policy.lora import lora_config

    config = Qwen3Config(
        num_hidden_layers=shape.layers,
        hidden_size=shape.hidden,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_size,
        intermediate_size=shape.ffn,
        vocab_size=shape.vocabulary,
        tie_word_embeddings=True,
    )
    with torch.device("meta"):
        model = Qwen3ForCausalLM(config).to(torch.bfloat16)
    return get_peft_model(model, lora_config(V41), low_cpu_mem_usage=True).train()


def materialise(model: Any) -> None:
    """Replace parameters and buffers by (fake) ones on the CPU: LoRA in 32 bits, all else in 16."""
    import torch

    for module in model.modules():
        for name, weight in module._parameters.items():
            if weight is not None:
                kind = torch.float32 if weight.requires_grad else torch.bfloat16
                empty = torch.empty(weight.shape, dtype=kind)
                module._parameters[name] = torch.nn.Parameter(empty, requires_grad=weight.requires_grad)
        for name, values in module._buffers.items():
            module._buffers[name] = None if values is None else torch.empty(values.shape, dtype=values.dtype)


def test_the_peak_is_the_larger_phase() -> None:
    plan = memory.plan(V42A, LARGE, PLAIN)
    assert plan.peak_phase == TRAINING
    assert plan.peak == plan.total(TRAINING) > plan.total(GENERATION)
    assert plan.headroom == pytest.approx(22.1 - plan.peak)


@each_card
@pytest.mark.parametrize("recipe", [V41, V42A], ids=lambda recipe: recipe.name)
def test_every_gpu_profile_holds_both_models_unchanged(card: Profile, recipe: recipes.Recipe) -> None:
    adapted, changes = memory.adapt(recipe, memory.shape_of(recipe), card)
    assert adapted == card and changes == []


@each_card
def test_no_gpu_profile_changes_the_handoffs_numbers(card: Profile) -> None:
    for recipe in (V41, V42A):
        assert profiles.fit(recipe, card) == (recipe, [])


def test_a_profile_without_a_gpu_has_no_plan() -> None:
    with pytest.raises(UserError, match=r"profile cpu has no GPU memory to plan; give one of t4, l4"):
        memory.plan(V41, SMALL, profiles.get("cpu"))


def test_a_smaller_micro_batch_is_tried_before_anything_else() -> None:
    adapted, changes = memory.adapt(V42A, LARGE, replace(PLAIN, memory_gib=15.0))
    assert [(change.field, change.before, change.after) for change in changes] == [("micro_batch", 8, 4)]
    assert adapted.load_in_4bit is False


@pytest.mark.parametrize(
    ("memory_gib", "share", "sleep", "changed"),
    [
        (13.0, 0.8, False, "sleep_mode"),
        (13.0, 0.95, False, "vllm_memory_share"),
        (10.0, 0.8, True, "load_in_4bit"),
    ],
)
def test_sleep_comes_before_a_smaller_share_and_4_bits_last(
    memory_gib: float, share: float, sleep: bool, changed: str
) -> None:
    long = replace(V42A, max_seq_length=8192)
    asked = card(memory_gib, micro_batch=1, sleep_mode=sleep, vllm_memory_share=share)
    _, changes = memory.adapt(long, LARGE, asked)
    assert [change.field for change in changes] == [changed]


def test_an_adapted_profile_fits_and_still_splits_a_step_into_whole_micro_batches() -> None:
    for memory_gib in (5.5, 7.0, 9.0, 11.0, 13.0):
        adapted, changes = memory.adapt(V42A, LARGE, card(memory_gib))
        assert memory.plan(V42A, LARGE, adapted).fits and all(change.source for change in changes)
        assert profiles.accumulation(V42A, adapted) * adapted.micro_batch == V42A.completions_per_step


def test_vllm_without_unsloth_is_never_given_4_bit_weights() -> None:
    with pytest.raises(UserError, match="does not fit"):
        memory.adapt(V42A, LARGE, card(8.0, backend="vllm"))


def test_what_cannot_fit_is_refused_in_one_line_with_what_would_do() -> None:
    with pytest.raises(UserError) as refusal:
        memory.adapt(V42A, LARGE, card(3.0))
    told = str(refusal.value)
    assert "\n" not in told
    assert told.startswith("Tucano2-qwen-3.7B-Instruct does not fit on card") and "of 3 GiB" in told
    assert told.endswith("use a GPU of profile t4")


def test_a_cache_without_room_for_one_sequence_does_not_fit_whatever_is_left() -> None:
    plan = memory.plan(V42A, LARGE, replace(L4, vllm_memory_share=0.36))
    assert plan.headroom > 0 and plan.at_once == 0 and not plan.fits


def test_the_table_adds_up_and_shows_both_models_side_by_side() -> None:
    plans = [memory.plan(recipe, memory.shape_of(recipe), L4) for recipe in (V41, V42A)]
    table = memory.table(*plans)
    assert list(table.columns) == [(plan.model, phase) for plan in plans for phase in memory.PHASES]
    consumers = table.index[:-3]
    assert table.loc[consumers].sum().to_list() == pytest.approx(table.loc["Total"].to_list(), abs=0.03)
    assert (table.loc["Available"] - table.loc["Total"]).to_list() == pytest.approx(table.loc["Headroom"].to_list())


def test_every_consumer_shows_its_formula_with_the_numbers() -> None:
    told = memory.formulas(memory.plan(V41, SMALL, L4))["Formula"]
    assert "490,799,104 x 2 bytes" in told["Weights"]
    assert "2,048 tokens x 114,688 bytes" in told["KV cache"]
    assert "10,092,544" in told["LoRA, gradients, optimiser"]


def test_the_figure_stacks_each_phase_up_to_its_total_at_notebook_width() -> None:
    plans = [memory.plan(recipe, memory.shape_of(recipe), L4) for recipe in (V41, V42A)]
    figure = plan_bars(plans)
    ends = sorted(bar.get_x() + bar.get_width() for bar in figure.axes[0].patches)
    assert ends[-1] == pytest.approx(max(plan.peak for plan in plans))
    assert png_width(figure) == WIDTH * 90


@pytest.mark.parametrize("backend", ["unsloth", "vllm", "transformers"])
def test_the_figure_knows_every_consumer_and_says_what_is_too_much(backend: str) -> None:
    crowded = replace(L4, backend=backend, memory_gib=9.0)
    texts = [text.get_text() for text in plan_bars([memory.plan(V42A, LARGE, crowded)]).axes[0].texts]
    assert any("too much" in text for text in texts)


def png_width(figure: Figure) -> int:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return int.from_bytes(buffer.getvalue()[16:20], "big")
