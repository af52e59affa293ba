"""`shoestring predict`: rows in, rows with answers out."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import tiny
from cli.conftest import Shell
from shoestring.cli.main import app
from shoestring.runs.config import RunConfig
from shoestring.runs.loaded import load_run
from shoestring.runs.run import run

pytestmark = pytest.mark.usefixtures("frozen_imports")
TEXTS = ("a fine film", 'a "dull", film')


@pytest.fixture(scope="module")
def made(tiny_masked_folder: Path, tiny_original: Path, tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    out = tmp_path_factory.mktemp("runs")
    config = tiny.config(tiny_masked_folder, tiny_original, out, method={"kind": "zero-shot"})
    run(config)
    return config


@pytest.fixture
def wanted(made: RunConfig) -> list[dict[str, Any]]:
    return [answer.row() for answer in load_run(made.folder).predict(TEXTS)]


def test_a_csv_comes_back_with_answers(made: RunConfig, shell: Shell, wanted: list[dict[str, Any]]) -> None:
    with Path("new.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id", "text"), *enumerate(TEXTS)])
    out, err = shell("predict", made.folder, "new.csv", "--text-columns", "text", "--out", "labelled.csv")
    assert out == ""
    assert "labelled.csv: 2 rows, labelled by SST-2" in err
    with Path("labelled.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["id"], row["text"]) for row in rows] == [(str(i), text) for i, text in enumerate(TEXTS)]
    for row, answer in zip(rows, wanted, strict=True):
        assert row["prediction"] == answer["prediction"]
        assert float(row["probability"]) == pytest.approx(answer["probability"], rel=1e-4)
        for name, score in answer["scores"].items():
            assert float(row[f"score.{name}"]) == pytest.approx(score, rel=1e-4)


def test_jsonl_and_standard_input_go_to_the_screen(made: RunConfig, shell: Shell, wanted: list[dict[str, Any]]) -> None:
    Path("new.jsonl").write_text("".join(json.dumps({"sentence": text}) + "\n" for text in TEXTS))
    out, _ = shell("predict", made.folder, "new.jsonl")
    rows = [{"sentence": text} | answer for text, answer in zip(TEXTS, wanted, strict=True)]
    assert [json.loads(line) for line in out.splitlines()] == rows
    piped = CliRunner().invoke(app, ["predict", str(made.folder), "-f", "jsonl"], input="\n".join(TEXTS))
    assert piped.stdout == out


def test_tsv_has_a_line_a_row(made: RunConfig, shell: Shell, wanted: list[dict[str, Any]]) -> None:
    Path("new.json").write_text(
        json.dumps([{"sentence": "a fine\nfilm\t!"}, {"sentence": TEXTS[1], "n": [1], "x": 0.123456789}])
    )
    shell("predict", made.folder, "new.json", "--out", "new.tsv")
    lines = [line.split("\t") for line in Path("new.tsv").read_text().splitlines()]
    titles = ["title"] if "title" in wanted[0] else []
    scores = [f"score.{name}" for name in wanted[0]["scores"]]
    assert lines[0] == ["sentence", "n", "x", "prediction", *titles, "probability", *scores]
    assert lines[1][0] == "a fine film !"
    assert lines[2][1:3] == ["[1]", "0.123456789"]
    assert lines[2][3] == wanted[1]["prediction"]


def test_nothing_is_written_where_something_is_wrong(made: RunConfig, shell: Shell) -> None:
    Path("new.csv").write_text("sentence\nfine\n\n")
    assert "new.csv, line 3" in shell.error("predict", made.folder, "new.csv", "--out", "labelled.csv")
    assert not Path("labelled.csv").exists()
    assert "there is no such file" in shell.error("predict", made.folder, "nwe.csv")
    assert "nothing" in shell.error("predict", "nothing", "new.csv")


def test_a_folder_is_named_where_a_file_or_a_run_is_meant(made: RunConfig, shell: Shell) -> None:
    assert f"{made.folder}: is a folder, where a file is meant" in shell.error("predict", made.folder, made.folder)
    shutil.copytree(made.folder, "mine/renamed")
    assert "mine is a folder of runs; give one of them: renamed" in shell.error("predict", "mine")


def test_misuse_is_named(made: RunConfig, shell: Shell) -> None:
    Path("new.csv").write_text("sentence\nfine\n")
    usage = shell.usage_error("predict", made.folder, "new.csv", "--out", "labelled.xls")
    assert "--out labelled.xls: the name should end in .csv, .tsv, .jsonl, or give --format" in usage
    usage = shell.usage_error("predict", made.folder, "new.csv", "--out", "new.csv")
    assert "--out new.csv is the file that is read; choose another" in usage


@pytest.mark.parametrize("name", ["prediction", "probability", "score.0"])
def test_a_column_that_would_be_written_over_is_named(made: RunConfig, shell: Shell, name: str) -> None:
    Path("new.csv").write_text(f"sentence,{name}\nfine,mine\n")
    said = shell.error("predict", made.folder, "new.csv", "--out", "labelled.csv")
    assert f"new.csv: has a column {name!r}, which predict writes; call it something else" in said
    assert not Path("labelled.csv").exists()


def test_a_column_of_scores_is_in_the_way_where_these_are_one_value(made: RunConfig, shell: Shell) -> None:
    Path("new.jsonl").write_text(json.dumps({"sentence": "fine", "scores": 1}) + "\n")
    shell("predict", made.folder, "new.jsonl", "--out", "new.csv")
    assert Path("new.csv").read_text().splitlines()[1].startswith("fine,1,")
    assert "new.jsonl: has a column 'scores'" in shell.error("predict", made.folder, "new.jsonl")
