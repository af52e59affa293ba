"""Peak memory of a piece of work, above what was held when it began."""

from __future__ import annotations

import ctypes
import ctypes.util
import gc
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
