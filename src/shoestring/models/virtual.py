"""Virtual tokens: prefixes and soft prompts that a model reads before its input."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def virtual_tokens(model: nn.Module) -> int:
    """Return how many virtual tokens a model reads before its input; 0 for an ordinary one.

    Whatever adds some is a module with the attribute `virtual_tokens`. Called as usual, such a model gives logits for
    its real tokens alone; but a cache of keys and values may hold the virtual ones too, and masks of four axes and
    positions are of the real tokens: code that builds these by hand should take the simple way where this is not 0.
    """
    return max((int(getattr(module, "virtual_tokens", 0)) for module in model.modules()), default=0)
