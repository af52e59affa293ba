from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import tiny
from shoestring.errors import NonFiniteLossError
from shoestring.runs.config import RunConfig
from shoestring.runs.record import Record, read_record
from shoestring.runs.run import run
from shoestring.studies.launch import cores, run_all

pytestmark = pytest.mark.usefixtures("frozen_imports")
SHORT = {"kind": "mezo", "steps": 4, "batch_size": 4, "eval_every": 2, "lr": 1e-3, "log_every": 1}


@pytest.fixture
def configs(tiny_masked_folder: Path, tiny_original: Path, tmp_path: Path) -> list[RunConfig]:
    """Two short runs, a zero-shot one between them."""
    sections: list[dict[str, Any]] = [
        {"method": SHORT},
        {"method": {"kind": "zero-shot"}},
        {"method": SHORT, "seed": 21},
    ]
    return [tiny.config(tiny_masked_folder, tiny_original, tmp_path / "runs", **section) for section in sections]


def numbers(record: Record) -> dict[str, Any]:
    return record.model_dump(include={"run_id", "status", "metrics", "facts", "passes", "split", "weights"})


def test_runs_in_workers_give_the_numbers_of_run_in_the_order_of_the_configs(
    configs: list[RunConfig], tmp_path: Path
) -> None:
    elsewhere = {"output": configs[0].output.model_copy(update={"folder": str(tmp_path / "alone")})}
    alone = [numbers(run(config.model_copy(update=elsewhere))) for config in configs]
    assert [numbers(record) for record in run_all(configs, jobs=2)] == alone


def test_runs_that_are_done_are_not_given_to_workers(configs: list[RunConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    records = [run(config) for config in configs]
    monkeypatch.setattr("shoestring.studies.launchers.local.Worker", None)
    assert run_all(configs, jobs=2) == records


def test_what_fails_in_a_worker_is_raised_by_its_name_and_leaves_its_record(
    tiny_masked_folder: Path, tiny_original: Path, tmp_path: Path
) -> None:
    hopeless = {"kind": "sgd", "lr": 1e30, "steps": 6, "max_grad_norm": 0.0}
    config = tiny.config(tiny_masked_folder, tiny_original, tmp_path / "runs", method=hopeless)
    with pytest.raises(NonFiniteLossError, match="the loss is nan") as caught:
        run_all([config], jobs=1)
    assert caught.value.step >= 1
    record = read_record(config.folder)
    assert record is not None
    assert record.status == "failed"


def test_this_process_has_a_core() -> None:
    assert cores() >= 1
