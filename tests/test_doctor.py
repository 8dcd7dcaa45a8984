"""The doctor: what it finds off, and that it never hangs."""

import json
import socket
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from helpers import cli
from helpers.cli import doctor
from helpers.core.gpus import Gpu


@pytest.fixture
def silent_server() -> Iterator[str]:
    """A server that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"


def test_an_installed_package_at_its_pin_is_ok() -> None:
    (check,) = doctor.check_packages({"numpy": metadata.version("numpy")})
    assert check.state == "ok"


def test_a_missing_package_and_one_off_its_pin_are_off_and_name_the_pin() -> None:
    checks = list(doctor.check_packages({"no-such-package": "1.0", "numpy": "0.0.1"}))

    assert [check.state for check in checks] == ["off", "off"]
    assert "pin 1.0" in checks[0].value
    assert "pin 0.0.1" in checks[1].value


def test_a_cpu_build_of_a_package_is_off_only_where_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.metadata, "version", lambda name: "2.13.0+cpu")

    assert [check.state for check in doctor.check_packages({"torch": "2.13.0"}, gpu=False)] == ["ok"]
    assert [check.state for check in doctor.check_packages({"torch": "2.13.0"}, gpu=True)] == ["off"]


@pytest.mark.parametrize(
    ("driver", "state"), [("580.65.06", "ok"), ("535.183.01", "ok"), ("470.82.01", "off"), ("[N/A]", "off")]
)
def test_a_gpu_needs_a_driver_for_cuda_12(driver: str, state: str) -> None:
    assert doctor.check_gpu(Gpu("NVIDIA L4", 23034, 22563, driver)).state == state


def test_jupyter_and_tests_off_their_pins_are_a_note_as_colab_keeps_its_own() -> None:
    check = doctor.check_dev_packages({"ipython": "0.0.1", "numpy": metadata.version("numpy")})
    assert (check.state, check.value) == ("note", "requirements-dev.txt: ipython not at the pin")


def test_a_hub_that_never_answers_is_given_up(silent_server: str) -> None:
    assert doctor.probe(silent_server, seconds=0.2) is not None


def test_a_hub_that_cannot_be_reached_says_why() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    assert "refused" in (doctor.probe(f"http://127.0.0.1:{port}/") or "")


def test_offline_by_choice_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(doctor, "probe", lambda url: pytest.fail("asked the hub"))

    assert doctor.check_hub(needed=False).state == "ok"
    assert doctor.check_hub(needed=True).state == "note"


def test_a_profile_that_does_not_exist_is_off_and_lists_the_ones_that_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELPERS_PROFILE", "h900")
    check = doctor.check_profile()

    assert check.state == "off"
    assert "cpu" in check.value


def test_missing_pairs_are_off_and_a_missing_database_is_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = doctor.check_data(tmp_path)
    assert (pairs.state, pairs.remedy) == ("off", "python -m helpers data")

    (tmp_path / "data" / "pairs").mkdir(parents=True)
    for split in ("train", "eval", "test"):
        (tmp_path / "data" / "pairs" / f"{split}.jsonl").touch()
    assert doctor.check_data(tmp_path).state == "note"

    (tmp_path / "mine.db").touch()
    monkeypatch.setenv("COMMERCE_DB", str(tmp_path / "mine.db"))
    assert doctor.check_data(tmp_path).state == "ok"


@pytest.mark.parametrize(("state", "code"), [("off", 1), ("note", 0), ("ok", 0)])
def test_the_exit_code_says_whether_something_essential_is_off(
    state: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "examine", lambda: [doctor.Check("Python", "3.11", state, "a remedy")])

    assert cli.main(["doctor"]) == code
    assert "a remedy" in capsys.readouterr().out


def test_json_holds_every_check(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["doctor", "--json"])

    names = [check["name"] for check in json.loads(capsys.readouterr().out)]
    assert {
        "Python",
        "Machine",
        "Memory",
        "Disk",
        "GPU",
        "Profile",
        "Model hub",
        "W&B",
        "Data",
        "Packages",
        "torch",
    } <= set(names)
