"""`shoestring scaling`: thresholds as a table, and a figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import tiny
from cli.conftest import Shell
from shoestring.runs.run import run

pytestmark = pytest.mark.usefixtures("frozen_imports")


@pytest.fixture(scope="module")
def runs(tiny_masked_folder: Path, tiny_original: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs")
    method: dict[str, Any] = {"kind": "adam", "steps": 1, "eval_every": 1, "batch_size": 4, "lr": 1e-3}
    for tuning in ({"kind": "full"}, {"kind": "apet", "budget": 5}, {"kind": "apet", "budget": 50}):
        run(tiny.config(tiny_masked_folder, tiny_original, out, method=method, tuning=tuning))
    return out


def test_thresholds_and_a_figure_come_of_folders_of_runs(runs: Path, shell: Shell, tmp_path: Path) -> None:
    printed, _ = shell("scaling", str(runs), "--plot", str(tmp_path / "scaling.svg"))
    assert "5 to 50" in printed
    assert "apet" in printed
    assert "reaches full" in printed
    assert "<svg" in (tmp_path / "scaling.svg").read_text(encoding="utf-8")
    shell("scaling", str(runs), "--out", str(tmp_path / "scaling.md"))
    assert "5 to 50 |" in (tmp_path / "scaling.md").read_text(encoding="utf-8")


def test_mistakes_are_named(runs: Path, shell: Shell, tmp_path: Path) -> None:
    assert "no run" in shell.error("scaling", str(tmp_path))
    assert ".gif" in shell.error("scaling", str(runs), "--plot", str(tmp_path / "scaling.gif"))


def test_the_demos_sizes_are_for_exports(shell: Shell) -> None:
    assert "--sizes goes with --export FOLDER" in shell.usage_error("demo", "--sizes")
