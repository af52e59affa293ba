"""Trackers of experiments: what a training logs reaches them, and none is asked that is not there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tiny
from shoestring.errors import ConfigError, MissingPackageError
from shoestring.runs.run import run
from shoestring.studies.attempt import Attempts
from shoestring.training import trackers
from shoestring.training.trackers import Tracking

pytestmark = pytest.mark.usefixtures("frozen_imports")


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_tensorboard_gets_what_the_log_gets(tiny_masked_folder: Path, tiny_original: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    output = {"folder": str(tmp_path), "report_to": ["tensorboard"]}
    method = {"kind": "mezo", "steps": 4, "batch_size": 4, "lr": 1e-3, "eval_every": 2, "log_every": 1}
    config = tiny.config(tiny_masked_folder, tiny_original, tmp_path, method=method, output=output)
    plain = tiny.config(tiny_masked_folder, tiny_original, tmp_path, method=method)
    assert config.run_id == plain.run_id
    record = run(config)
    events = EventAccumulator(str(config.folder / "tensorboard"))
    events.Reload()
    seen = {event.step: event.value for event in events.Scalars("train/loss")}
    wanted = {line["step"]: line["loss"] for line in lines(config.folder) if "loss" in line}
    assert wanted.keys() == {1, 2, 3, 4}
    assert seen == pytest.approx(wanted)
    assert run(config, force=True).metrics == record.metrics
    assert len(list((config.folder / "tensorboard").iterdir())) == 1


def test_other_trackers_are_transformers_own() -> None:
    found = Tracking(("trackio", "tensorboard"), Path("place"), "a title").arguments()
    assert (found["report_to"], found["run_name"], found["project"]) == (["trackio"], "a title", "shoestring")
    assert found["trackio_static_space_id"] is False
    assert Tracking().arguments()["report_to"] == "none"
    assert Tracking().callbacks() == []


def test_a_tracker_that_is_not_installed_is_refused_before_the_run(
    tiny_masked_folder: Path, tiny_original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    output = {"folder": str(tmp_path / "runs"), "report_to": ["wandb"]}
    config = tiny.config(tiny_masked_folder, tiny_original, tmp_path, output=output)
    with pytest.raises(MissingPackageError, match=r"output\.report_to: wandb is not installed; pip install wandb"):
        run(config)
    assert not (tmp_path / "runs").exists()
    # Not as where the disk refuses, which would end a sweep.
    assert Attempts(freeze=False).make(config, force=False).how == "failed"


def test_a_method_that_trains_nothing_has_nothing_to_report(
    tiny_masked_folder: Path, tiny_original: Path, tmp_path: Path
) -> None:
    output = {"folder": str(tmp_path), "report_to": ["trackio"]}
    with pytest.raises(ConfigError, match=r"output\.report_to has no effect: method\.kind='zero-shot' trains nothing"):
        tiny.config(tiny_masked_folder, tiny_original, tmp_path, method={"kind": "zero-shot"}, output=output)
    with pytest.raises(ConfigError, match="did you mean 'tensorboard'"):
        tiny.config(tiny_masked_folder, tiny_original, tmp_path, output={"report_to": ["tensorbord"]})
