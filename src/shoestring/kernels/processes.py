"""Blocks of rows spread over processes, as torchrun starts them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, distributed

from shoestring.errors import KernelError
from shoestring.kernels.blocks import Block, Layout


def mine(blocks: int) -> list[int]:
    """Return the numbers of the blocks that this process computes: every one, unless torch.distributed is set up.

    Raises:
        KernelError: if there are fewer blocks than processes.
    """
    rank, size = _place()
    if blocks < size:
        raise KernelError(
            f"{size} processes, but {blocks} blocks of rows to compute: set block_rows, to at most the number of rows "
            "over the number of processes; blocks are the same whatever the number of processes"
        )
    return list(range(rank, blocks, size))


def wait() -> None:
    """Wait for all processes."""
    if _place()[1] > 1:
        distributed.barrier()


def is_first() -> bool:
    """Return whether this is the process that writes what is written once."""
    return _place()[0] == 0


def shared(compute: Callable[[int], Block], layout: Layout, numbers: Sequence[int]) -> list[Block]:
    """Return all blocks, in order: those computed here, and those of the other processes.

    Raises:
        KernelError: if another process could not compute its blocks; what it raised is said.
    """
    _, size = _place()
    found: dict[int, Block] = {}
    if size == 1:
        return [compute(number) for number in numbers]
    failure: Exception | None = None
    try:
        for number in numbers:
            found[number] = compute(number)
    except Exception as error:  # the others wait: they must hear of it before it is raised
        failure = error
    texts: list[str | None] = [None] * size
    distributed.all_gather_object(texts, None if failure is None else f"{type(failure).__name__}: {failure}")
    if failure is not None:
        raise failure
    for rank, text in enumerate(texts):
        if text is not None:
            raise KernelError(f"process {rank} of {size} failed: {text}")
    device = _carrier()
    return [
        _broadcast(layout, number, found.get(number), number % size, device) for number in range(len(layout.blocks))
    ]


def _broadcast(layout: Layout, number: int, block: Block | None, owner: int, device: torch.device) -> Block:
    found = layout.empty(number) if block is None else block
    for name in sorted(found):
        carried: Tensor = found[name].to(device)
        distributed.broadcast(carried, owner)
        found[name] = carried.cpu()
    return found


def _carrier() -> torch.device:
    """Return the device that the backend sends from."""
    if "nccl" in str(distributed.get_backend()):
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def _place() -> tuple[int, int]:
    if not (distributed.is_available() and distributed.is_initialized()):
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()
