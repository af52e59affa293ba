"""The file of a trajectory: read whole, written by appending."""

from __future__ import annotations

import json
import logging
import os
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from shoestring.errors import TrajectoryError, suggest
from shoestring.files import writing
from shoestring.zeroth.trajectory.codec import Record, Step, decode, encode, follows
from shoestring.zeroth.trajectory.header import FORMAT, Header

_MAGIC = b"shoestring.log\r\n"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trajectory:
    """All that a log says.

    Attributes:
        header: optimizer, settings, weights it began with.
        steps: what was answered, step after step.
        marks: digest of the trained weights after so many of these steps.
        place: where it was read, for messages.
        ends: offset in the file behind the header and behind each step (with the marks that follow it), and the
            checksum there.
    """

    header: Header
    steps: tuple[Step, ...]
    marks: Mapping[int, bytes]
    place: Path
    ends: tuple[tuple[int, int], ...]

    @property
    def last(self) -> int:
        """Steps its optimizer had made at the end of the log."""
        return self.header.start + len(self.steps)

    @classmethod
    def read(cls, path: Path) -> Trajectory:
        """Read a log; a last record that is torn or damaged is dropped, with a line in Python's log.

        Raises:
            TrajectoryError: if there is no such file, it is no log, or it is damaged before its last record.
        """
        data = _bytes(path)
        header, place, chain = _header(path, data)
        steps: list[Step] = []
        marks: dict[int, bytes] = {}
        ends = [(place, chain)]
        while place < len(data):
            found = decode(data, place, chain)
            if found is None:
                step = header.start + len(steps)
                if follows(data, place, chain):
                    raise TrajectoryError(
                        f"{path} is damaged at step {step} (byte {place}), and more stands behind it; "
                        f"the {len(steps)} steps before can be replayed from a copy cut off there: "
                        f"head -c {place} LOG > COPY"
                    )
                _LOG.warning("%s: the record of step %d is torn or damaged and was dropped", path, step)
                break
            record, place, chain = found
            if isinstance(record, Step):
                steps.append(record)
                ends.append((place, chain))
            else:
                marks[len(steps)] = record.digest
                ends[-1] = (place, chain)
        return cls(header, tuple(steps), marks, path, tuple(ends))


class Log:
    """A log that is being written; every record is with the system when `append` returns, on the disk after `sync`.

    Attributes:
        end: offset in the file behind all that was appended, and the checksum there.
    """

    def __init__(self, path: Path, chain: int, end: int) -> None:
        self.path = path
        self.end = (end, chain)
        # Without a buffer: what is written twice after an error would be a record twice.
        self._file = path.open("r+b", buffering=0)
        self._file.seek(end)

    @classmethod
    def begin(cls, path: Path, header: Header) -> Log:
        """Write the header to a new file.

        Raises:
            OutputError: if the disk refuses.
        """
        text = zlib.compress(header.model_dump_json().encode(), 9)
        data = _MAGIC + struct.pack("<HI", FORMAT, len(text)) + text
        chain = zlib.crc32(data)
        data += struct.pack("<I", chain)
        with writing(path):
            half = path.with_name(f".{path.name}.new")
            with half.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            half.replace(path)
            return cls(path, chain, len(data))

    @classmethod
    def go_on(cls, trajectory: Trajectory, steps: int) -> Log:
        """Cut a log off behind `steps` of its steps and return it for appending.

        Raises:
            OutputError: if the disk refuses.
        """
        end, chain = trajectory.ends[steps]
        with writing(trajectory.place):
            os.truncate(trajectory.place, end)
            log = cls(trajectory.place, chain, end)
            log.sync()
            return log

    def append(self, record: Record) -> None:
        """Write a record.

        Raises:
            OutputError: if the disk refuses; nothing of the record is left in the file, nor of one that an interrupt
                broke off.
        """
        end, chain = self.end
        data, chain = encode(record, chain)
        with writing(self.path):
            try:
                left = memoryview(data)
                while left:
                    left = left[self._file.write(left) :]
                self.end = (end + len(data), chain)
            except BaseException:
                self.cut(self.end)
                raise

    def cut(self, end: tuple[int, int]) -> None:
        """Take back what was appended since the log ended at `end`.

        Raises:
            OutputError: if the disk refuses.
        """
        with writing(self.path):
            self._file.seek(end[0])
            self._file.truncate()
        self.end = end

    def sync(self) -> None:
        """Wait until all is on the disk.

        Raises:
            OutputError: if the disk refuses.
        """
        with writing(self.path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        near = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise TrajectoryError(f"{path}: there is no such file{suggest(path.name, near)}") from None
    except OSError as error:
        raise TrajectoryError(f"{path} cannot be read: {error.strerror or error}") from None


def _header(path: Path, data: bytes) -> tuple[Header, int, int]:
    """Return the header, where it ends, and its checksum."""
    begin = len(_MAGIC) + 6
    if len(data) < begin and _MAGIC.startswith(data[: len(_MAGIC)]):
        raise TrajectoryError(_lost(path, f"torn: {len(data)} of at least {begin} bytes are there"))
    if not data.startswith(_MAGIC):
        raise TrajectoryError(f"{path} is no trajectory of a zeroth-order optimizer")
    version, length = struct.unpack_from("<HI", data, len(_MAGIC))
    if version != FORMAT:
        raise TrajectoryError(f"{path} has format {version}, this version of shoestring reads {FORMAT}")
    end = begin + length
    if len(data) < end + 4:
        raise TrajectoryError(_lost(path, f"torn or damaged: {len(data):,} of its {end + 4:,} bytes are there"))
    chain = zlib.crc32(data[:end])
    if data[end : end + 4] != struct.pack("<I", chain):
        raise TrajectoryError(_lost(path, "torn or damaged: its bytes are not those that its checksum was made of"))
    try:
        return Header.model_validate(json.loads(zlib.decompress(data[begin:end]))), end + 4, chain
    except (ValueError, zlib.error):
        what = f"that of another program: its bytes are whole, but are no header of format {FORMAT}"
        raise TrajectoryError(_lost(path, what)) from None


def _lost(path: Path, what: str) -> str:
    """Say what is wrong with a header, and what that means: nothing behind it can be read without it."""
    return (
        f"{path}: its header is {what}. The header says which optimizer and which weights the steps are of, so that "
        "none of them can be made again from this file: take another copy of it, or make the run again"
    )
