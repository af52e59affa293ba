"""A safetensors file that is written row by row, in any order, and is whole or not there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

_DTYPES = {np.dtype("float32"): "F32", np.dtype("float64"): "F64"}


class Rows:
    """Places of the rows of named tensors in an open file; in memory there are none.

    Args:
        file: an empty file.
        shapes: shape [N, D] of each tensor.
        dtype: float32 or float64.
        about: texts for the file's metadata.
    """

    def __init__(
        self, file: BinaryIO, shapes: Mapping[str, tuple[int, int]], dtype: np.dtype, about: Mapping[str, str]
    ) -> None:
        self._file, self._shapes, self._dtype = file, dict(shapes), dtype
        self._starts: dict[str, int] = {}
        header: dict[str, object] = {"__metadata__": dict(about)}
        end = 0
        for name, shape in self._shapes.items():
            self._starts[name], end = end, end + prod(shape) * dtype.itemsize
            offsets = [self._starts[name], end]
            header[name] = {"dtype": _DTYPES[dtype], "shape": list(shape), "data_offsets": offsets}
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        file.write(len(text).to_bytes(8, "little") + text)
        self._begin = file.tell()

    def put(self, name: str, numbers: Sequence[int], rows: Tensor) -> None:
        """Write rows [n, D] of a tensor at their numbers [n]."""
        values = np.ascontiguousarray(rows.cpu().numpy(), dtype=self._dtype.newbyteorder("<"))
        width = self._shapes[name][1] * self._dtype.itemsize
        for number, row in zip(numbers, values, strict=True):
            self._file.seek(self._begin + self._starts[name] + number * width)
            self._file.write(row.tobytes())
