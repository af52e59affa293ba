"""Memory of the process: the peak of a piece of work, and allocators that suit passes over a model."""

from __future__ import annotations

import ctypes
import ctypes.util
import gc
import os
import resource
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


_LARGE_PAGES = "THP_MEM_ALLOC_ENABLE"
# Numbers and variables of malloc.h's options, and the highest limits that the GNU C library sets when it adapts them.
_LIMITS = {"MALLOC_MMAP_THRESHOLD_": (-3, 32 << 20), "MALLOC_TRIM_THRESHOLD_": (-1, 64 << 20)}
_OF_THE_C_LIBRARY = (*_LIMITS, "GLIBC_TUNABLES", "LD_PRELOAD")


def tune_allocators() -> None:
    """Let memory for activations be used again, and lie in large pages: call it before torch makes its first tensor.

    A forward pass takes and frees blocks of a few MiB, again and again. The GNU C library gives such blocks back to the
    system until it has learnt better, which depends on their order, and every page that is handed out anew costs more
    time than a product spends on it: up to a fifth of a step of a small model. Here it starts with the limits that it
    would arrive at. Torch's own option for large pages, for blocks of 2 MiB and more, does the rest on Linux.

    What the user has set in the environment stays as it is; where the C library is another one, nothing happens.
    """
    os.environ.setdefault(_LARGE_PAGES, "1")
    if any(name in os.environ for name in _OF_THE_C_LIBRARY):
        return
    option = getattr(_c_library(), "mallopt", None)
    if option is None:
        return
    for name, (number, limit) in _LIMITS.items():
        option(number, limit)
        os.environ[name] = str(limit)  # for processes that this one starts


class PeakMemory:
    """Measures the highest memory inside `with memory.lap(name):` blocks, above what was held when it was made.

    On CUDA: the allocator's peak of allocated bytes. On Linux: the peak of the resident set, reset as each lap begins;
    freed memory that the C library still holds is given back first, so that what ran before does not hide a peak.
    Elsewhere: the process's highest resident set ever, which earlier work may hide.

    Attributes:
        how: how it is measured, for the record.
        bytes: highest so far of all laps of one name; 0 for a name without laps.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.bytes: Counter[str] = Counter()
        if device.type == "cuda":
            self.how = "torch.cuda.max_memory_allocated"
        else:
            self.how = "VmHWM" if _STATUS.exists() and _resets() else "ru_maxrss"
        gc.collect()
        self.release()
        self._start = self._now()

    @contextmanager
    def lap(self, name: str) -> Iterator[None]:
        """Count what happens inside the block under `name`."""
        self._reset()
        try:
            yield
        finally:
            self.bytes[name] = max(self.bytes[name], self._highest() - self._start)

    def release(self) -> None:
        """Give freed memory back to the system: call it after work that should not count, such as a checkpoint."""
        if self.how == "VmHWM":
            _trim()

    def _reset(self) -> None:
        if self.how == "VmHWM":
            _resets()
        elif self._device.type == "cuda":
            _cuda().reset_peak_memory_stats(self._device)

    def _now(self) -> int:
        if self._device.type == "cuda":
            return _cuda().memory_allocated(self._device)
        return _status("VmRSS:") if self.how == "VmHWM" else self._highest()

    def _highest(self) -> int:
        if self._device.type == "cuda":
            return _cuda().max_memory_allocated(self._device)
        return _status("VmHWM:") if self.how == "VmHWM" else _highest_ever()


def _cuda() -> Any:
    import torch

    return torch.cuda


def _status(field: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    return 0


def _resets() -> bool:
    """Reset the kernel's mark of the highest resident set; say whether it allows that."""
    try:
        _CLEAR.write_text("5")
    except OSError:
        return False
    return True


def _trim() -> None:
    trim = getattr(_c_library(), "malloc_trim", None)
    if trim is not None:
        trim(0)


@cache
def _c_library() -> ctypes.CDLL | None:
    name = ctypes.util.find_library("c")
    return ctypes.CDLL(name) if name else None


def _highest_ever() -> int:
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest if sys.platform == "darwin" else highest * 1024
