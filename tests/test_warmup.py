"""A warm-up trains LoRA on one task's pairs, loss on the answers alone, and GRPO then trains that same LoRA."""

import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from helpers import recipes, training
from helpers.core.errors import UserError
from helpers.policy import backends, generation, loading, lora, sft
from helpers.recipes import profiles
from helpers.runs import analysis
from helpers.runs.load import evaluated_steps, load_run
from helpers.runs.record import KNOWN_EVAL_SECONDS, split_prefix
from helpers.tasks.records import load_split
from helpers.training import warmup

PROFILE = replace(profiles.get("smallest"), eval_every=2, sft_learning_rate_factor=50.0, base_only_task="")
RECIPE, _ = profiles.fit(recipes.V42B, PROFILE)
ADAPTER = "adapter_model.safetensors"


def train(recipe, folder, **options):
    return training.train_grpo(training.plan_run(recipe, PROFILE, folder, **options))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """The shipped pairs with a train split of 60 records, so that an epoch takes seconds."""
    from helpers.core.files import write_jsonl
    from helpers.tasks.records import PAIRS_DIR

    folder = tmp_path_factory.mktemp("pairs")
    for split in ("eval", "test"):
        shutil.copy(PAIRS_DIR / f"{split}.jsonl", folder)
    records = load_split("train")
    few = [record for task in ("extraction", "sql_qa", "insights", "push") for record in _first(records, task, 15)]
    write_jsonl(folder / "train.jsonl", few)
    return folder


def _first(records, task, count):
    return [record for record in records if record["task"] == task][:count]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory, pairs):
    folder = tmp_path_factory.mktemp("runs") / "warm"
    return train(recipes.V42B, folder, seed=3, pairs=pairs)


@pytest.fixture(scope="module")
def tokenizer():
    return loading.load_base(RECIPE, PROFILE).tokenizer


def test_the_loss_counts_the_assistants_tokens_and_their_end_alone(tokenizer):
    record = load_split("eval")[0]
    masked, counted = map(tokenizer.decode, sft.masked_and_counted(tokenizer, record))
    assert counted.strip() == record["reference"]["text"] + tokenizer.eos_token
    assert masked.endswith("<|im_start|>assistant\n") and record["prompt"][-1]["content"] in masked


def test_the_tokens_shown_as_masked_are_those_that_the_trainer_masks(tokenizer, tmp_path):
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    record = load_split("eval")[0]
    arguments = sft.sft_arguments(tmp_path, 1, 1, 1e-3, 4096, 0, PROFILE) | {"completion_only_loss": True}
    trainer = SFTTrainer(
        model=loading.load_base(RECIPE, PROFILE).model,
        args=SFTConfig(**arguments),
        train_dataset=Dataset.from_list(sft.chat_rows([record])),
        processing_class=tokenizer,
    )
    labels = next(iter(trainer.get_train_dataloader()))["labels"][0].tolist()
    masked, counted = sft.masked_and_counted(tokenizer, record)
    assert labels == [-100] * len(masked) + counted


def test_a_template_that_changes_the_prompt_when_it_is_answered_is_refused(tokenizer):
    import copy

    other = copy.deepcopy(tokenizer)
    other.chat_template = "{{ messages | length }}" + tokenizer.chat_template
    with pytest.raises(UserError, match="chat template"):
        sft.masked_and_counted(other, load_split("eval")[0])


def test_html_in_a_review_is_shown_as_text(tokenizer):
    record = load_split("eval")[0]
    hostile = record | {"reference": {"text": "<script>alert(1)</script>"}}
    assert "<script>" not in sft.masked_html(tokenizer, hostile)


def test_the_warm_up_leaves_a_record_with_the_base_policy_first_and_the_adapter_last(run_folder):
    warm = load_run(run_folder / "warmup")
    first, last = evaluated_steps(warm, "eval")
    assert first == 0 and last == 4
    assert warm.series("train/loss").iloc[-1] < warm.series("train/loss").iloc[0]


def test_grpo_starts_from_the_warm_ups_answers(run_folder):
    warm, run = (load_run(folder) for folder in (run_folder / "warmup", run_folder))
    for mode in ("sample", "greedy"):
        after_sft = analysis.prompt_rewards(warm, 4, "eval", mode)
        assert analysis.prompt_rewards(run, 0, "eval", mode) == after_sft


def test_what_the_first_answers_cost_is_what_the_warm_up_paid_for_them(run_folder):
    warm, run = (load_run(folder) for folder in (run_folder / "warmup", run_folder))
    for mode in generation.MODES:
        key = f"{split_prefix('eval', mode)}mean_reward"
        paid = [row["time/eval_s"] for row in warm.history if row["step"] == 4 and key in row]
        assert [row[KNOWN_EVAL_SECONDS] for row in run.history if row["step"] == 0 and key in row] == paid
        assert paid[0] > 0
    assert not any("time/eval_s" in row for row in run.history if row["step"] == 0)


