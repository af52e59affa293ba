"""From runs as they are made, rather than made up, to a page: the files still say what reports read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tiny
from report import made
from shoestring.report.write import write_report
from shoestring.runs.run import run
from shoestring.tables.table import shown

STEPS = {"steps": 4, "batch_size": 4, "eval_every": 2, "log_every": 1, "lr": 1e-3}


@pytest.mark.filterwarnings("ignore:.*lr_scheduler.step.*:UserWarning")
def test_runs_as_they_are_made_fill_every_section(
    tiny_masked_folder: Path, tiny_original: Path, tmp_path: Path
) -> None:
    place = tmp_path / "runs"
    methods = ({"kind": "zero-shot"}, {"kind": "mezo", **STEPS}, {"kind": "adam", **STEPS})
    records = [run(tiny.config(tiny_masked_folder, tiny_original, place, method=method)) for method in methods]
    data = made.data_of(write_report([place], tmp_path / "page").read_text(encoding="utf-8"))
    assert data["names"] == ["zero-shot", "mezo", "adam"]
    assert data["backward"] == [False, False, True]
    cells = [row[2]["text"].split()[0] for row in data["table"]["rows"]]
    assert cells == [shown("accuracy", record.metrics["test"]["accuracy"]) for record in records]

    on_dev, loss, train = data["curves"]
    lines = [json.loads(line) for line in (place / records[1].run_id / "metrics.jsonl").read_text().splitlines()]
    curve = next(one for one in on_dev["panels"][0]["series"] if one["row"] == 1)
    told = [(line["step"], line["eval_accuracy"]) for line in lines if "eval_loss" in line]
    assert curve["points"] == [[step, pytest.approx(value, rel=1e-5), None, 1] for step, value in told]
    assert curve["rate"] == 8  # Two passes over four examples.
    assert [point[0] for point in train["panels"][0]["series"][0]["points"]] == [1, 2, 3, 4]
    assert len(loss["panels"][0]["series"]) == 2

    counts = data["classes"][0]["rows"][0]["counts"]
    assert sum(map(sum, counts)) == 24
    hard = data["examples"][0]["examples"][0]
    assert "<mask>" in hard["prompt"]
    assert [one["row"] for one in hard["answers"]] == [0, 1, 2]
    assert data["runs"]["surroundings"]["common"]["packages.torch"]
