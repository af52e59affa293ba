"""Runs on subsets of tasks that bring candidates of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tiny
from shoestring.runs.run import run

pytestmark = pytest.mark.usefixtures("frozen_imports")


def copa(folder: Path, name: str, count: int) -> list[dict[str, Any]]:
    """Write a file of COPA's own format."""
    row = {"premise": "It rained.", "question": "effect"}
    rows = [row | {"choice1": f"A film {at}", "choice2": f"the plot {at}", "label": at % 2} for at in range(count)]
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows


def sections(model: Path, data: dict[str, Any], method: str, **more: Any) -> dict[str, Any]:
    subset = {"k": 16, "mode": "subset"} | data
    causal = {"kind": "causal", "name": str(model)}
    return {"task": "Copa", "data": subset, "model": causal, "method": {"kind": method}, **more}


def predictions(folder: Path, split: str = "test") -> list[dict[str, Any]]:
    lines = (folder / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    return [row for row in map(json.loads, lines) if row["split"] == split]


def test_predictions_of_a_choice_are_the_candidates_themselves(tiny_causal_folder: Path, tmp_path: Path) -> None:
    rows = copa(tmp_path, "val.jsonl", 5)
    chosen = sections(tiny_causal_folder, {"num_train": 0}, "zero-shot")
    done = run(tiny.config(tiny_causal_folder, tmp_path, tmp_path / "runs", **chosen))
    found = predictions(tmp_path / "runs" / done.run_id)
    assert [line["label"] for line in found] == [row[f"choice{1 + row['label']}"] for row in rows]
    for line, row in zip(found, rows, strict=True):
        assert line["prediction"] == row[f"choice{1 + int(line['scores'][1] > line['scores'][0])}"]
    assert done.metrics["test"]["accuracy"] == sum(line["label"] == line["prediction"] for line in found) / 5


def test_each_test_example_is_shown_a_training_set_of_its_own(tiny_causal_folder: Path, tmp_path: Path) -> None:
    copa(tmp_path, "train.jsonl", 6)
    copa(tmp_path, "val.jsonl", 3)
    shown = {"prompt": {"demonstrations": {"kind": "in-context", "count": 1}}}
    digests = []
    for changes in ({"per_example": True}, {"per_example": True, "num_train": 2}, {"seed": 0}):
        chosen = sections(tiny_causal_folder, {"num_train": 1} | changes, "in-context", **shown)
        done = run(tiny.config(tiny_causal_folder, tmp_path, tmp_path / "runs", **chosen))
        assert set(done.metrics) == {"test"}
        assert done.split is not None
        digests.append(done.split.digest)
    assert len({*digests}) == 3
