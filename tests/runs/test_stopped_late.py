"""A run stopped behind its training: what is made already is neither made again nor lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tiny
from shoestring.runs.config import RunConfig
from shoestring.runs.run import run

pytestmark = pytest.mark.usefixtures("frozen_imports")
# The best step is not the last one: with this learning rate the second evaluation on dev is the best.
METHOD = {"kind": "adam", "steps": 8, "batch_size": 4, "eval_every": 2, "lr": 5e-3, "log_every": 2}


def elsewhere(config: RunConfig, folder: Path, **output: Any) -> RunConfig:
    """Return the same config with another `output`."""
    return RunConfig.model_validate(config.model_dump() | {"output": {"folder": str(folder), **output}})


@pytest.fixture(scope="module")
def whole(tiny_masked_folder: Path, tiny_original: Path, tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """A config that was run without interruption."""
    config = tiny.config(tiny_masked_folder, tiny_original, tmp_path_factory.mktemp("whole"), method=METHOD)
    assert run(config).facts["selected_step"] < 8
    return config


def stop(*_: Any, **__: Any) -> Any:
    raise KeyboardInterrupt


def lines(config: RunConfig) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (config.folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("noted", [True, False], ids=["behind the note", "before the note"])
def test_metrics_of_a_training_that_is_over_stay_when_its_prediction_is_interrupted(
    noted: bool, whole: RunConfig, tmp_path: Path
) -> None:
    """All checkpoints but the best are gone by then: its step does not say how far the training came."""
    mine = elsewhere(whole, tmp_path)
    place = "shoestring.runs.run.answer" if noted else "shoestring.training.trainer.PromptTrainer._finalize_training"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(place, stop)
        with pytest.raises(KeyboardInterrupt):
            run(mine)
    assert (mine.folder / "checkpoints" / "trained.json").exists() == noted
    run(mine)
    assert lines(mine) == lines(whole)
