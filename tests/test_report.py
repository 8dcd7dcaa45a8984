import re
from pathlib import Path

import pytest

from helpers.cli import main
from helpers.plots import report
from helpers.runs import load
from helpers.runs.load import load_run
from tests.synthetic_runs import Spec, early_then_flat, means, write_run


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(load, "SHIPPED_RUNS", tmp_path / "none")
    monkeypatch.setattr(load, "OWN_RUNS", tmp_path / "none")
    monkeypatch.setenv("HELPERS_RUN_DIR", str(tmp_path))
    write_run(tmp_path / "v4.1", Spec(means(0.4), means(0.62), max_steps=40, eval_every=10))
    v4 = {"recipe": "v4", "version": "v4", "parser": "regex", "seed": 3, "shape": early_then_flat}
    write_run(tmp_path / "v4", Spec(means(0.4), means(0.46), max_steps=20, eval_every=10, **v4))
    return tmp_path


def test_the_page_opens_with_the_decision_and_needs_no_network(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(runs / "v4.1")]) == 0
    page = (runs / "v4.1" / "report.html").read_text(encoding="utf-8")
    assert "Scenario A" in page and page.index("Scenario A") < page.index("The four questions")
    sources = re.findall(r'(?:src|href)="([^"]{0,30})', page)
    assert sources and all(source.startswith("data:image/png;base64,") for source in sources)
    printed = capsys.readouterr().out
    assert "Scenario A" in printed and "report.html" in printed


def test_without_a_run_named_the_latest_one_is_taken_and_told(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--out", str(runs / "page.html"), "--examples", "1"]) == 0
    assert "your own latest run" in capsys.readouterr().out
    assert (runs / "page.html").is_file()


def test_the_page_of_a_shipped_run_goes_to_the_users_own_runs(
    runs: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = tmp_path_factory.mktemp("own") / "v4.1" / "report.html"
    monkeypatch.setattr(load, "SHIPPED_RUNS", runs)
    monkeypatch.setattr(load, "OWN_RUNS", page.parent.parent)
    shipped = sorted(runs.rglob("*"))
    assert main(["report", str(runs / "v4.1"), "--examples", "1"]) == 0
    assert page.is_file() and f"page: {page}" in capsys.readouterr().out
    assert sorted(runs.rglob("*")) == shipped


def test_the_page_names_the_v4_run_as_its_reference(runs: Path) -> None:
    run = load_run(runs / "v4.1")
    found = report.write_report(run, runs / "page.html", examples=1)
    assert found.reference == "V4 run v4 of the same policy"
    assert "V4 run v4 of the same policy" in (runs / "page.html").read_text(encoding="utf-8")


def test_text_of_a_run_cannot_break_the_page(runs: Path) -> None:
    path = runs / "v4.1" / "eval.jsonl"
    path.write_text(path.read_text(encoding="utf-8").replace("resposta", "<script>alert(1)</script>"), encoding="utf-8")
    config = runs / "v4.1" / "config.json"
    config.write_text(config.read_text().replace('"started": "2026', '"started": "<img src=x>2026'))
    report.write_report(load_run(runs / "v4.1"), runs / "page.html")
    page = (runs / "page.html").read_text(encoding="utf-8")
    assert "<script>" not in page and "<img src=x>" not in page


def test_warnings_are_on_the_page_and_on_the_terminal(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (runs / "v4.1" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 41, "tra')
    assert main(["report", str(runs / "v4.1"), "--examples", "1"]) == 0
    told = re.search(r"warning: (metrics.jsonl, line \d+: cut off in the middle)", capsys.readouterr().out)
    assert told and told[1] in (runs / "v4.1" / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("verb", [["report"], ["compare", "elsewhere"]])
def test_a_folder_without_a_run_is_one_line_and_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: list[str]
) -> None:
    assert main([*verb, str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_runs_on_the_same_prompts_are_compared_pair_by_pair(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(runs / "v4"), str(runs / "v4.1")]) == 0
    printed = capsys.readouterr().out
    assert "v4.1 minus v4, paired: the same 260 prompts" in printed
    assert "rewarded differently" in printed


def test_runs_on_other_prompts_are_compared_unpaired(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = Spec(means(0.4), means(0.5), max_steps=20, eval_every=10, full=dict.fromkeys(means(0.4), 30))
    write_run(runs / "small", spec)
    assert main(["compare", str(runs / "v4.1"), str(runs / "small"), "--figure", str(runs / "curves.png")]) == 0
    assert "small minus v4.1, unpaired" in capsys.readouterr().out
    assert (runs / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_one_run_alone_is_not_compared(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(runs / "v4")]) == 2
    assert "report" in capsys.readouterr().err


def test_an_unfinished_run_is_not_compared(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(runs / "half", Spec(means(0.4), means(0.5), max_steps=40, eval_every=10, stopped_at=20))
    assert main(["compare", str(runs / "v4"), str(runs / "half")]) == 2
    assert "no evaluation at step 40" in capsys.readouterr().err
