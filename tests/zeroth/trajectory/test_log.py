"""Logs on a disk that tears, rots and fills up."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from shoestring.errors import OutputError, TrajectoryError
from shoestring.zeroth import MeZO
from shoestring.zeroth.trajectory import Recorder, Trajectory, catch_up, replay
from shoestring.zeroth.trajectory.log import Log

STEPS = 4


def fresh() -> nn.Parameter:
    return nn.Parameter(torch.linspace(-1, 1, 6))


def loss_of(theta: nn.Parameter) -> Callable[[], float]:
    return lambda: float((theta * torch.arange(6.0)).square().sum())


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of four steps, without marks; the learning rate changes in the last."""
    path, theta = tmp_path_factory.mktemp("log") / "trajectory.bin", fresh()
    optimizer = MeZO([("theta", theta)], lr=1e-3)
    recorder = Recorder(optimizer, path)
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = 1e-3 if step < 3 else 2e-3
        optimizer.step(loss_of(theta))
    recorder.close()
    return path


@pytest.fixture
def copied(log: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(log, tmp_path / "trajectory.bin"))


def offsets(path: Path) -> list[int]:
    return [place for place, _ in Trajectory.read(path).ends]


def test_a_last_record_torn_anywhere_is_dropped(copied: Path, caplog: pytest.LogCaptureFixture) -> None:
    data, ends = copied.read_bytes(), offsets(copied)
    assert ends[-1] == len(data)
    for size in range(ends[3], len(data)):
        caplog.clear()
        copied.write_bytes(data[:size])
        found = Trajectory.read(copied)
        assert (len(found.steps), found.ends[-1][0]) == (3, ends[3])
        told = [record.getMessage() for record in caplog.records]
        wanted = [f"{copied}: the record of step 3 is torn or damaged and was dropped"]
        assert told == (wanted if size > ends[3] else [])


def test_a_last_record_damaged_anywhere_is_dropped(copied: Path, caplog: pytest.LogCaptureFixture) -> None:
    data, ends = copied.read_bytes(), offsets(copied)
    for place in range(ends[3], len(data)):
        copied.write_bytes(data[:place] + bytes([data[place] ^ 0x41]) + data[place + 1 :])
        assert len(Trajectory.read(copied).steps) == 3
    assert len(caplog.records) == len(data) - ends[3]


def test_zeros_that_a_crash_left_at_the_end_are_dropped(copied: Path) -> None:
    data = copied.read_bytes()
    copied.write_bytes(data + bytes(4096))
    assert len(Trajectory.read(copied).steps) == STEPS


def test_damage_anywhere_in_the_middle_is_refused_by_the_name_of_its_step(copied: Path) -> None:
    data, ends = copied.read_bytes(), offsets(copied)
    for step in (0, 1, 2):
        for place in range(ends[step], ends[step + 1]):
            copied.write_bytes(data[:place] + bytes([data[place] ^ 0x41]) + data[place + 1 :])
            with pytest.raises(TrajectoryError, match=rf"is damaged at step {step} \(byte {ends[step]}\), and more"):
                Trajectory.read(copied)


def test_a_header_damaged_or_torn_anywhere_is_refused(copied: Path) -> None:
    data, begin = copied.read_bytes(), offsets(copied)[0]
    for place in range(0, begin, 3):
        copied.write_bytes(data[:place] + bytes([data[place] ^ 0x41]) + data[place + 1 :])
        with pytest.raises(TrajectoryError, match=r"is no trajectory|has format|header is torn or damaged"):
            Trajectory.read(copied)
        copied.write_bytes(data[:place])
        with pytest.raises(TrajectoryError, match=r"header is torn( or damaged)?: [\d,]+ ") as told:
            Trajectory.read(copied)
        assert "buffer" not in str(told.value)


def test_a_torn_header_says_what_is_there_and_what_that_means(copied: Path) -> None:
    data, begin = copied.read_bytes(), offsets(copied)[0]
    means = "none of them can be made again from this file: take another copy of it, or make the run again"
    for size, told in (
        (begin - 1, f"torn or damaged: {begin - 1:,} of its {begin:,} bytes are there"),
        (17, "torn: 17 of at least 22 bytes are there"),
        (1, "torn: 1 of at least 22 bytes are there"),
        (0, "torn: 0 of at least 22 bytes are there"),
    ):
        copied.write_bytes(data[:size])
        with pytest.raises(TrajectoryError, match=rf"its header is {told}\. The header says .*{means}$"):
            Trajectory.read(copied)
    copied.write_bytes(b"text")
    with pytest.raises(TrajectoryError, match=r"is no trajectory of a zeroth-order optimizer$"):
        Trajectory.read(copied)


