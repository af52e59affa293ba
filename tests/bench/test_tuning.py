"""The benchmark of tunings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from cli.conftest import Shell
from shoestring.bench.settings import Workload
from shoestring.bench.shapes import shape_named
from shoestring.bench.tuning import (
    FLOOR,
    FROZEN,
    TrainingStep,
    TuningBenchSettings,
    TuningReport,
    TuningRow,
    bench_tuning,
)
from shoestring.bench.work import prepare
from shoestring.cli.bench_tuning_table import tuning_table
from shoestring.errors import ModelError, UnknownNameError
from shoestring.tables.formats import as_text

SMALL = Workload(batch_size=2, tokens=8, candidates=2)
SETTINGS = TuningBenchSettings(models=("tiny-masked",), tunings=("apet", "full", "bitfit"), workload=SMALL, rounds=1)


@pytest.fixture(scope="module")
def report(frozen_imports: None) -> TuningReport:
    return bench_tuning(SETTINGS, "the command")


def test_every_tuning_has_a_row_beside_the_two_bare_passes(report: TuningReport) -> None:
    assert [row.step for row in report.rows] == [FLOOR, FROZEN, "apet", "full", "bitfit"]
    trained = {row.step: row.trained for row in report.rows}
    assert (trained["apet"], trained[FROZEN]) == (4096, 0)
    assert trained[FLOOR] == trained["full"]
    floor, frozen = report.rows[:2]
    for row in report.rows:
        assert row.time is not None
        assert floor.time is not None
        assert frozen.time is not None
        assert row.of_floor == row.time.median / floor.time.median
        assert row.of_frozen == row.time.median / frozen.time.median
        assert row.peak is not None
        assert floor.peak is not None
        assert row.peak_of_floor == row.peak / floor.peak
    assert TuningReport.model_validate_json(json.dumps(report.model_dump(mode="json"), allow_nan=False)) == report


def test_the_peak_of_full_tuning_holds_gradients_and_the_optimizers_state(report: TuningReport) -> None:
    peaks = {row.step: row.peak or 0 for row in report.rows}
    weights = report.weights["tiny-masked float32"]
    assert peaks["full"] - peaks[FROZEN] > 2 * weights
    assert peaks["bitfit"] - peaks[FROZEN] < weights
    assert peaks["apet"] < peaks["full"]


def test_a_step_moves_what_is_tuned_and_contestants_share_their_weights(frozen_imports: None) -> None:
    work = prepare(shape_named("tiny"), "float32", SMALL, torch.device("cpu"))
    racers = [TrainingStep(work, step) for step in (FLOOR, FROZEN, "apet", "lora")]
    places = {param.data_ptr() for param in work.model.parameters()}
    for racer in racers:
        racer.step()
        assert places <= {param.data_ptr() for param in racer.work.model.parameters()}
    with_grads = [sum(param.grad is not None for param in racer.work.model.parameters()) for racer in racers]
    assert with_grads[0] == len(list(work.model.parameters()))
    assert with_grads[1] == 0
    assert all(param.grad is None for param in work.model.parameters())
    racers[0].finish()
    assert all(param.grad is None for param in racers[0].work.model.parameters())


def test_a_tuning_that_a_model_cannot_have_is_a_row_without_figures(report: TuningReport) -> None:
    row = TuningRow(model="tiny", dtype="float32", step="bitfit", refused="no biases")
    table = tuning_table(report.model_copy(update={"rows": (*report.rows, row)}))
    assert "  refused  " in as_text(table).splitlines()[-1] or "refused: no biases [tiny float32 bitfit]" in table.notes


def test_goals_are_about_few_weights_of_models_that_are_large_enough() -> None:
    row = TuningRow(model="opt-125m", dtype="float32", step="apet", of_floor=0.7, of_frozen=1.05, peak_of_frozen=1.2)
    assert row.goals == {"of_floor": True, "of_frozen": True, "peak_of_frozen": False}
    assert row.model_copy(update={"model": "tiny"}).goals == row.model_copy(update={"step": "lora"}).goals == {}


def test_unknown_names_and_devices_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="unknown tuning 'appet'; did you mean 'apet'"):
        bench_tuning(SETTINGS.model_copy(update={"tunings": ("appet",)}))
    with pytest.raises(UnknownNameError, match="unknown shape of a model 'tinny'"):
        bench_tuning(SETTINGS.model_copy(update={"models": ("tinny",)}))
    if not torch.cuda.is_available():
        with pytest.raises(ModelError, match="device='cuda': this machine has no CUDA device; use cpu"):
            bench_tuning(SETTINGS.model_copy(update={"device": "cuda"}))


def test_the_command_prints_what_it_writes_and_can_be_repeated(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, frozen_imports: None
) -> None:
    monkeypatch.chdir(tmp_path)
    few = ["--model", "tiny", "--tuning", "apet", "--batch-size", "2", "--tokens", "8", "--rounds", "1"]
    out, _ = Shell()("bench", "tuning", *few, "--threads", "1", "--out", "bench.json")
    found = TuningReport.model_validate_json((tmp_path / "bench.json").read_text())
    assert [row.step for row in found.rows] == [FLOOR, FROZEN, "apet"]
    assert "4,096" in out
    assert found.command in out
    markdown, _ = Shell()(*found.command.split()[1:], "-f", "markdown")
    assert "| model | dtype " in markdown