def test_the_answers_taken_over_are_those_of_the_policy_that_grpo_starts_from(run_folder):
    policy = lora.with_lora(loading.load_base(RECIPE, PROFILE), RECIPE)
    lora.restore_adapter(policy, run_folder / "warmup" / "adapter")
    scored = load_run(run_folder).scored
    for mode in generation.MODES:
        taken = scored[scored["step"].eq(0) & scored["split"].eq("eval") & scored["mode"].eq(mode)]
        taken = taken[taken["sample"].eq(0)].set_index("record_id")["completion"]
        asked = [record for record in load_split("eval") if record["id"] in taken.index]
        given = generation.generate(
            policy, [record["prompt"] for record in asked], generation.settings_for(RECIPE, PROFILE, mode)
        )
        assert [answer.text for answer in given] == [taken[record["id"]] for record in asked]


def test_the_weights_of_the_warm_up_continue_into_grpo(run_folder):
    warm = load_file(run_folder / "warmup" / "adapter" / ADAPTER)
    trained = load_file(run_folder / "adapter" / ADAPTER)
    assert warm.keys() == trained.keys()
    shift = sum(float((trained[name] - warm[name]).norm()) for name in warm)
    size = sum(float(tensor.norm()) for tensor in warm.values())
    assert 0 < shift < 0.2 * size


def test_a_restored_adapter_is_the_saved_one_and_a_foreign_one_is_refused(run_folder, tmp_path):
    saved = load_file(run_folder / "warmup" / "adapter" / ADAPTER)
    policy = lora.with_lora(loading.load_base(RECIPE, PROFILE), RECIPE)
    lora.restore_adapter(policy, run_folder / "warmup" / "adapter")
    held = {name: parameter for name, parameter in policy.model.named_parameters() if "lora_" in name}
    assert sorted(float(t.detach().norm()) for t in held.values()) == pytest.approx(
        sorted(float(t.norm()) for t in saved.values())
    )
    wider = lora.with_lora(loading.load_base(RECIPE, PROFILE), replace(RECIPE, lora_r=4))
    with pytest.raises(UserError, match="not an adapter of this policy"):
        lora.restore_adapter(wider, run_folder / "warmup" / "adapter")


def test_a_finished_warm_up_is_used_again_and_gives_the_same_run(run_folder, pairs, tmp_path):
    folder = tmp_path / "again"
    shutil.copytree(run_folder / "warmup", folder / "warmup")
    before = (folder / "warmup" / "events.jsonl").read_bytes()
    train(recipes.V42B, folder, seed=3, pairs=pairs)
    assert (folder / "warmup" / "events.jsonl").read_bytes() == before
    same = [load_file(path / "adapter" / ADAPTER) for path in (run_folder, folder)]
    assert all(torch.equal(same[0][name], same[1][name]) for name in same[0])


def test_the_base_model_has_read_no_chat_and_its_stand_in_is_a_policy_of_its_own():
    base = loading.load_base(RECIPE, PROFILE)
    instruct = loading.load_base(profiles.fit(recipes.V41, PROFILE)[0], PROFILE)
    assert base.name == "embedded-smallest-base" and base.source != instruct.source


def test_a_recipe_that_needs_more_pairs_says_how_to_make_them(tmp_path):
    with pytest.raises(UserError, match="helpers pairs --task insights"):
        train(recipes.V42C_INSIGHTS, tmp_path / "run")
    with pytest.raises(UserError, match="takes no extra pairs"):
        train(recipes.V41, tmp_path / "run", extra=tmp_path / "extra.jsonl")
    assert not (tmp_path / "run").exists()


def test_extra_pairs_of_another_task_are_refused(tmp_path, pairs):
    with pytest.raises(UserError, match="adds insights"):
        train(recipes.V42C_INSIGHTS, tmp_path / "run", extra=pairs / "train.jsonl")


def test_a_warm_up_that_was_interrupted_goes_on_from_a_policy_that_is_loaded_again(pairs, tmp_path):
    plan = training.plan_run(recipes.V42B, PROFILE, tmp_path / "run", seed=3, pairs=pairs)
    policy = lora.with_lora(loading.load_base(plan.recipe, PROFILE), plan.recipe)
    trained = next(weight for name, weight in policy.model.named_parameters() if "lora_B" in name)
    with torch.no_grad():
        trained[0, 0] = 0.5
    with pytest.raises(UserError, match="run the cells again from the one that loads it"):
        warmup.warm_up(plan, policy)
    assert not plan.folder.exists()


@pytest.mark.parametrize("name", ["cpu", "l4", "t4"])
def test_the_warm_up_computes_on_the_device_and_in_the_precision_of_grpo(tmp_path, name):
    profile = profiles.get(name)
    grpo = backends.trainer_arguments(recipes.V42B, profile, "transformers")
    warm = sft.sft_arguments(tmp_path, 1, 1, 1e-3, 4096, 0, profile)
    for key in ("bf16", "fp16", "use_cpu", "gradient_checkpointing"):
        assert warm[key] == grpo[key]
    assert warm["fp16"] == (name == "t4")
