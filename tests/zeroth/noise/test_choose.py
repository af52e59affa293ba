"""Which backend works: the fast one, the plain one with one log line, or the one that is asked for."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import shoestring
from shoestring.errors import OptimizerError
from shoestring.zeroth.noise import Noise, choose, noise_for, using

SOURCE = str(Path(shoestring.__file__).parent.parent)


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process of its own, warnings being errors."""
    every = os.environ | {"PYTHONPATH": SOURCE} | environment
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=every, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture
def fresh() -> Any:
    """Forget the choices made, before and after."""
    choose._best.cache_clear()
    choose._made.cache_clear()
    yield
    choose._best.cache_clear()
    choose._made.cache_clear()


def test_tensors_on_the_cpu_get_numba_and_those_elsewhere_plain_torch() -> None:
    assert noise_for(torch.zeros(1)).name == "numba"
    assert noise_for(torch.zeros(1, device="meta")).name == "torch"


def test_a_backend_can_be_asked_for_and_is_left_again() -> None:
    with using("torch") as outer:
        assert noise_for(torch.zeros(1)) is outer
        with using("numba"):
            assert noise_for(torch.zeros(1)).name == "numba"
        assert noise_for(torch.zeros(1)).name == "torch"
    assert noise_for(torch.zeros(1)).name == "numba"


def test_a_backend_that_does_not_exist_is_named() -> None:
    with (
        pytest.raises(OptimizerError, match="no noise backend 'jax'; choose from: torch, numba, triton"),
        using("jax"),
    ):
        pass


def broken() -> Noise:
    raise ImportError("numba needs NumPy 1.0 or older\nlong story")


def test_without_numba_one_line_says_what_is_lost(
    fresh: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(choose._MAKERS, "numba", broken)
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            assert noise_for(torch.zeros(3)).name == "torch"
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage() == (
        "random directions on cpu are made by plain torch operations, thirty times slower: "
        "numba cannot be used (ImportError: numba needs NumPy 1.0 or older)"
    )


def test_asking_for_a_backend_that_cannot_be_used_says_why(fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(choose._MAKERS, "numba", broken)
    with (
        pytest.raises(
            OptimizerError, match=r"'numba' cannot be used here: ImportError: numba needs NumPy 1.0 or older"
        ),
        using("numba"),
    ):
        pass


def test_importing_the_package_imports_neither_numba_nor_triton() -> None:
    run("import shoestring.zeroth, sys; assert 'numba' not in sys.modules and 'triton' not in sys.modules")


def test_the_kernels_work_where_no_folder_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    from numba.core import caching

    from shoestring.zeroth.noise import numba_kernels

    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    assert numba_kernels._kept(lambda value: value + 1)(2) == 3


@pytest.mark.parametrize(
    ("method", "error"),
    [("save", OSError(errno.ENOSPC, "No space left on device")), ("load", AttributeError("no class Layout"))],
)
def test_the_kernels_work_where_the_disk_is_full_or_what_lies_there_is_damaged(
    monkeypatch: pytest.MonkeyPatch, method: str, error: Exception
) -> None:
    from numba.core import caching

    from shoestring.zeroth.noise import numba_backend, numba_kernels

    refused = []

    def refuse(*arguments: object) -> None:
        refused.append(arguments)
        raise error

    def write(array: Any, value: int) -> None:
        array[0] = value

    monkeypatch.setattr(caching.IndexDataCacheFile, method, refuse)
    monkeypatch.setattr(numba_kernels.combine, "_cache", caching.NullCache())
    out = torch.zeros(3).numpy()
    numba_backend._run(numba_kernels._kept(write), out, 5)
    assert len(refused) == 1
    assert out[0] == 5


THREADS = """
import os, sys, torch, numba
from shoestring.zeroth.noise import noise_for
from shoestring.zeroth.noise.base import Source
from shoestring.zeroth.noise import threads

def made(count):
    torch.set_num_threads(count)
    weight, outs = torch.ones(100_001), torch.empty(2, 100_001)
    noise = noise_for(weight)
    noise.add(weight, Source(1, "gaussian"), [(1, 0.5)], 77)
    noise.points(outs, weight, Source(1, "gaussian"), [1], [[1.0], [-1.0]], 77)
    assert torch.get_num_threads() == count
    return torch.cat([weight, outs.view(-1)])

one = made(1)
assert not threads._started, "no thread is started where none is wanted"
assert all(torch.equal(made(count), one) for count in (2, 3, 5))
assert numba.get_num_threads() == 3
print(numba.threading_layer(), flush=True)
torch.set_num_threads(3)
weight = torch.ones(100_001)
child = os.fork()
if not child:
    # Nothing of torch's here: it would wait for threads that a fork does not have.
    noise_for(weight).add(weight, Source(1, "gaussian"), [(1, 0.5)], 77)
    os._exit(0 if (weight.numpy() == one[:100_001].numpy()).all() else 1)
assert os.waitpid(child, 0)[1] == 0
"""


def test_any_number_of_threads_gives_the_same_bits_and_a_forked_process_too() -> None:
    assert run(THREADS, NUMBA_NUM_THREADS="3").stdout.strip() in ("omp", "tbb", "workqueue")


def test_a_missing_threading_layer_costs_the_threads_and_says_so() -> None:
    code = """
import torch
from shoestring.zeroth.noise import noise_for
from shoestring.zeroth.noise.base import Source
torch.set_num_threads(2)
weight = torch.ones(100_001)
for _ in range(2):
    noise_for(weight).add(weight, Source(1, "gaussian"), [(1, 0.5)])
"""
    said = run(code, NUMBA_NUM_THREADS="2", NUMBA_THREADING_LAYER="tbb").stderr.splitlines()
    assert said == ["random directions are made on one thread: No threading layer could be loaded."]
