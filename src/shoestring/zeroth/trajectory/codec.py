"""Records of a trajectory as bytes, each bound by its checksum to all that stand before it."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Change = tuple[int, str, Any]
"""Number of a parameter group, name of one of its options, the new value; group -1 is the optimizer itself."""

_WIDE, _SKIPPED, _RATE, _CHANGES, _FINALIZED, _DISTURBED, _MARK = 1, 2, 4, 8, 16, 32, 128
_LONG = 255
DIGEST_BYTES = 8
OPTIMIZER = -1


@dataclass(frozen=True)
class Step:
    """What one step was told; what it does follows from that.

    Attributes:
        answers: the losses it was answered, in the order it asked for them.
        lr: the learning rate of all groups, where it changed since the step before.
        before: other options that were changed from outside before the estimate.
        between: options that were changed between the estimate and the update.
        skipped: whether the step moved nothing, since a loss was not finite or the losses told nothing.
        finalized: whether updates that an engine had put off were applied before the estimate.
        disturbed: whether an estimate was made before this one, or failed, without a step.
    """

    answers: tuple[float, ...]
    lr: float | None = None
    before: tuple[Change, ...] = ()
    between: tuple[Change, ...] = ()
    skipped: bool = False
    finalized: bool = False
    disturbed: bool = False


@dataclass(frozen=True)
class Mark:
    """A digest of the trained weights where it stands, so that a replay can see that it is right."""

    digest: bytes


Record = Step | Mark


def encode(record: Record, chain: int) -> tuple[bytes, int]:
    """Return the bytes of a record and the checksum that the next one goes on from.

    A step is: one byte of flags; the number of answers, one byte, or 255 and four; the answers, four bytes each where
    float32 holds all of them exactly, else eight; eight of the learning rate, where it changed; the length, four bytes,
    and the JSON text of other changes, where there are any. All is little-endian. A mark is a flag and eight bytes.
    Four bytes follow: the CRC-32 of these, begun with that of the record before.

    Args:
        record: a step or a mark.
        chain: checksum of the record before; of the header for the first.
    """
    body = _step(record) if isinstance(record, Step) else bytes([_MARK]) + record.digest
    chain = zlib.crc32(body, chain)
    return body + struct.pack("<I", chain), chain


def decode(data: bytes, start: int, chain: int) -> tuple[Record, int, int] | None:
    """Return the record at `start`, where it ends and its checksum; None if it is torn or damaged."""
    found = _body(data, start, chain)
    if found is None or data[found[1] : found[1] + 4] != struct.pack("<I", found[2]):
        return None
    record, end, chain = found
    return record, end + 4, chain


def follows(data: bytes, start: int, chain: int) -> bool:
    """Return whether a whole record stands anywhere behind the damaged one at `start`: then that was not the last."""
    damaged = _body(data, start, chain)
    if damaged is not None and decode(data, damaged[1] + 4, damaged[2]) is not None:
        return True  # The damage is in the checksum of an otherwise good record.
    return any(
        decode(data, place, struct.unpack_from("<I", data, place - 4)[0]) is not None
        for place in range(start + 4, len(data))
    )


def _body(data: bytes, start: int, chain: int) -> tuple[Record, int, int] | None:
    """Return what may be a record at `start`, where its checksum stands, and what that should be."""
    try:
        record, end = _parse(data, start)
    except (struct.error, IndexError, ValueError, TypeError):
        return None
    return (record, end, zlib.crc32(data[start:end], chain)) if end <= len(data) else None


def _step(step: Step) -> bytes:
    wide = np.asarray(step.answers, "<f8")
    with np.errstate(over="ignore", under="ignore"):
        narrow = wide.astype("<f4")
    exact = np.array_equal(narrow.astype("<f8"), wide, equal_nan=True)
    flags = 0 if exact else _WIDE
    flags |= _SKIPPED * step.skipped | _FINALIZED * step.finalized | _DISTURBED * step.disturbed
    count = len(step.answers)
    parts = [
        struct.pack("<B", count) if count < _LONG else struct.pack("<BI", _LONG, count),
        (narrow if exact else wide).tobytes(),
    ]
    if step.lr is not None:
        flags |= _RATE
        parts.append(struct.pack("<d", step.lr))
    if step.before or step.between:
        flags |= _CHANGES
        text = json.dumps([step.before, step.between], separators=(",", ":")).encode()
        parts.append(struct.pack("<I", len(text)) + text)
    return b"".join([bytes([flags]), *parts])


def _parse(data: bytes, start: int) -> tuple[Record, int]:
    flags, place = data[start], start + 1
    if flags == _MARK:
        return Mark(data[place : place + DIGEST_BYTES]), place + DIGEST_BYTES
    count, place = data[place], place + 1
    if count == _LONG:
        (count,), place = struct.unpack_from("<I", data, place), place + 4
    size = 8 if flags & _WIDE else 4
    end = place + size * count
    if end > len(data):
        raise IndexError(end)
    with np.errstate(invalid="ignore"):  # What is no record may have signalling NaNs.
        answers = tuple(np.frombuffer(data, f"<f{size}", count, place).astype("<f8").tolist())
    lr, before, between = None, (), ()
    if flags & _RATE:
        (lr,), end = struct.unpack_from("<d", data, end), end + 8
    if flags & _CHANGES:
        (length,), end = struct.unpack_from("<I", data, end), end + 4
        before, between = map(_changes, json.loads(data[end : end + length]))
        end += length
    step = Step(
        answers, lr, before, between, bool(flags & _SKIPPED), bool(flags & _FINALIZED), bool(flags & _DISTURBED)
    )
    return step, end


def _changes(rows: Sequence[Any]) -> tuple[Change, ...]:
    return tuple((int(group), str(name), value) for group, name, value in rows)
