from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shoestring.errors import RecordChangedError, RunFolderError
from shoestring.runs.folder import RunFolder
from shoestring.runs.record import Record, checksum, find_record, read_record, write_record

CONFIG = {"seed": 13, "method": {"kind": "mezo", "lr": 1e-3}, "task": {"name": "SST-2"}}


def names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


def open_it(path: Path, config: dict[str, Any], *, force: bool = False) -> set[str]:
    with RunFolder(path, config).open(force=force):
        return names(path)


def test_a_new_folder_gets_its_config(tmp_path: Path) -> None:
    assert open_it(tmp_path / "a" / "b", CONFIG) == {".lock", "config.json"}
    assert json.loads((tmp_path / "a" / "b" / "config.json").read_text()) == CONFIG
    open_it(tmp_path / "a" / "b", CONFIG)


def test_a_folder_of_another_config_is_refused_and_left_alone(tmp_path: Path) -> None:
    open_it(tmp_path, CONFIG)
    (tmp_path / "result.json").write_text("kept")
    other = {**CONFIG, "method": {"kind": "adam", "lr": 1e-3}, "seed": 14}
    with pytest.raises(
        RunFolderError, match=r"holds a run of another config \(different: method\.kind, seed\).*--force"
    ):
        open_it(tmp_path, other)
    assert json.loads((tmp_path / "config.json").read_text()) == CONFIG
    assert (tmp_path / "result.json").read_text() == "kept"


def test_many_differences_are_shortened(tmp_path: Path) -> None:
    open_it(tmp_path, {f"key{n}": n for n in range(9)})
    with pytest.raises(RunFolderError, match=r"different: key0, key1, key2, key3, key4, key5, \.\.\.\)"):
        open_it(tmp_path, {f"key{n}": -n - 1 for n in range(9)})


def test_force_throws_away_what_a_run_wrote_and_nothing_else(tmp_path: Path) -> None:
    open_it(tmp_path, CONFIG)
    for name in ("result.json", "metrics.jsonl", "predictions.jsonl", "split.json", "my notes.txt"):
        (tmp_path / name).write_text("x")
    for name in ("checkpoints", "model"):
        (tmp_path / name / "inside").mkdir(parents=True)
    assert open_it(tmp_path, {"other": 1}, force=True) == {".lock", "config.json", "my notes.txt"}


def test_a_damaged_config_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"seed": ')
    with pytest.raises(RunFolderError, match=r"config\.json is damaged; delete the folder, or run with --force"):
        open_it(tmp_path, CONFIG)
    open_it(tmp_path, CONFIG, force=True)


def test_a_folder_that_is_open_in_this_process_cannot_be_opened_again(tmp_path: Path) -> None:
    with RunFolder(tmp_path, CONFIG).open(force=False), pytest.raises(RunFolderError, match="by another process"):
        open_it(tmp_path, CONFIG, force=True)
    open_it(tmp_path, CONFIG)


def test_a_folder_locked_by_another_process_is_refused_until_it_ends(tmp_path: Path) -> None:
    holder = (
        "import fcntl, sys; lock = open(sys.argv[1], 'a'); fcntl.flock(lock, fcntl.LOCK_EX); "
        "print('held', flush=True); sys.stdin.read()"
    )
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", holder, str(tmp_path / ".lock")], **pipes) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(RunFolderError, match="is being written by another process"):
            open_it(tmp_path, CONFIG)
        process.kill()
    open_it(tmp_path, CONFIG)


def test_the_log_is_appended_and_rewound_to_a_step(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, CONFIG)
    folder.rewind_log(0)
    assert names(tmp_path) == set()
    for step in (1, 2, 3):
        folder.log({"step": step, "loss": 0.5})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    folder.rewind_log(2)
    folder.log({"step": 3, "loss": 0.25})
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.5}, {"step": 3, "loss": 0.25}]


RECORD = Record(run_id="0" * 16, status="ok", config=CONFIG, started="a", finished="b", metrics={"dev": {"f1": 1.0}})


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_record(tmp_path) is None
    write_record(tmp_path, RECORD)
    assert read_record(tmp_path) == RECORD


DAMAGE = {
    "torn": ('{"format": 1, "ru', r"result\.json cannot be read: .*; delete the folder, or run with --force"),
    "a list": ("[]", "has format None, this version of shoestring reads 1"),
    "newer": ('{"format": 2}', "has format 2, this version of shoestring reads 1"),
    "lacking": ('{"format": 1}', r"result\.json is damaged: run_id: Field required; delete the folder"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_record_is_named(case: str, tmp_path: Path) -> None:
    content, message = DAMAGE[case]
    (tmp_path / "result.json").write_text(content)
    with pytest.raises(RunFolderError, match=message):
        read_record(tmp_path)


def change(folder: Path, **keys: Any) -> None:
    path = folder / "result.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **keys}))


CHANGED = r"result\.json was changed after it was written: .*; put the file back as it was, or delete the folder"


@pytest.mark.parametrize("keys", [{"metrics": {"dev": {"f1": 0.9}}}, {"status": "failed"}, {"checksum": "0" * 64}])
def test_a_record_that_was_edited_by_hand_is_refused(keys: dict[str, Any], tmp_path: Path) -> None:
    write_record(tmp_path, RECORD)
    change(tmp_path, **keys)
    with pytest.raises(RecordChangedError, match=CHANGED):
        read_record(tmp_path)


def test_how_a_record_is_laid_out_is_no_change(tmp_path: Path) -> None:
    write_record(tmp_path, RECORD)
    path = tmp_path / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()), sort_keys=True, indent=7))
    assert read_record(tmp_path) == RECORD


def test_a_record_of_an_early_version_has_no_checksum_and_is_read(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(json.dumps(RECORD.model_dump(mode="json")))
    found = find_record(tmp_path)
    assert found is not None
    assert (found.record, found.sealed) == (RECORD, False)


def test_a_sealed_record_with_keys_that_nobody_knows_is_of_another_version(tmp_path: Path) -> None:
    document = {**RECORD.model_dump(mode="json"), "weather": "fine"}
    (tmp_path / "result.json").write_text(json.dumps({**document, "checksum": checksum(document)}))
    with pytest.raises(RunFolderError, match=r"is of another version of shoestring than this one, .*: weather: Extra"):
        read_record(tmp_path)
