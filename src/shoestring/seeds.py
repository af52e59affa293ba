"""Named random streams: every draw has a name, and nothing touches the global generators."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

MASK_32 = (1 << 32) - 1
MASK_63 = (1 << 63) - 1


def derive(seed: int, *path: str | int) -> int:
    """Return a 63-bit seed that depends on `seed` and on every element of `path`.

    Streams of different paths are independent for all practical purposes (SHA-256).

    >>> derive(13, "batches") != derive(13, "split") != derive(14, "split")
    True
    """
    text = "\x1f".join([str(seed), *(f"{type(part).__name__}:{part}" for part in path)])
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:8], "little") & MASK_63


def numpy_stream(seed: int, *path: str | int) -> np.random.Generator:
    """Return a NumPy generator (Philox) for the named stream."""
    return np.random.Generator(np.random.Philox(key=derive(seed, *path)))


def torch_stream(seed: int, *path: str | int) -> torch.Generator:
    """Return a CPU torch generator for the named stream."""
    import torch

    return torch.Generator().manual_seed(derive(seed, *path))


@contextmanager
def torch_seeded(seed: int) -> Iterator[None]:
    """Seed torch's global generators, of every device, inside the block and put their states back after it."""
    import torch

    metal = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
    # Seeding seeds every device, so every one has to be put back, not only the one in use.
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        try:
            torch.random.manual_seed(seed)
            yield
        finally:
            if metal is not None:
                torch.mps.set_rng_state(metal)


@contextmanager
def isolated(seed: int) -> Iterator[None]:
    """Seed Python's, NumPy's and torch's global generators inside the block and put their states back after it.

    Library code that draws from the global generators (dropout, transformers' Trainer) runs inside such a block, so
    that a run neither depends on nor disturbs what its caller does with them.
    """
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002 - to put it back
    with torch_seeded(seed):
        try:
            random.seed(seed)
            np.random.seed(seed & MASK_32)  # noqa: NPY002 - put back below
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)  # noqa: NPY002
