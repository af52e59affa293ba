"""How kernels are computed: nothing here changes what they are, beyond rounding."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from shoestring.config import Settings


class KernelSettings(Settings):
    """How kernels are computed."""

    batch_size: int = Field(default=8, ge=1)
    """Examples that go through the model at once."""
    memory: int = Field(default=2048, ge=1)
    """MiB that may be held beyond the model, the result, and one batch's passes."""
    block_rows: int | None = Field(default=None, ge=1)
    """Rows of a block, which is what is stored at once and what one of several processes computes; unless given, as
    many as memory allows."""
    products: Literal["auto", "written", "contracted"] = "auto"
    """Whether gradients are written out before they are multiplied; "auto" follows the cost model."""
    route: Literal["auto", "autograd"] = "auto"
    """"autograd" takes every gradient example by example, which is slow and serves any model."""
