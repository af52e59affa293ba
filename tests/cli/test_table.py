from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from cli.conftest import Shell


def test_a_folder_of_runs_becomes_a_table(shell: Shell, runs: Path) -> None:
    out, err = shell("table", runs)
    assert err == ""
    assert "60.0 (10.0, 2)" in out
    assert "1 failed run is not in the table:" in out
    assert "1 run has not ended" in out
    assert "\x1b" not in out


@pytest.mark.parametrize(("name", "start"), [("markdown", "| model"), ("latex", r"\begin{table}"), ("text", "model  ")])
def test_formats(shell: Shell, runs: Path, name: str, start: str) -> None:
    out, _ = shell("table", runs, "--format", name)
    assert any(line.startswith(start) for line in out.splitlines())


def test_csv_is_pure_and_its_notes_go_to_stderr(shell: Shell, runs: Path) -> None:
    out, err = shell("table", runs, "-f", "csv", "--no-costs")
    heads, row = csv.reader(io.StringIO(out, newline=""))
    assert dict(zip(heads, row, strict=True))["SST-2 accuracy mean"] == "0.6"
    assert "1 failed run is not in the table:" in err


def test_layout_options_reach_the_table(shell: Shell, runs: Path) -> None:
    out, _ = shell("table", runs, "--columns", "seed", "--by", "method.lr", "--no-costs")
    assert "seed=13" in out
    assert "1e-06" in out
    out, _ = shell("table", runs, "--seeds", "13,100", "--all", "--metric", "loss")
    assert "missing seed 100" in out
    assert "0.600" in out


def test_an_unknown_key_names_the_nearest(shell: Shell, runs: Path) -> None:
    assert "unknown key 'modle'; did you mean 'model'" in shell.error("table", runs, "--by", "modle")


def test_without_a_finished_run_those_that_have_not_ended_are_named(shell: Shell, runs: Path) -> None:
    error = shell.error("table", runs / "unfinished")
    assert "there is no finished run to make a table of\n1 run has not ended (still running, or killed): " in error
