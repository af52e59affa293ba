"""`shoestring kernel-behaviour`: the table, in every format, and mistakes."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

import tiny
from cli.conftest import Shell
from shoestring.runs.run import run

pytestmark = pytest.mark.usefixtures("frozen_imports")


def test_runs_are_compared(shell: Shell, tiny_masked_folder: Path, tiny_original: Path, tmp_path: Path) -> None:
    output = {"folder": str(tmp_path / "runs"), "keep_model": True}
    for method in ({"kind": "sgd", "steps": 2, "batch_size": 4, "lr": 0.05}, {"kind": "kernel", "solver": "ridge"}):
        run(tiny.config(tiny_masked_folder, tiny_original, tmp_path, method=method, output=output))
    text, _ = shell("kernel-behaviour", "runs", "--examples", 2, "--batch-size", 1)
    assert "Kernel behaviour: accuracy x 100 on test, mean (sd, seeds)" in text
    assert "kernel / tuned" in text
    out, err = shell("kernel-behaviour", "runs", "--examples", 2, "--format", "csv")
    (row,) = csv.DictReader(io.StringIO(out))
    assert (row["task"], row["tuned by"], row["kernel of"]) == ("SST-2", "sgd", "sgd")
    assert row["solved"] in ("yes", "no")
    assert row["fixed"] == "yes"
    assert "the kernel solves the task where it reaches 90%" in err
    out, _ = shell("kernel-behaviour", "runs", "--examples", 2, "--format", "markdown")
    assert "| SST-2 |" in out


def test_mistakes_are_named(shell: Shell, runs: Path) -> None:
    assert "none of these runs fine-tuned to its end" in shell.error("kernel-behaviour", runs)
    assert "there is no such folder" in shell.error("kernel-behaviour", "nowhere")
    assert "did you mean 'text'" in shell.usage_error("kernel-behaviour", runs, "--format", "txt")


def test_help_names_formats_and_a_recipe_that_are_there(shell: Shell) -> None:
    out, _ = shell("kernel-behaviour", "-h")
    assert "parquet" not in out
    named = next(word for word in out.split() if word.startswith("recipes/"))
    assert (Path(__file__).parents[2] / named).is_file()
