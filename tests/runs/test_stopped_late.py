"""A run stopped behind its training: what is made already is neither made again nor lost."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest

import tiny
from shoestring.runs.config import RunConfig
from shoestring.runs.folder import RunFolder
from shoestring.runs.record import Record, read_record, write_record
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


def names(config: RunConfig) -> set[str]:
    return {entry.name for entry in config.folder.iterdir()}


def kill_behind_the_record(config: RunConfig, patch: pytest.MonkeyPatch) -> None:
    """Make a run whose process is gone just behind the writing of its record, as a kill leaves it."""

    def write(folder: Path, record: Record) -> None:
        write_record(folder, record)
        raise KeyboardInterrupt

    patch.setattr("shoestring.runs.run.write_record", write)
    with pytest.raises(KeyboardInterrupt):
        run(config)
    for name in (".result.json.ab12_xyz", ".predictions.jsonl.00000000"):
        (config.folder / name).write_text("half")
    (config.folder / ".model").mkdir()
    (config.folder / ".notes.12345678").write_text("mine")
    assert {"checkpoints", "answers.partial.jsonl"} <= names(config)


def test_what_a_run_killed_behind_its_record_left_goes_when_it_is_found_finished(
    whole: RunConfig, tmp_path: Path
) -> None:
    mine = elsewhere(whole, tmp_path, keep_model=True)
    with pytest.MonkeyPatch.context() as patch:
        kill_behind_the_record(mine, patch)
    before = {path.name: path.read_bytes() for path in (mine.folder / "model").iterdir()}
    made = read_record(mine.folder)
    with RunFolder(mine.folder, {}).open(force=False):
        # Another process is at it: whoever only reads the record does not wait, nor is in its way.
        assert run(mine) == made
        assert (mine.folder / "checkpoints").is_dir()
    assert run(mine) == made
    assert names(mine) == names(whole) | {"model", ".notes.12345678"}
    assert {path.name: path.read_bytes() for path in (mine.folder / "model").iterdir()} == before


def test_a_finished_run_is_read_where_nothing_may_be_removed(whole: RunConfig, tmp_path: Path) -> None:
    mine = elsewhere(whole, tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        kill_behind_the_record(mine, patch)

    def refuse(*_: Any, **__: Any) -> Any:
        raise PermissionError(errno.EACCES, "Permission denied")

    def opened(path: Path, mode: str = "r", *arguments: Any, **more: Any) -> Any:
        return refuse() if "a" in mode else original(path, mode, *arguments, **more)

    left, original = names(mine), Path.open
    for refused in ({"pathlib.Path.open": opened}, {"os.unlink": refuse, "os.rmdir": refuse}):
        with pytest.MonkeyPatch.context() as patch:
            for name, replacement in refused.items():
                patch.setattr(name, replacement)
            assert run(mine).status == "ok"
    assert names(mine) == left


def test_half_written_files_of_a_killed_process_go_when_the_run_comes_to_its_end(
    whole: RunConfig, tmp_path: Path
) -> None:
    mine = elsewhere(whole, tmp_path)
    mine.folder.mkdir(parents=True)
    (mine.folder / ".metrics.jsonl.ab12_xyz").write_text("half")
    run(mine)
    assert names(mine) == names(whole)
