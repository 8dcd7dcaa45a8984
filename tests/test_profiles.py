"""Which profile a machine gets: a small script stands on the PATH in nvidia-smi's place."""

from dataclasses import replace
from pathlib import Path

import pytest

from helpers.cli import doctor
from helpers.core import gpus
from helpers.core.errors import UserError
from helpers.core.gpus import Gpu
from helpers.recipes import profiles


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Put an `nvidia-smi` on the PATH that prints what a test says, or does what it says."""

    def put(lines: str, script: str = "cat $(dirname $0)/answer") -> None:
        (tmp_path / "answer").write_text(lines)
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")

    return put


@pytest.mark.parametrize(
    ("name", "mebibytes", "profile"),
    [
        ("NVIDIA L4", 23034, "l4"),
        ("Tesla T4", 15360, "t4"),
        ("NVIDIA A100-SXM4-40GB", 40960, "a100"),
        ("NVIDIA A100 80GB PCIe", 81920, "a100-80"),
        ("NVIDIA A100-SXM4-80GB", 81920, "a100-80"),
        ("NVIDIA H100 80GB HBM3", 81559, "h100"),
        ("NVIDIA H200", 143771, "h200"),
    ],
)
def test_a_known_card_is_known_by_its_name(answer, name: str, mebibytes: int, profile: str) -> None:
    answer(f"{name}, {mebibytes}, {mebibytes - 400}, 580.65.06\n")
    chosen, why = profiles.detect()
    assert chosen == profile
    assert name in why and f"{mebibytes / 1024:.1f} GiB" in why and "not a card we know" not in why


@pytest.mark.parametrize(
    ("name", "mebibytes", "profile"),
    [
        ("NVIDIA B200", 183359, "h200"),
        ("NVIDIA RTX 6000 Ada Generation", 49140, "a100"),
        ("NVIDIA A10G", 23028, "l4"),
        ("NVIDIA L40S", 46068, "a100"),
    ],
)
def test_an_unknown_card_gets_the_largest_profile_that_its_memory_holds(
    answer, name: str, mebibytes: int, profile: str
) -> None:
    answer(f"{name}, {mebibytes}, {mebibytes}, 580.65.06\n")
    chosen, why = profiles.detect()
    assert chosen == profile
    assert "not a card we know" in why
    assert profiles.get(profile).memory_gib <= mebibytes / 1024


@pytest.mark.parametrize(
    "name",
    [
        *("Tesla V100-SXM2-32GB", "NVIDIA TITAN RTX", "Quadro RTX 6000"),
        *("Tesla P40", "Tesla P100-PCIE-16GB", "Quadro P6000", "GRID P40-24Q"),
        *("Tesla M40 24GB", "Tesla M60", "Quadro M6000 24GB", "Tesla K80"),
    ],
)
def test_a_card_without_bfloat16_is_used_as_a_t4_however_large(name: str) -> None:
    chosen, why = profiles.choose(Gpu(name, 32768, 32000, "580.65.06"))
    assert profiles.get(chosen).dtype == "float16" and "bfloat16" in why


def test_a_card_smaller_than_every_profile_leaves_the_work_to_the_cpu_and_says_so(answer) -> None:
    answer("NVIDIA GeForce RTX 3060, 12288, 12000, 580.65.06\n")
    chosen, why = profiles.detect()
    assert chosen == "cpu"
    assert "RTX 3060, 12.0 GiB" in why and "t4" in why


def test_without_nvidia_smi_it_is_the_cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert profiles.detect() == ("cpu", "no nvidia-smi on this machine")
    assert gpus.find()[0] == []


@pytest.mark.parametrize("script", ["exit 9", "true"])
def test_an_nvidia_smi_that_fails_or_says_nothing_means_no_gpu(answer, script: str) -> None:
    answer("", script)
    assert profiles.detect() == ("cpu", "nvidia-smi is there but reports no GPU")


def test_an_nvidia_smi_that_hangs_is_given_up(answer) -> None:
    answer("", "exec sleep 60")
    assert gpus.find(seconds=0.2) == ([], "nvidia-smi is there but does not answer")


def test_of_several_cards_the_first_decides_and_all_are_listed(answer) -> None:
    answer("NVIDIA L4, 23034, 22563, 580.65.06\nTesla T4, 15360, 15000, 580.65.06\n")
    assert profiles.detect()[0] == "l4"
    assert [gpu.name for gpu in gpus.find()[0]] == ["NVIDIA L4", "Tesla T4"]


def test_memory_that_nvidia_smi_does_not_report_counts_as_none() -> None:
    assert gpus.parse("NVIDIA GB10, [N/A], [N/A], 580.95.05\n")[0].memory == 0


def test_auto_takes_the_detected_card_and_the_doctor_tells_the_same(answer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HELPERS_PROFILE")
    answer("NVIDIA H200, 143771, 143000, 580.65.06\n")
    assert profiles.get("auto").name == "h200"
    assert doctor.check_profile().value == "h200: nvidia-smi reports NVIDIA H200, 140.4 GiB"


def test_every_gpu_profile_says_what_it_is_and_what_it_costs() -> None:
    for profile in profiles.PROFILES.values():
        if profile.device == "cuda":
            assert f"{profile.memory_gib:g} GiB visible to torch" in profile.reasons
            assert profile.backend == "unsloth" and profile.usd_per_hour > 0
            assert profile.dtype == ("float16" if profile.name == "t4" else "bfloat16")


def test_the_cpu_profiles_have_no_gpu_and_no_price() -> None:
    for name in ("cpu", "smallest"):
        profile = profiles.get(name)
        assert (profile.memory_gib, profile.backend, profile.usd_per_hour) == (0.0, "transformers", 0.0)


def test_a_cpu_profile_has_the_threads_that_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(profiles.THREADS, "3")
    assert profiles.get("cpu") == replace(profiles.CPU, threads=3)
    assert profiles.get("l4") is profiles.L4


@pytest.mark.parametrize("threads", ["many", "0", "-2", "1.5", "²"])
def test_threads_that_are_no_number_are_refused_in_one_line(monkeypatch: pytest.MonkeyPatch, threads: str) -> None:
    monkeypatch.setenv(profiles.THREADS, threads)
    with pytest.raises(UserError, match=f"{profiles.THREADS}='{threads}'"):
        profiles.get("cpu")
