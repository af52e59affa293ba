"""Threads for the kernels: those of torch, lest two sets of them fight over the cores."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from typing import Any

import torch

KERNEL = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
"""Machine code that is called with an address, outside of Python's lock; threads that call it share the work."""
_forked = False


def share(work: Callable[[int], None], address: int, count: int) -> None:
    """Call `work` with an address in `count` threads at once; return when all have.

    OpenMP's threads go on spinning for a while after their work. If directions had a set of their own, each would find
    the cores taken by the other's: so we ask torch's OpenMP for them, and only where it has none start our own.

    A forked process has none of its parent's threads, and GNU's OpenMP would wait for them: there it is one thread.
    """
    if count < 2 or _forked:
        work(address)
    elif (openmp := _openmp()) is not None:
        openmp(work, address, count, 0)
    else:
        others = [_pool().submit(work, address) for _ in range(count - 1)]
        work(address)
        wait(others)


@cache
def _openmp() -> Any:
    """Return the function that starts a parallel region in the OpenMP library that torch uses, or None."""
    try:
        # A library's handle finds what those that it needs have, torch's OpenMP among them.
        found = ctypes.CDLL(torch._C.__file__).GOMP_parallel
    except (OSError, AttributeError):
        return None
    found.argtypes, found.restype = [KERNEL, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint], None
    return found


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count() or 1, "shoestring-noise")


def _mark() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_mark)
