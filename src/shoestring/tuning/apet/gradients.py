"""Gradients of the loss on training examples, for scorers that look at them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from shoestring.errors import ModelError
from shoestring.seeds import numpy_stream

if TYPE_CHECKING:
    from shoestring.tuning.apet.sites import Site
    from shoestring.tuning.look import Look


def needed(look: Look | None, kind: str) -> Look:
    """Return `look`.

    Raises:
        ModelError: if there is none, or nothing to see.
    """
    if look is None or not look.count:
        raise ModelError(
            f'tuning.scorer="{kind}" looks at training examples, and none were given: `apply_with(model, seed, look)` '
            'takes them, as `shoestring run` does; scorers "random" and "magnitude" need none'
        )
    return look


def draw(look: Look, count: int, seed: int, *path: str | int) -> list[int]:
    """Return the numbers of `count` training examples, or of all, from the stream (seed, "apet", *path)."""
    stream = numpy_stream(seed, "apet", *path)
    return stream.choice(look.count, min(count, look.count), replace=False).tolist()


def gradients(look: Look, sites: Sequence[Site], numbers: Sequence[int]) -> list[tuple[Site, Tensor]]:
    """Return the gradient of the mean loss on some examples, for the tensors that it depends on.

    Raises:
        ModelError: if it is not finite.
    """
    with torch.enable_grad(), _required(sites):
        loss = look.losses(numbers).mean()
        grads = torch.autograd.grad(loss, [site.param for site in sites], allow_unused=True)
    found = [(site, grad) for site, grad in zip(sites, grads, strict=True) if grad is not None]
    if not all(bool(grad.isfinite().all()) for _, grad in found):
        raise ModelError(
            f"the loss on training examples {list(numbers)} has a gradient that is not finite, so weights cannot be "
            "scored by it; try model.dtype=float32"
        )
    return found


@contextmanager
def _required(sites: Sequence[Site]) -> Iterator[None]:
    before = [site.param.requires_grad for site in sites]
    for site in sites:
        site.param.requires_grad_(True)
    try:
        yield
    finally:
        for site, required in zip(sites, before, strict=True):
            site.param.requires_grad_(required)
