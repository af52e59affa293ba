"""What the numba kernels are written with beyond numba's own functions, and how they are compiled and kept."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from zlib import crc32

import numba
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from shoestring.zeroth.noise import philox
from shoestring.zeroth.noise.threads import KERNEL


def jit(function):
    """Compile a part of a kernel."""
    return numba.njit(nogil=True, error_model="numpy")(function)


_intrinsic: Any = intrinsic  # whose result takes one argument less than what it decorates


def _reading(source, target) -> Any:
    """Return a function for kernels that reads the bits of one type as another."""

    def typed(typing, value):
        def generate(context, builder, signature, args):
            return builder.bitcast(args[0], context.get_value_type(target))

        return target(source), generate

    return _intrinsic(typed)


bits_of, float_of = _reading(types.float32, types.uint32), _reading(types.uint32, types.float32)


@_intrinsic
def pointer_to(typing, address):
    """Return the pointer that an integer is the address of."""

    def generate(context, builder, signature, args):
        return builder.inttoptr(args[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), generate


@_intrinsic
def prefetch(typing, address):
    """Ask the processor to bring the cache line of an address into its second cache; no address is a wrong one."""

    def generate(context, builder, signature, args):
        word = ir.IntType(32)
        shape = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, word, word, word])
        ask = builder.module.declare_intrinsic("llvm.prefetch", [cgutils.voidptr_t], shape)
        builder.call(ask, [builder.inttoptr(args[0], cgutils.voidptr_t), word(0), word(2), word(1)])
        return context.get_dummy_value()

    return types.none(types.int64), generate


@_intrinsic
def next_ticket(typing, counter):
    """Return what `counter` points to, and make it one more: no two threads are returned the same."""

    def generate(context, builder, signature, args):
        one = context.get_constant(types.int64, 1)
        return builder.atomic_rmw("add", args[0], one, "monotonic")

    return types.int64(types.CPointer(types.int64)), generate


@_intrinsic
def widest_vectors(typing):
    """Let the function that calls this use the processor's widest vectors: for many, LLVM takes half as wide ones."""

    def generate(context, builder, signature, args):
        builder.function.attributes.update(['"prefer-vector-width"="512"'])
        return context.get_dummy_value()

    return types.none(), generate


Entry = Callable[..., Callable[[Any], None]]
"""Given dtypes and a number, returns a kernel: a function of a pointer to 64-bit integers."""


@cache
def compiled(entry: Entry, *dtypes: type) -> Any:
    """Return the machine code of a kernel for some dtypes, to be called with the address of its table.

    It is kept on the disk for other processes; where no folder can be written, the disk is full or what lies there is
    damaged, it is compiled for this one.
    """
    work: Any = entry(*dtypes, stamp())
    signature = types.void(types.CPointer(types.int64))
    try:
        kernel: Any = numba.cfunc(signature, cache=True)(work)
    except Exception:
        kernel = numba.cfunc(signature)(work)
    found: Any = KERNEL(kernel.address)
    found.kernel = kernel  # whose machine code is freed with it
    return found


@cache
def stamp() -> int:
    """Return a number of the sources that a kernel is made from: numba would look at the file of its entry alone."""
    files = sorted(path for path in Path(__file__).parent.glob("numba_*.py"))
    return crc32(b"".join(path.read_bytes() for path in (*files, Path(philox.__file__)))) or 1
