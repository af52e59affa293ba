"""Random directions: a direction is never stored, it is a function of (direction seed, tensor, element)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from shoestring.seeds import MASK_63

_CHUNK = 1 << 20


def gaussian(seed: int, tensor: int, size: int) -> Iterator[tuple[slice, Tensor]]:
    """Yield z ~ N(0, I) of `size` elements as consecutive (slice, float32 values) chunks.

    The values depend on nothing but (seed, tensor, element): not on the device, the dtype of the weights, the chunk
    size, the global random state, or which other tensors are trained. Philox 4x64 in counter mode, keyed by
    (seed, tensor), with NumPy's ziggurat. A chunk is at most 4 MiB; whoever scales and casts it holds a few of them.

    Args:
        seed: the direction's seed, 0 <= seed < 2^63.
        tensor: key of the tensor, 0 <= tensor < 2^63: a hash of its name, or its place among the trained ones.
        size: number of elements.

    Differs: the reference draws all tensors in order from one torch generator, so its direction for a tensor depends
        on the shapes before it and on the device (princeton-nlp/MeZO large_models/trainer.py:708).
    """
    stream = np.random.Generator(np.random.Philox(key=(seed & MASK_63) | (tensor << 64)))
    for start in range(0, size, _CHUNK):
        stop = min(start + _CHUNK, size)
        yield slice(start, stop), torch.from_numpy(stream.standard_normal(stop - start, dtype=np.float32))


def add_direction(param: Tensor, seed: int, tensor: int, scale: float) -> None:
    """Compute `param += scale * z` in place, in the dtype of `param` (float32 products for half precision).

    Beside the weights, a few chunks of 4 MiB are alive at a time: z, scale z, and its cast (8 MiB each in float64).
    """
    flat = param.data.view(-1) if param.is_contiguous() else None
    target = flat if flat is not None else param.data.reshape(-1)
    for part, z in gaussian(seed, tensor, param.numel()):
        z = z.to(device=param.device, dtype=torch.promote_types(param.dtype, torch.float32))
        target[part] += (z * scale).to(param.dtype)
    if flat is None:
        param.data.copy_(target.view_as(param))
