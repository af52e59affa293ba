"""Records as bytes: what goes in comes out, and nothing else is taken for a record."""

from __future__ import annotations

import math
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoestring.zeroth.trajectory.codec import Mark, Record, Step, decode, encode, follows

NUMBERS = st.floats(allow_nan=False, width=32) | st.floats(allow_nan=False)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)  # fmt: skip
CHANGES = st.lists(st.tuples(st.integers(0, 99), st.text(max_size=5), VALUES), max_size=3).map(tuple)
STEPS = st.builds(
    Step,
    st.lists(NUMBERS, max_size=300).map(tuple),
    st.none() | st.floats(allow_nan=False),
    CHANGES,
    CHANGES,
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
RECORDS: Any = STEPS | st.builds(Mark, st.binary(min_size=8, max_size=8))


@given(st.lists(RECORDS, max_size=5), st.integers(0, 2**32 - 1), st.binary(max_size=9))
def test_records_come_back_as_they_were(records: list[Record], chain: int, front: bytes) -> None:
    data, checksum = front, chain
    for record in records:
        part, checksum = encode(record, checksum)
        data += part
    place, found = len(front), []
    while place < len(data):
        decoded = decode(data, place, chain)
        assert decoded is not None
        record, place, chain = decoded
        found.append(record)
    assert found == records
    assert chain == checksum


@given(STEPS, st.integers(0, 2**32 - 1), st.data())
def test_a_record_that_is_cut_or_changed_is_no_record(step: Step, chain: int, data: st.DataObject) -> None:
    whole, _ = encode(step, chain)
    cut = data.draw(st.integers(0, len(whole) - 1))
    assert decode(whole[:cut], 0, chain) is None
    place, bit = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 7))
    changed = bytearray(whole)
    changed[place] ^= 1 << bit
    assert decode(bytes(changed), 0, chain) is None
    assert decode(whole, 0, chain ^ 1) is None


def test_answers_that_float32_holds_take_four_bytes_and_others_eight() -> None:
    def size(*answers: float, **more: Any) -> int:
        return len(encode(Step(answers, **more), 0)[0])

    assert size(0.5, -2.0) == 1 + 1 + 2 * 4 + 4
    assert size(0.5, 0.1) == size(0.5, 1e300) == size(0.5, 1e-300) == 1 + 1 + 2 * 8 + 4
    assert size(0.5, -2.0, lr=0.1) == 1 + 1 + 2 * 4 + 8 + 4
    assert size(*[0.5] * 300) == 1 + 5 + 300 * 4 + 4


def test_losses_that_are_not_numbers_are_kept() -> None:
    for wide in (0.5, 0.1):
        found = decode(encode(Step((math.nan, math.inf, wide), skipped=True), 0)[0], 0, 0)
        assert found is not None
        assert isinstance(found[0], Step)
        assert math.isnan(found[0].answers[0])
        assert found[0].answers[1:] == (math.inf, wide)


def test_minus_zero_keeps_its_sign() -> None:
    found = decode(encode(Step((-0.0,)), 0)[0], 0, 0)
    assert found is not None
    assert isinstance(found[0], Step)
    assert struct.pack("<d", found[0].answers[0]) == struct.pack("<d", -0.0)


@pytest.mark.parametrize("behind", [0, 1, 2])
def test_a_record_behind_damage_is_found_wherever_it_stands(behind: int) -> None:
    data, chain = b"", 0
    for number in range(3):
        part, chain = encode(Step((float(number), 2.0)), chain)
        data += part
    size = len(data) // 3
    broken = data[: size - 3] + b"xx" + data[size - 1 :] if behind == 0 else b"rubbish" * behind + data[size:]
    assert follows(broken, 0, 0)
    assert not follows(data[: size + 5], size, 0)


def test_signalling_nans_in_what_is_no_record_are_passed_over_in_silence() -> None:
    one_answer = struct.pack("<BBI", 0, 1, 0x7F800001)
    assert decode(one_answer + bytes(64), 0, 0) is None
