"""An export answers as the run did, says how far 16 bits took it, and is refused where it does not."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from helpers import cli, recipes
from helpers.core.errors import UserError
from helpers.core.files import PROJECT_ROOT
from helpers.core.stats import Interval
from helpers.policy import generation, lora, model
from helpers.policy.loading import load_run_policy
from helpers.policy.serve import export
from helpers.recipes import profiles
from helpers.runs.load import SHIPPED_RUNS, find_runs
from helpers.runs.origin import read_origin
from helpers.tasks import TASKS

PROMPTS = 8


def change_weights(path, change):
    save_file({name: change(name, tensor) for name, tensor in load_file(path).items()}, path, metadata={"format": "pt"})


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_run):
    """A run whose adapter changes every answer of its base policy."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    shutil.copytree(tiny_run, folder, ignore=shutil.ignore_patterns("checkpoints", "wandb"))
    generator = torch.Generator().manual_seed(0)
    change_weights(
        folder / "adapter" / "adapter_model.safetensors",
        lambda name, old: torch.randn(old.shape, generator=generator) * 0.1 if "lora_B" in name else old,
    )
    return folder


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    return export.export_run(run, tmp_path_factory.mktemp("exports") / "out", merged=True, prompts=PROMPTS)


@pytest.fixture
def copy(exported, tmp_path):
    shutil.copytree(exported.folder, tmp_path / "copy")
    return tmp_path / "copy"


def test_the_exported_adapter_gives_the_very_texts_of_the_run(exported):
    found = exported.checks["adapter"]
    assert (found.identical, found.prompts, found.difference.mean) == (PROMPTS, PROMPTS, 0.0)
    assert exported.agrees


def test_the_runs_answers_are_not_those_of_its_base_policy(run):
    rows = [
        export._answers(load_run_policy(run, adapter), export.selection(PROMPTS), "test")
        for adapter in ("adapter", None)
    ]
    assert all(old["completion"] != new["completion"] for old, new in zip(*rows, strict=True))


def test_the_merged_model_is_whole_in_bfloat16_and_stands_alone(exported):
    merged = exported.folder / "merged"
    assert {tensor.dtype for tensor in load_file(merged / "model.safetensors").values()} == {torch.bfloat16}
    policy = model.load(str(merged), profiles.get("smallest"))
    assert not lora.has_lora(policy.model)
    prompt = export.selection(PROMPTS)[0]["prompt"]
    trained_with = AutoTokenizer.from_pretrained(exported.folder / "adapter")
    assert policy.tokenizer.apply_chat_template(prompt, tokenize=False) == trained_with.apply_chat_template(
        prompt, tokenize=False
    )


def test_the_merged_weights_are_base_plus_adapter_rounded_once(run, exported):
    merged = load_file(exported.folder / "merged" / "model.safetensors")
    policy = load_run_policy(run)
    layer = policy.policy.model.base_model.model.model.layers[0].mlp.up_proj
    expected = (layer.get_base_layer().weight + layer.get_delta_weight("default")).to(torch.bfloat16)
    assert torch.equal(merged["model.layers.0.mlp.up_proj.weight"], expected)


def test_the_generation_config_of_a_merged_model_advises_no_sampling(exported):
    config = json.loads((exported.folder / "merged" / "generation_config.json").read_text())
    assert not {"temperature", "top_p", "top_k", "repetition_penalty"} & set(config)
    assert config["eos_token_id"]


def test_an_export_names_no_path_of_this_machine_and_holds_no_pickle(run, exported):
    files = [path for path in exported.folder.rglob("*") if path.is_file()]
    assert not [path.name for path in files if path.suffix in (".bin", ".pt", ".pkl")]
    texts = [path.read_text() for path in files if path.suffix in (".json", ".md", ".jinja")]
    assert not [text for text in texts if str(run.parent) in text or str(PROJECT_ROOT) in text]
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in files)


def test_an_adapter_whose_weights_changed_on_the_way_does_not_agree(run, copy):
    change_weights(copy / "adapter" / "adapter_model.safetensors", lambda name, old: old * ("lora_B" not in name))
    found = export.check(run, copy, PROMPTS)
    assert not found["adapter"].agrees
    assert found["adapter"].identical == 0
    assert found["merged"].agrees


def test_a_merged_model_whose_weights_changed_on_the_way_does_not_agree(run, copy):
    generator = torch.Generator().manual_seed(1)
    change_weights(
        copy / "merged" / "model.safetensors",
        lambda name, old: old + torch.randn(old.shape, generator=generator).to(old.dtype) * old.std() * 2,
    )
    found = export.check(run, copy, PROMPTS)
    assert not found["merged"].agrees
    assert found["adapter"].agrees