@pytest.mark.parametrize("inside", [b"x", zlib.compress(b"x"), zlib.compress(b"{}"), zlib.compress(b"\xff")])
def test_a_whole_header_of_another_program_is_refused_in_plain_words(inside: bytes, copied: Path) -> None:
    head = copied.read_bytes()[:18] + struct.pack("<I", len(inside)) + inside
    copied.write_bytes(head + struct.pack("<I", zlib.crc32(head)))
    with pytest.raises(TrajectoryError, match=r"that of another program: .* are no header of format 2\. ") as told:
        Trajectory.read(copied)
    assert len(str(told.value).splitlines()) == 1


def test_a_header_that_reads_well_and_is_not_the_one_written_is_refused_by_its_checksum(copied: Path) -> None:
    data, begin = copied.read_bytes(), offsets(copied)[0]
    copied.write_bytes(data[: begin - 1] + bytes([data[begin - 1] ^ 1]) + data[begin:])
    with pytest.raises(TrajectoryError, match="its header is torn or damaged: its bytes are not those"):
        Trajectory.read(copied)


def test_another_format_is_refused(copied: Path) -> None:
    data = copied.read_bytes()
    copied.write_bytes(data[:16] + b"\x07\x00" + data[18:])
    with pytest.raises(TrajectoryError, match="has format 7, this version of shoestring reads 2"):
        Trajectory.read(copied)


def test_a_wrong_path_is_refused_with_the_nearest(copied: Path) -> None:
    with pytest.raises(TrajectoryError, match=r"there is no such file; did you mean 'trajectory\.bin'"):
        Trajectory.read(copied.parent / "trajectori.bin")
    with pytest.raises(TrajectoryError, match="cannot be read: Is a directory"):
        Trajectory.read(copied.parent)


def test_a_log_goes_on_where_it_is_cut_off(copied: Path) -> None:
    before = Trajectory.read(copied)
    with Log.go_on(before, 2) as log:
        for step in before.steps[2:]:
            log.append(step)
    assert Trajectory.read(copied).steps == before.steps
    assert copied.stat().st_size == before.ends[-1][0]


def full(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class HalfFull:
    """A file on a disk that has room for some bytes only."""

    def __init__(self, file: Any, room: int) -> None:
        self.file, self.room = file, room

    def write(self, data: Any) -> int:
        if self.room == 0:
            full()
        taken = min(self.room, len(data))
        self.room -= taken
        return self.file.write(data[:taken])

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


@pytest.mark.parametrize("room", [0, 1, 7, 13])
def test_a_step_that_a_full_disk_refuses_is_not_made_and_can_be_made_later(room: int, tmp_path: Path) -> None:
    theta = fresh()
    optimizer = MeZO([("theta", theta)], lr=1e-3)
    with Recorder(optimizer, tmp_path / "log") as recorder:
        optimizer.step(loss_of(theta))
        optimizer.estimate(loss_of(theta))
        before, size = theta.detach().clone(), recorder.path.stat().st_size
        whole = recorder._log._file
        recorder._log._file = HalfFull(whole, room)  # pyright: ignore[reportAttributeAccessIssue]
        with pytest.raises(OutputError, match=r"log cannot be written: No space left on device"):
            optimizer.step()
        assert torch.equal(theta, before)
        assert (optimizer.shared["steps"], recorder.path.stat().st_size) == (1, size)
        recorder._log._file = whole
        optimizer.step()
        optimizer.step(loss_of(theta))
    again = {"theta": torch.linspace(-1, 1, 6)}
    replay(tmp_path / "log", again)
    assert torch.equal(again["theta"], theta)


def test_a_disk_that_is_full_from_the_start_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    optimizer = MeZO([fresh()])
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match="log cannot be written: No space left on device"):
            Recorder(optimizer, tmp_path / "log")
    assert not (tmp_path / "log").exists()
    assert optimizer.observer is None
    with Recorder(optimizer, tmp_path / "log") as recorder, monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match="log cannot be written: No space left on device"):
            recorder.mark()


def test_nothing_is_logged_of_a_whole_file(log: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    assert len(Trajectory.read(log).steps) == STEPS
    assert caplog.records == []


def test_a_torn_log_is_replayed_up_to_there_and_taken_up_again(copied: Path) -> None:
    whole = {"theta": fresh().detach()}
    replay(copied, whole)
    copied.write_bytes(copied.read_bytes()[:-5])
    theta = fresh()
    optimizer = MeZO([("theta", theta)], lr=1e-3)
    assert catch_up(optimizer, copied) == 3
    with Recorder(optimizer, copied, resume=True):
        optimizer.param_groups[0]["lr"] = 2e-3
        optimizer.step(loss_of(theta))
    assert torch.equal(whole["theta"], theta)
    again = {"theta": fresh().detach()}
    replay(copied, again)
    assert torch.equal(again["theta"], theta)
