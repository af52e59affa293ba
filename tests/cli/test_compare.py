from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from cli.conftest import Shell
from shoestring.cli import screen
from shoestring.cli.compare import compare


def test_two_runs_are_compared(shell: Shell, runs: Path) -> None:
    out, err = shell("compare", f"{runs}@seed=13", f"{runs}@seed=21")
    assert err == ""
    assert "SST-2, minilm-mlm, mezo, seed 13" in out
    assert "seed  13  21" in out
    assert "SST-2 test accuracy 50.0 70.0 +20.0" in [" ".join(line.split()) for line in out.splitlines()]
    assert "answers are not compared" in out
    assert "p flips" not in out  # One pair tests nothing.


def test_groups_of_runs_are_compared_with_tests(shell: Shell, runs: Path) -> None:
    out, _ = shell("compare", f"{runs}@method=mezo", f"{runs}@method=mezo")
    assert "A B B - A p t p flips" in [" ".join(line.split()) for line in out.splitlines()]


def test_on_a_terminal_no_line_is_broken_within_a_table(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(width=60, force_terminal=True, color_system=None, file=io.StringIO(), record=True)
    monkeypatch.setattr(screen, "out", lambda: console)
    compare(f"{runs}@method=mezo", f"{runs}@method=mezo")
    lines = console.export_text().splitlines()
    rows = [line for line in lines if "SST-2 test accuracy" in line]
    assert [line.count("(10.0, 2)") for line in rows] == [1, 1, 0]
    assert "+0.0" in rows[1]
    assert max(map(len, lines)) <= 60


def test_a_comparison_as_json(shell: Shell, runs: Path) -> None:
    found = json.loads(shell("compare", f"{runs}@seed=13", f"{runs}@seed=21", "--json")[0])
    (test,) = [one for one in found["results"] if (one["split"], one["metric"]) == ("test", "accuracy")]
    assert test["test"]["count"] == 1
    assert found["differences"] == [{"key": "seed", "a": [13], "b": [21]}]


def test_a_key_that_does_not_exist_names_the_nearest(shell: Shell, runs: Path) -> None:
    assert "unknown key 'sead'; did you mean 'seed'" in shell.error("compare", f"{runs}@sead=13", runs)
