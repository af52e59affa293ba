"""Who else wrote into tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shoestring.errors import OptimizerError
from shoestring.zeroth.engines.guards import listed
from shoestring.zeroth.tensors import Trained


class Versions:
    """Notices when others write into tensors, or give them other memory.

    Engines themselves write past torch's counters; so do others who write into `param.data`, of whom nothing tells.

    Args:
        tensors: those that are watched, from now on.
    """

    def __init__(self, tensors: Sequence[Trained]) -> None:
        self._tensors = tensors
        self.note()

    def note(self) -> None:
        """Take the tensors as they are now."""
        self._seen = self._now()

    def changed(self) -> list[Trained]:
        """Return the tensors that others have written into or replaced since."""
        facts = self._now()
        if facts == self._seen:
            return []
        pairs = zip(zip(*self._seen, strict=True), zip(*facts, strict=True), strict=True)
        return [tensor for tensor, (before, now) in zip(self._tensors, pairs, strict=True) if before != now]

    def _now(self) -> list[list[Any]]:
        params = [tensor.param for tensor in self._tensors]
        # The counter knows nothing of `param.data = other` and `model.to(dtype)`.
        return [
            [param._version for param in params],
            [param.data_ptr() for param in params],
            [param.dtype for param in params],
            [param.shape for param in params],
        ]


def refuse_changed(changed: Sequence[Trained], engine: str) -> None:
    """Say that tensors were changed while an engine had still to put them right.

    Raises:
        OptimizerError: if any was.
    """
    if changed:
        raise OptimizerError(
            f"{listed([tensor.name for tensor in changed])} changed while the weights were not in place, between two "
            f"steps of the {engine} engine; they are left as they are, without its last update: call "
            "optimizer.finalize() before loading, converting or changing weights"
        )