def test_the_verb_prints_both_agreements_and_ends_with_0(run, tmp_path, capsys):
    code = cli.main(["export", str(run), "--out", str(tmp_path / "out"), "--merged", "--prompts", str(PROMPTS)])
    told = capsys.readouterr().out
    assert code == 0
    assert f"adapter  {PROMPTS} of {PROMPTS} texts identical, mean reward +0.000" in told
    assert "merged   " in told and told.count(": agrees") == 2


def test_an_export_that_does_not_agree_ends_with_1_and_leaves_only_what_was_rejected(
    run, tmp_path, monkeypatch, capsys
):
    copy_adapter = export._copy_adapter

    def copy_and_spoil(source, target, origin):
        copy_adapter(source, target, origin)
        change_weights(target / "adapter_model.safetensors", lambda name, old: old * ("lora_B" not in name))

    monkeypatch.setattr(export, "_copy_adapter", copy_and_spoil)
    assert cli.main(["export", str(run), "--out", str(tmp_path / "out"), "--prompts", str(PROMPTS)]) == 1
    assert "DOES NOT AGREE" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["out.rejected"]
    assert json.loads((tmp_path / "out.rejected" / "export.json").read_text())["agrees"] is False


def test_without_merged_there_is_only_the_adapter(run, tmp_path):
    done = export.export_run(run, tmp_path / "out", prompts=PROMPTS)
    assert list(done.checks) == ["adapter"]
    assert sorted(path.name for path in done.folder.iterdir()) == ["README.md", "adapter", "export.json"]


def test_an_export_that_breaks_off_leaves_nothing(run, tmp_path, monkeypatch):
    def break_off(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(export, "check", break_off)
    with pytest.raises(KeyboardInterrupt):
        export.export_run(run, tmp_path / "out", prompts=PROMPTS)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_is_never_written_over(run, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="already there; give another --out, or remove it"):
        export.export_run(run, tmp_path / "out", prompts=PROMPTS)


def test_a_run_without_an_adapter_has_nothing_to_export(run, tmp_path):
    shutil.copytree(run, tmp_path / "bare", ignore=shutil.ignore_patterns("adapter"))
    with pytest.raises(UserError, match=r"no adapter_config\.json"):
        export.export_run(tmp_path / "bare", tmp_path / "out", prompts=PROMPTS)
    assert not (tmp_path / "out").exists()


def test_the_check_asks_the_same_number_of_prompts_of_every_task():
    tasks = [record["task"] for record in export.selection(40)]
    assert {task: tasks.count(task) for task in TASKS} == dict.fromkeys(TASKS, 10)
    assert len({record["id"] for record in export.selection(40)}) == 40


@pytest.mark.parametrize("prompts", [0, 4, 10, -8, 4_000])
def test_a_number_of_prompts_that_the_tasks_cannot_share_is_refused(prompts):
    with pytest.raises(UserError, match="--prompts"):
        export.selection(prompts)


def rows(totals, texts):
    return [{"completion": text, "total": total} for total, text in zip(totals, texts, strict=True)]


def test_agreement_needs_enough_identical_texts_and_a_mean_reward_within_the_tolerance():
    same = rows([0.5] * 40, "a" * 40)
    quarter, fewer = "a" * 10 + "b" * 30, "a" * 9 + "b" * 31
    assert export.compare(same, rows([0.5] * 40, quarter)).agrees
    assert not export.compare(same, rows([0.5] * 40, fewer)).agrees
    assert not export.compare(same, rows([0.5] * 40, quarter), exact=True).agrees
    assert export.compare(same, rows([0.54] * 40, quarter)).agrees
    assert not export.compare(same, rows([0.56] * 40, quarter)).agrees
    assert not export.compare(same, rows([0.44] * 40, quarter)).agrees


def test_the_card_and_the_check_tell_the_records_facts(run, exported):
    card, facts = (exported.folder / "README.md").read_text(), json.loads((exported.folder / "export.json").read_text())
    origin = read_origin(run)
    assert "license: apache-2.0" in card and f"Recipe {origin.recipe.name}" in card and origin.base in card
    assert all(f"| {mode} | {task} |" in card for mode in generation.MODES for task in TASKS)
    assert facts["record_ids"] == [record["id"] for record in export.selection(PROMPTS)]
    assert facts["checks"]["merged"]["difference"] == vars(exported.checks["merged"].difference)
    assert Interval(**facts["checks"]["adapter"]["difference"]).n == PROMPTS


@pytest.mark.parametrize("run", find_runs(SHIPPED_RUNS), ids=lambda run: run.name)
def test_a_record_tells_which_shipped_policy_it_starts_from(run):
    origin = read_origin(run)
    assert (PROJECT_ROOT / origin.base / "embedded.json").is_file() and origin.base.startswith("data/policies/")
    assert origin.profile.name == "cpu" and recipes.get(origin.recipe.name).version == origin.recipe.version
