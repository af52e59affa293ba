from __future__ import annotations

import mmap
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import shoestring
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


FAULTS = """
import ctypes, ctypes.util, os, resource, sys
from shoestring.memory import tune_allocators
if sys.argv[1] == "tuned":
    tune_allocators()
c = ctypes.CDLL(ctypes.util.find_library("c"))
c.malloc.restype, c.malloc.argtypes, c.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
def passes(count):
    for _ in range(count):
        blocks = [c.malloc(12 << 20) for _ in range(4)]
        for block in blocks:
            ctypes.memset(block, 1, 12 << 20)
        for block in reversed(blocks):
            c.free(block)
passes(2)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
passes(10)
after = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
print(after - before, *(os.environ.get(name, "") for name in ("THP_MEM_ALLOC_ENABLE", "MALLOC_TRIM_THRESHOLD_")))
"""


def allocating(how: str, **environment: str) -> list[str]:
    source = str(Path(shoestring.__file__).parent.parent)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "THP_", "LD_PRE"))}
    every = clean | {"PYTHONPATH": source} | environment
    done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, env=every, check=True)
    return done.stdout.rstrip("\n").split(" ")


@pytest.mark.skipif(sys.platform != "linux", reason="the limits are those of the GNU C library")
def test_tuned_allocators_use_the_same_pages_in_every_pass() -> None:
    plain, tuned = allocating("plain"), allocating("tuned")
    if int(plain[0]) < 1000:
        pytest.skip("this C library keeps freed blocks by itself")
    assert int(tuned[0]) < int(plain[0]) / 20
    assert tuned[1:] == ["1", str(64 << 20)]


@pytest.mark.skipif(sys.platform != "linux", reason="the limits are those of the GNU C library")
def test_limits_that_the_user_has_set_stay() -> None:
    found = allocating("tuned", MALLOC_TRIM_THRESHOLD_="131072", THP_MEM_ALLOC_ENABLE="0")
    assert found[1:] == ["0", "131072"]
