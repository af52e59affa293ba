"""How many tokens a forward pass in prediction may hold: a number that memory has the last word about."""

from __future__ import annotations

import gc
import logging
import re
from dataclasses import dataclass

import torch

_LOG = logging.getLogger(__name__)
# Where throughput has long been flat on processors (larger batches only leave their caches), and flat on GPUs.
DEFAULTS = {"cpu": 4096}
DEFAULT = 16384
# What allocators say besides torch.OutOfMemoryError: torch's own for processors (Linux, Windows), cuBLAS, Metal.
_SAID = re.compile(r"DefaultCPUAllocator|not enough memory|CUBLAS_STATUS_ALLOC_FAILED|MPS backend out of memory")


@dataclass
class Budget:
    """Most tokens of a forward pass, padding included.

    Attributes:
        tokens: None until it is asked for, then a number that depends on the device; halved when memory runs out.
    """

    tokens: int | None = None

    def on(self, device: torch.device) -> int:
        """Return the number for a device."""
        if self.tokens is None:
            self.tokens = DEFAULTS.get(device.type, DEFAULT)
        return self.tokens

    def halve(self, tried: int, device: torch.device) -> None:
        """Allow half of what was `tried` and failed, say so, and give freed memory back."""
        self.tokens = max(1, min(tried, self.on(device)) // 2)
        _LOG.warning(
            "memory ran out in a forward pass of %d tokens: at most %d at once from now on; output.eval_tokens=%d "
            "begins so",
            tried, self.tokens, self.tokens,
        )  # fmt: skip
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out.

    >>> out_of_memory(torch.OutOfMemoryError("CUDA out of memory")), out_of_memory(RuntimeError("shapes differ"))
    (True, False)
    """
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and _SAID.search(str(error)) is not None
