from __future__ import annotations

import json
from pathlib import Path

import pytest

from runs.records import record
from shoestring.errors import RunFolderError
from shoestring.runs.collect import read_records
from shoestring.runs.record import Record, read_record, write_record


def write(folder: Path, run: Record) -> Path:
    place = folder / run.run_id
    place.mkdir(parents=True)
    write_record(place, run)
    return place


def unfinished(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / ".lock").touch()
    return folder


def test_runs_are_found_by_folder_and_by_the_folder_they_lie_in(tmp_path: Path) -> None:
    one, other = record(), record(seed=21)
    place = write(tmp_path / "runs", one)
    write(tmp_path / "runs", other)
    assert {run.run_id for run in read_records([tmp_path / "runs"]).records} == {one.run_id, other.run_id}
    assert [run.run_id for run in read_records([place]).records] == [one.run_id]


def test_a_run_named_twice_is_read_once(tmp_path: Path) -> None:
    place = write(tmp_path, record())
    assert len(read_records([place, tmp_path]).records) == 1


def test_runs_that_have_not_ended_are_counted(tmp_path: Path) -> None:
    write(tmp_path, record())
    unfinished(tmp_path / "going-on")
    found = read_records([tmp_path])
    assert len(found.records) == 1
    (note,) = found.notes
    assert note.startswith("1 run has not ended (still running, or killed): ")
    assert "going-on" in note


def test_all_ended_needs_no_note(tmp_path: Path) -> None:
    write(tmp_path, record())
    assert read_records([tmp_path]).notes == ()


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    with pytest.raises(RunFolderError, match="holds no runs"):
        read_records([tmp_path])


def test_a_missing_folder_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    with pytest.raises(RunFolderError, match="there is no such folder; did you mean 'runs'"):
        read_records([tmp_path / "rnus"])


def damage(place: Path) -> None:
    text = json.loads((place / "result.json").read_text())
    del text["config"], text["checksum"]
    (place / "result.json").write_text(json.dumps(text))


def test_a_damaged_record_is_left_out_and_named(tmp_path: Path) -> None:
    whole = record(seed=21)
    write(tmp_path, whole)
    damage(write(tmp_path, record()))
    found = read_records([tmp_path])
    assert [run.run_id for run in found.records] == [whole.run_id]
    (note,) = found.notes
    assert note.startswith("left out: ")
    assert "result.json is damaged: config" in note


def test_damaged_records_alone_are_refused(tmp_path: Path) -> None:
    damage(write(tmp_path, record()))
    with pytest.raises(RunFolderError, match=r"result\.json is damaged: config"):
        read_records([tmp_path])


def test_a_record_that_was_changed_by_hand_is_left_out_and_named(tmp_path: Path) -> None:
    whole, place = record(seed=21), write(tmp_path, record(0.5))
    write(tmp_path, whole)
    text = (place / "result.json").read_text()
    (place / "result.json").write_text(text.replace('"accuracy": 0.5', '"accuracy": 0.9'))
    found = read_records([tmp_path])
    assert found.records == (whole,)
    assert "result.json was changed after it was written" in found.notes[0]


def test_records_without_a_checksum_are_taken_and_told(tmp_path: Path) -> None:
    for number in (13, 21):
        place = write(tmp_path, record(seed=number))
        (place / "result.json").write_text(json.dumps(record(seed=number).model_dump(mode="json")))
    found = read_records([tmp_path])
    assert len(found.records) == 2
    assert found.notes == ("2 records have no checksum, being of an early version: taken as found",)
    assert [read_record(folder) for folder in found.folders] == list(found.records)


def test_a_folder_that_is_none_is_refused_with_the_nearest_folder(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "ruins.csv").touch()
    with pytest.raises(RunFolderError, match=r"ruins: there is no such folder; did you mean 'runs'\? Allowed: runs$"):
        read_records([tmp_path / "ruins"])
    with pytest.raises(RunFolderError, match=r"ruins.csv is a file, where a folder of runs is meant$"):
        read_records([tmp_path / "ruins.csv"])
