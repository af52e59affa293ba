"""The kernel files of LM-Kernel-FT: tuples (kernel, labels), as torch writes them.

The kernel is [N, C, M, C], train examples against those of a split; for the asymmetric formula [2, N, C, M, C], with
signs on the side of the train examples, then of the others. Labels are the split's: 0, 1, ...; of two labels -1 and 1.
"""

from __future__ import annotations

import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from shoestring.errors import KernelStoreError, first_line
from shoestring.files import replacing, saving

_AXES = 4


@dataclass(frozen=True)
class Published:
    """What such a file holds.

    Attributes:
        kernel: [N, C, M, C], float64.
        labels: of the M examples [M].
        flipped: the kernel with the signs on the other side, of the asymmetric formula; else None.
    """

    kernel: Tensor
    labels: Tensor
    flipped: Tensor | None = None


def read_published(path: Path) -> Published:
    """Return the kernel of a file, without running any code that the file may hold.

    Raises:
        KernelStoreError: if it is damaged, would run code, or holds something else.
    """
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise KernelStoreError(f"{path}: there is no such file") from None
    except pickle.UnpicklingError as error:
        raise KernelStoreError(
            f"{path} holds more than tensors, which is not loaded, or is damaged: {first_line(error)}"
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise KernelStoreError(f"{path} is damaged ({first_line(error)}); fetch it again") from error
    pair = isinstance(found, tuple | list) and len(found) == 2 and all(isinstance(part, Tensor) for part in found)
    if not pair:
        raise KernelStoreError(f"{path} holds no kernel: a tuple of two tensors, kernel and labels, is meant")
    kernel, labels = found
    both = kernel.ndim == _AXES + 1 and kernel.shape[0] == 2
    shape = kernel.shape[1:] if both else kernel.shape
    if len(shape) != _AXES or shape[1] != shape[3] or labels.reshape(-1).shape != shape[2:3]:
        raise KernelStoreError(
            f"{path}: a kernel of shape {list(kernel.shape)} with labels of shape {list(labels.shape)}; "
            "[N, C, M, C] or [2, N, C, M, C] with labels [M] is meant"
        )
    kernel = kernel.double()
    return Published(kernel[0] if both else kernel, labels.reshape(-1), kernel[1] if both else None)


def write_published(path: Path, published: Published) -> None:
    """Write a file that LM-Kernel-FT reads, whole or not at all.

    Raises:
        KernelStoreError: if the flipped kernel is of another shape.
        OutputError: if the disk refuses.
    """
    kernel = published.kernel
    if published.flipped is not None:
        if published.flipped.shape != kernel.shape:
            raise KernelStoreError(
                f"a kernel of shape {list(kernel.shape)}, flipped {list(published.flipped.shape)}: both have one shape"
            )
        kernel = torch.stack((kernel, published.flipped))
    with saving(path), replacing(path) as half:
        torch.save((kernel.contiguous(), published.labels.contiguous()), half)
