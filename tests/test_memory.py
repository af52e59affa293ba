from __future__ import annotations

import mmap

import pytest
import torch

from shoestring.memory import PeakMemory

MIB = 1 << 20


@pytest.fixture
def memory() -> PeakMemory:
    found = PeakMemory(torch.device("cpu"))
    if found.how != "VmHWM":
        pytest.skip("this system does not let a process reset its highest memory")
    return found


def hold(mib: int) -> None:
    """Touch so much memory and give it back to the system: the C library may keep what a freed tensor held."""
    with mmap.mmap(-1, mib * MIB) as held:
        for start in range(0, mib * MIB, mmap.PAGESIZE):
            held[start] = 1


def test_the_peak_of_a_lap_is_what_was_held_at_once(memory: PeakMemory) -> None:
    with memory.lap("work"):
        hold(64)
        hold(64)
    assert 60 * MIB < memory.bytes["work"] < 100 * MIB


def test_laps_of_one_name_keep_the_highest_and_names_are_apart(memory: PeakMemory) -> None:
    for mib in (16, 96, 16):
        with memory.lap("work"):
            hold(mib)
    with memory.lap("rest"):
        hold(1)
    assert memory.bytes["work"] > 90 * MIB
    assert memory.bytes["rest"] < 40 * MIB
    assert memory.bytes["never"] == 0


def test_what_happens_between_laps_does_not_count(memory: PeakMemory) -> None:
    with memory.lap("work"):
        pass
    hold(96)
    with memory.lap("work"):
        pass
    assert memory.bytes["work"] < 40 * MIB


def test_a_lap_that_fails_counts_too(memory: PeakMemory) -> None:
    def fail() -> None:
        hold(64)
        raise KeyError

    with pytest.raises(KeyError), memory.lap("work"):
        fail()
    assert memory.bytes["work"] > 60 * MIB
