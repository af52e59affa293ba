"""Who else wrote into tensors."""

from __future__ import annotations

from collections.abc import Sequence

from shoestring.errors import OptimizerError
from shoestring.zeroth.engines.guards import listed
from shoestring.zeroth.tensors import Trained


class Versions:
    """Notices when others write into tensors; engines themselves write past torch's counters.

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
        """Return the tensors that others have written into since."""
        return [one for one, before, now in zip(self._tensors, self._seen, self._now(), strict=True) if before != now]

    def _now(self) -> list[int]:
        return [tensor.param._version for tensor in self._tensors]


def refuse_changed(changed: Sequence[Trained], engine: str) -> None:
    """Say that tensors were changed while an engine had still to put them right.

    Raises:
        OptimizerError: if any was.
    """
    if changed:
        raise OptimizerError(
            f"{listed([tensor.name for tensor in changed])} changed while the weights were not in place, between two "
            f"steps of the {engine} engine; they are left as they are, without its last update: call "
            "optimizer.finalize() before loading or changing weights"
        )
