from __future__ import annotations

from pathlib import Path

import pytest

from cli.conftest import Shell
from report import made
from shoestring.cli import plot as plot_command
from shoestring.report import plot as plot_module
from shoestring.report.series import AXES


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("studies") / "runs"
    made.study(place, tasks=("SST-2",), seeds=(13, 21))
    return place


def test_runs_become_a_page_and_the_command_says_where(shell: Shell, runs: Path, tmp_path: Path) -> None:
    out, err = shell("report", runs, "--html", "out")
    assert (out, err) == ("out/index.html\n", "")
    data = made.data_of((tmp_path / "out" / "index.html").read_text(encoding="utf-8"))
    assert data["runs"]["total"] == 16


def test_layout_options_and_the_title_reach_the_page(shell: Shell, runs: Path, tmp_path: Path) -> None:
    shell("report", runs, "--html", "a.html", "--all", "--by", "method.kind", "--metric", "loss", "--title", "Mine")
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "<h1>Mine</h1>" in text
    data = made.data_of(text)
    assert data["caption"].startswith("loss on test")
    assert len(data["table"]["rows"]) == 8
    shell("report", runs, "--html", "b.html", "--seeds", "13,99")
    data = made.data_of((tmp_path / "b.html").read_text(encoding="utf-8"))
    assert any("99" in note for note in data["notes"])


def test_mistakes_of_a_report_are_told_without_a_traceback(shell: Shell, runs: Path, tmp_path: Path) -> None:
    assert "did you mean 'model'" in shell.error("report", runs, "--html", "out", "--by", "modle")
    assert "there is no such folder" in shell.error("report", tmp_path / "nowhere", "--html", "out")
    assert "Missing option '--html'" in shell.usage_error("report", runs)
    assert not (tmp_path / "out").exists()


def test_runs_become_a_figure(shell: Shell, runs: Path, tmp_path: Path) -> None:
    out, err = shell("plot", runs, "--x", "weights", "--draw", "lines", "--line", "chance", "--out", "figure.svg")
    assert (out, err) == ("figure.svg\n", "")
    assert "chance" in (tmp_path / "figure.svg").read_text(encoding="utf-8")
    shell("plot", runs, "--x", "steps", "--y", "train-loss", "--seeds", "13", "--by", "method", "--out", "new/a.png")
    assert (tmp_path / "new" / "a.png").is_file()


def test_mistakes_of_a_figure_are_told_before_runs_are_read(shell: Shell, runs: Path) -> None:
    assert "ends in '.gif'" in shell.error("plot", "nowhere", "--out", "figure.gif")
    assert "did you mean 'seconds'" in shell.usage_error("plot", runs, "--x", "second", "--out", "figure.png")
    assert "did you mean 'lines'" in shell.usage_error("plot", runs, "--draw", "line", "--out", "figure.png")
    assert "did you mean 'loss'" in shell.error("plot", runs, "--y", "los", "--out", "figure.png")


def test_what_the_command_offers_is_what_there_is() -> None:
    assert plot_command.AXES == AXES
    assert plot_command.KINDS == plot_module.KINDS


@pytest.mark.parametrize("command", [("report", "--html", "page"), ("plot", "--out", "figure.svg")])
def test_keys_of_rows_that_name_nothing_or_one_twice_are_refused(
    shell: Shell, runs: Path, command: tuple[str, ...]
) -> None:
    assert "--by: ',' names nothing" in shell.usage_error(*command, runs, "--by", ",")
    assert "--by: 'method' stands twice" in shell.usage_error(*command, runs, "--by", "method,method")
