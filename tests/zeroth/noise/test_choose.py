"""Which backend works: the fast one, the plain one with one log line, or the one that is asked for."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import shoestring
from shoestring.errors import OptimizerError
from shoestring.zeroth.noise import Noise, choose, noise_for, using

SOURCE = str(Path(shoestring.__file__).parent.parent)


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process of its own, warnings being errors."""
    every = os.environ | {"PYTHONPATH": SOURCE}
    command = [sys.executable, "-W", "error", "-c", code, *arguments]
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


def small(out: type, weight: type, total: type, stamp: int) -> Any:
    """An entry as the kernels' is, but compiled in no time."""

    def work(table: Any) -> None:
        if stamp:
            table[0] = 7

    return work


def answer(kernel: Any) -> int:
    table = np.zeros(4, np.int64)
    kernel(table.ctypes.data)
    return int(table[0])


def test_the_kernels_work_where_no_folder_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    from numba.core import caching

    from shoestring.zeroth.noise.numba_compiling import compiled

    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    assert answer(compiled.__wrapped__(small, np.float32, np.float32, np.float32)) == 7


@pytest.mark.parametrize(
    ("method", "error"),
    [("save", OSError(errno.ENOSPC, "No space left on device")), ("load", AttributeError("no class Layout"))],
)
def test_the_kernels_work_where_the_disk_is_full_or_what_lies_there_is_damaged(
    monkeypatch: pytest.MonkeyPatch, method: str, error: Exception
) -> None:
    from numba.core import caching

    from shoestring.zeroth.noise.numba_compiling import compiled

    refused = []

    def refuse(*arguments: object) -> None:
        refused.append(arguments)
        raise error

    monkeypatch.setattr(caching.IndexDataCacheFile, method, refuse)
    assert answer(compiled.__wrapped__(small, np.float64, np.float64, np.float64)) == 7
    assert len(refused) == 1


def test_kernels_that_are_kept_belong_to_their_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from shoestring.zeroth.noise import numba_compiling

    folder = Path(numba_compiling.__file__).parent
    for path in folder.glob("*.py"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    before = numba_compiling.stamp()
    monkeypatch.setattr(numba_compiling, "__file__", str(tmp_path / "numba_compiling.py"))
    assert numba_compiling.stamp.__wrapped__() == before
    with (tmp_path / "numba_streams.py").open("a") as file:
        file.write("# another version\n")
    assert numba_compiling.stamp.__wrapped__() != before


THREADS = """
import os, sys, torch
from shoestring.zeroth.noise import noise_for, threads
from shoestring.zeroth.noise.base import Source

started = []
openmp = threads._openmp()
if sys.argv[1:] == ["without"]:
    openmp = None
def counted(*arguments):
    started.append(arguments[2])
    return openmp(*arguments)
threads._openmp = lambda: counted if openmp is not None else None

def made(count):
    torch.set_num_threads(count)
    weight, outs = torch.ones(300_001), torch.empty(2, 300_001)
    noise = noise_for(weight)
    noise.add(weight, Source(1, "gaussian"), [(1, 0.5)], 77)
    noise.points(outs, weight, Source(1, "gaussian"), [1], [[1.0], [-1.0]], 77)
    assert torch.get_num_threads() == count
    return torch.cat([weight, outs.view(-1)])

one = made(1)
assert not started and not threads._pool.cache_info().currsize, "no thread is started where none is wanted"
assert all(torch.equal(made(count), one) for count in (2, 3, 5))
print(started, threads._pool.cache_info().currsize, flush=True)
torch.set_num_threads(3)
weight = torch.ones(300_001)
child = os.fork()
if not child:
    # Nothing of torch's here: it would wait for threads that a fork does not have.
    noise_for(weight).add(weight, Source(1, "gaussian"), [(1, 0.5)], 77)
    os._exit(0 if (weight.numpy() == one[:300_001].numpy()).all() else 1)
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only there torch's OpenMP can be asked for threads")
def test_any_number_of_torchs_threads_gives_the_same_bits_and_a_forked_process_too() -> None:
    assert run(THREADS).stdout.strip() == "[2, 2, 3, 3, 5, 5] 0"


def test_where_torch_has_no_openmp_threads_of_our_own_give_the_same_bits() -> None:
    assert run(THREADS, "without").stdout.strip() == "[] 1"


def test_without_a_library_of_torchs_there_is_no_openmp(monkeypatch: pytest.MonkeyPatch) -> None:
    from shoestring.zeroth.noise import threads

    monkeypatch.setattr(threads.torch._C, "__file__", "nowhere.so")
    assert threads._openmp.__wrapped__() is None
