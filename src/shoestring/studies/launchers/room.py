"""Memory for further runs on this machine: what is there, and what a run is thought to need."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from shoestring.models.settings import ModelSettings

_GIB = 1 << 30
# A process with torch and transformers, before it loads a model; what training adds to the weights, at worst, as Adam
# has it: gradients, two moments, and activations of small batches. Both hold until a run has been measured.
_BARE, _TIMES = 0.75 * _GIB, 5.0


class Room:
    """Says whether memory is enough for one more run beside those that go on.

    Args:
        limit: bytes that all runs together may use; what the machine (or its control group) has, unless given.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
        self._measured: dict[str, int] = {}

    def learn(self, model: ModelSettings, peak: int) -> None:
        """Note the highest memory of a process that made a run with a model."""
        self._measured[model.name] = max(peak, self._measured.get(model.name, 0))

    def need(self, model: ModelSettings) -> int:
        """Return the bytes that a process for a run with a model will hold at most, as far as that is known."""
        return self._measured.get(model.name) or int(_BARE + _TIMES * _weights(model))

    def holds(self, model: ModelSettings, running: Iterable[tuple[ModelSettings, int]], idle: int = 0) -> bool:
        """Return whether one more run fits.

        Args:
            model: of the run.
            running: model and bytes held by the process of each run that goes on.
            idle: bytes held by the process that would make it; 0 for a new one.
        """
        going = list(running)
        wanted = max(0, self.need(model) - idle)
        if self._limit is not None:
            return wanted + idle + sum(max(self.need(other), held) for other, held in going) <= self._limit
        coming = sum(max(0, self.need(other) - held) for other, held in going)
        free = available()
        return free is None or wanted + coming <= free


def available() -> int | None:
    """Return the bytes that processes may still take, of the machine's and of the control group's; None if unknown."""
    found = [number for number in (_of_machine(), _of_group()) if number is not None]
    return min(found) if found else None


def held(pid: int) -> int:
    """Return the bytes that a process holds; 0 where that cannot be known."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def _of_machine() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _of_group(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    try:
        most, now = (root / "memory.max").read_text().strip(), int((root / "memory.current").read_text())
        cache = [
            line.split()[1] for line in (root / "memory.stat").read_text().splitlines() if line.startswith("file ")
        ]
        return int(most) - now + sum(map(int, cache)) if most != "max" else None
    except (OSError, ValueError):
        return None


def _weights(model: ModelSettings) -> int:
    """Return the bytes of a model's files, where it is a folder here or in the hub's cache; 0 where it is neither."""
    folder = Path(model.name)
    if not folder.is_dir():
        copy = _copy(model)
        if copy is None:
            return 0
        folder = copy
    sizes = {".safetensors": 0, ".bin": 0}  # Of a model that has both, one is read.
    for path in folder.iterdir():
        if path.suffix in sizes:
            sizes[path.suffix] += path.stat().st_size
    return max(sizes.values())


def _copy(model: ModelSettings) -> Path | None:
    """Return the folder of a hub id in the hub's cache, without asking the hub."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(model.name, "config.json", revision=model.revision or "main")
    except HFValidationError:
        return None
    return Path(found).parent if isinstance(found, str) else None
