"""numba's threads: how many there are, and when they must not be used."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any

import numba
import torch

_LOG = logging.getLogger("shoestring.zeroth.noise")
_ONE_AT_A_TIME = threading.Lock()
_CONFIG: Any = numba.config
_started: dict[str, int] = {}


def most() -> int:
    """Return the most threads that numba may use in this process: 1 in one forked after they were started.

    A fork has none of its parent's threads, and GNU's OpenMP ends a process that asks for them there.
    """
    here = os.getpid()
    return _CONFIG.NUMBA_NUM_THREADS if _layer() and _started.setdefault("pid", here) == here else 1


@contextmanager
def limited(count: int) -> Iterator[None]:
    """Let numba use `count` threads; one caller at a time where its threading layer bears no more."""
    with _ONE_AT_A_TIME if _layer() == "workqueue" else nullcontext():
        before = numba.get_num_threads()
        numba.set_num_threads(count)
        try:
            yield
        finally:
            numba.set_num_threads(before)


@cache
def _layer() -> str:
    """Start the threads; return the name of the layer, or "" if there is none.

    OpenMP is preferred: torch has loaded the same library, so the two share threads rather than fight over cores.
    """
    if "NUMBA_THREADING_LAYER_PRIORITY" not in os.environ:
        _CONFIG.THREADING_LAYER_PRIORITY = ["omp", "tbb", "workqueue"]
    used = torch.get_num_threads()  # which is OpenMP's number: starting numba's threads sets it to theirs
    try:
        numba.set_num_threads(_CONFIG.NUMBA_NUM_THREADS)
        return numba.threading_layer()
    except ValueError as error:
        _LOG.warning("random directions are made on one thread: %s", str(error).splitlines()[0])
        return ""
    finally:
        torch.set_num_threads(used)
