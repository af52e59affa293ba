from __future__ import annotations

import csv
import io
import os
from concurrent.futures import ThreadPoolExecutor
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


def test_medians_and_differences_are_shown(shell: Shell, runs: Path) -> None:
    assert "60.0 (50.0 to 70.0, 2)" in shell("table", runs, "--median")[0]
    assert "difference to" in shell("table", runs, "--versus", "mezo")[0]
    assert "unknown row 'mezzo'" in shell.error("table", runs, "--versus", "mezzo")


@pytest.mark.parametrize("name", ["table.md", "table.tex", "table.csv", "table.txt"])
def test_a_table_is_written_to_a_file_as_its_ending_says(shell: Shell, runs: Path, tmp_path: Path, name: str) -> None:
    out, _ = shell("table", runs, "--out", tmp_path / "made" / name)
    assert out == f"{tmp_path / 'made' / name}\n"
    kind = {"md": "markdown", "tex": "latex", "csv": "csv", "txt": "text"}[name.partition(".")[2]]
    assert (tmp_path / "made" / name).read_text() == shell("table", runs, "--format", kind)[0]


def test_parquet_is_written_to_a_file(shell: Shell, runs: Path, tmp_path: Path) -> None:
    from pyarrow import parquet

    shell("table", runs, "--out", tmp_path / "table.parquet")
    assert parquet.read_table(tmp_path / "table.parquet").num_rows == 1


def test_a_recipe_of_the_package_is_compared_with(shell: Shell, runs: Path) -> None:
    out, _ = shell("table", runs, "--against", "mezo/roberta-large-k16", "--seeds", "13,21", "--no-costs")
    assert "90.5 (1.2)" in out
    assert "missing: MeZO-LoRA\n" in out
    assert f"  shoestring sweep mezo/roberta-large-k16 output.folder={runs} --seeds 13,21\n" in out
    Path("runs").symlink_to(runs)
    out, _ = shell("table", "runs", "--against", "mezo/roberta-large-k16", "--seeds", "13,21", "--no-costs")
    assert "  shoestring sweep mezo/roberta-large-k16 --seeds 13,21\n" in out
    out, _ = shell("table", runs, "--against", "mezo/non-differentiable", "--set", "data.k=8")
    assert "shoestring sweep mezo/non-differentiable data.k=8" in out
    assert "did you mean 'mezo/opt-13b'" in shell.error("table", runs, "--against", "mezo/opt13b")


MISTAKES = {
    "two views": (["--median", "--versus", "mezo"], "show different things"),
    "settings of no recipe": (["--set", "data.k=8"], "it goes with --against"),
    "rows of a recipe": (["--against", "mezo/opt-13b", "--by", "task"], "leave --by out"),
    "columns of a recipe": (["--against", "mezo/opt-13b", "--columns", "task"], "leave --columns out"),
    "parquet on screen": (["-f", "parquet"], "parquet is no text: give --out"),
    "no ending": (["--out", "table"], "--out table: give --format, or an ending"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_options_that_do_not_go_together_are_refused(shell: Shell, runs: Path, case: str) -> None:
    words, message = MISTAKES[case]
    assert message in shell.usage_error("table", runs, *words)


def test_the_command_that_makes_missing_runs_names_the_folder_of_the_others(shell: Shell, runs: Path) -> None:
    out, _ = shell("table", runs, "--against", "mezo/opt-13b", "--no-costs")
    assert f"shoestring sweep mezo/opt-13b output.folder={runs}" in out


def test_a_place_that_cannot_be_written_is_refused_with_the_option_that_chooses_it(
    shell: Shell, runs: Path, tmp_path: Path
) -> None:
    (tmp_path / "taken").touch()
    error = shell.error("table", runs, "--out", tmp_path / "taken" / "table.md")
    assert error.endswith("taken cannot be written: a file of this name is there; choose another place with --out\n")


def test_a_table_goes_into_a_pipe_and_through_a_link_and_neither_is_replaced(
    shell: Shell, runs: Path, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "kept").mkdir()
    (tmp_path / "link.md").symlink_to("kept/table.md")
    wanted = shell("table", runs, "--format", "markdown")[0]
    with ThreadPoolExecutor() as pool:
        read = pool.submit((tmp_path / "pipe").read_text)
        out, err = shell("table", runs, "--format", "markdown", "--out", tmp_path / "pipe")
    assert (out, err) == ("", f"{tmp_path / 'pipe'}\n")
    assert read.result(timeout=10) == wanted
    assert (tmp_path / "pipe").is_fifo()
    assert shell("table", runs, "--out", tmp_path / "link.md")[0] == f"{tmp_path / 'link.md'}\n"
    assert (tmp_path / "link.md").is_symlink()
    assert (tmp_path / "kept" / "table.md").read_text() == wanted


def test_rows_of_no_keys_are_refused(shell: Shell, runs: Path) -> None:
    assert "--by: '' names nothing" in shell.usage_error("table", runs, "--by", "")
