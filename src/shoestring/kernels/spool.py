"""Where captured gradients wait for their products: in memory, or in a file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from shoestring.files import make_folder, writing
from shoestring.kernels.pieces import Flat, Outer, Piece
from shoestring.kernels.sides import Compact, Dense, OneHot, Side

Pieces = tuple[Piece, ...]
Batch = Mapping[str, Pieces]
"""Pieces of each parameter."""


class Kept:
    """Keeps pieces as they are."""

    def __init__(self) -> None:
        self._batches: list[Batch] = []

    def put(self, batch: Batch) -> None:
        """Keep the pieces of a batch."""
        self._batches.append(batch)

    def batches(self, name: str) -> tuple[Pieces, ...]:
        """Return one parameter's pieces of every batch."""
        return tuple(batch[name] for batch in self._batches)

    def close(self) -> None:
        """Keep nothing any more."""
        self._batches.clear()


@dataclass(frozen=True)
class _Place:
    """Where a tensor stands in the file."""

    start: int
    shape: torch.Size
    dtype: torch.dtype
    device: torch.device


class Spooled:
    """Writes pieces to a file without a name, which is gone with the process, and reads them when they are asked for.

    Args:
        folder: where the file is, for as long as it is.
    """

    def __init__(self, folder: Path) -> None:
        make_folder(folder)
        self._folder = folder
        with writing(folder):
            self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - closed by `close`
        self._end = 0
        self._batches: list[Batch] = []
        self._places: dict[int, _Place] = {}

    def put(self, batch: Batch) -> None:
        """Write the pieces of a batch; what several of them share is written once.

        Raises:
            OutputError: if the disk refuses.
        """
        written: dict[tuple[int, torch.Size, tuple[int, ...]], Tensor] = {}

        def park(tensor: Tensor) -> Tensor:
            key = (tensor.data_ptr(), tensor.shape, tensor.stride())
            if key not in written:
                written[key] = self._write(tensor)
            return written[key]

        parked = {name: tuple(_mapped(piece, park) for piece in pieces) for name, pieces in batch.items()}
        self._batches.append(parked)

    def batches(self, name: str) -> tuple[Pieces, ...]:
        """Return one parameter's pieces of every batch, read from the file."""
        return tuple(tuple(_mapped(piece, self._read) for piece in batch[name]) for batch in self._batches)

    def close(self) -> None:
        """Give the file up."""
        self._batches.clear()
        self._places.clear()
        with suppress(OSError):  # what could not be written is not missed
            self._file.close()

    def _write(self, tensor: Tensor) -> Tensor:
        """Return a tensor without memory that stands for one in the file."""
        whole = tensor.detach().cpu().contiguous()
        place = _Place(self._end, tensor.shape, tensor.dtype, tensor.device)
        left = memoryview(whole.view(-1).view(torch.uint8).numpy().data)
        with writing(self._folder):
            while left:
                left = left[self._file.write(left) :]
        self._end += whole.numel() * whole.element_size()
        stand_in = torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
        self._places[id(stand_in)] = place
        return stand_in

    def _read(self, stand_in: Tensor) -> Tensor:
        place = self._places[id(stand_in)]
        found = np.empty(place.shape.numel() * place.dtype.itemsize, dtype=np.uint8)
        left = memoryview(found.data)
        self._file.seek(place.start)
        with writing(self._folder):
            while left:
                count = self._file.readinto(left)  # pyright: ignore[reportAttributeAccessIssue] - a raw file has it
                if not count:
                    raise OSError("the file of captured gradients has been cut short")
                left = left[count:]
        return torch.from_numpy(found).view(place.dtype).view(place.shape).to(place.device)


Holder = Kept | Spooled


def _mapped(piece: Piece, change: Callable[[Tensor], Tensor]) -> Piece:
    """Return a piece with other tensors."""
    if isinstance(piece, Flat):
        return Flat(change(piece.values))
    return Outer(_side(piece.left, change), replace(piece.right, values=change(piece.right.values)))


def _side(side: Side, change: Callable[[Tensor], Tensor]) -> Side:
    if isinstance(side, OneHot):
        return OneHot(change(side.ids))
    if isinstance(side, Compact):
        return Compact(change(side.values), change(side.index))
    return Dense(change(side.values))
