"""The processor's widest vectors, in the loops that make numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import numba
import numpy as np
import pytest
from numba.core import config

from shoestring.zeroth.noise import numba_streams as streams

_U64 = np.uint64
WORDS, NUMBERS, BITS = np.zeros(4 * streams.BLOCKS, np.uint32), np.zeros(2048, np.float32), np.zeros(2048, np.uint32)
STAGES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "words": (streams._philox, (WORDS, _U64(1), _U64(2), _U64(0), _U64(0), _U64(16))),
    "gaussian": (streams._gaussian, (NUMBERS, WORDS, _U64(16))),
    "rademacher": (streams._rademacher, (NUMBERS, WORDS, _U64(16))),
    "rounding": (streams._dither, (BITS, WORDS, _U64(16))),
}


def compiled(function: Callable[..., None], arguments: tuple[Any, ...]) -> Any:
    """Return a stage compiled anew: what comes from numba's cache cannot be looked into."""
    fresh = numba.njit(nogil=True, error_model="numpy")(function.py_func)  # pyright: ignore[reportFunctionMemberAccess]
    fresh(*arguments)
    return fresh


@pytest.mark.parametrize("stage", STAGES)
def test_loops_use_the_widest_vectors_that_there_are(stage: str) -> None:
    made = compiled(*STAGES[stage])
    assert '"prefer-vector-width"="512"' in "".join(made.inspect_llvm().values())
    features = getattr(config, "CPU_FEATURES", None) or llvm.get_host_cpu_features().flatten()
    if "+avx512f" in features:
        assert "%zmm" in "".join(made.inspect_asm().values())


def test_without_being_asked_the_compiler_chooses() -> None:
    def doubled(numbers: Any) -> None:
        for i in range(len(numbers)):
            numbers[i] *= np.float32(2)

    made = numba.njit(doubled)
    made(NUMBERS.copy())
    assert "prefer-vector-width" not in "".join(made.inspect_llvm().values())
