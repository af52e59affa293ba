"""Any weights are as good as any others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from shoestring.config import Settings
from shoestring.seeds import torch_stream
from shoestring.tuning.apet.scoring import SCORERS

if TYPE_CHECKING:
    from torch import Tensor

    from shoestring.tuning.apet.sites import Site
    from shoestring.tuning.look import Look


@SCORERS.register("random")
class Random(Settings):
    """Every choice of the same size is as likely as any other. Source: Su et al. 2023, section 3."""

    looks: ClassVar[bool] = False
    uniform: ClassVar[bool] = True

    kind: Literal["random"] = "random"

    def scores(self, sites: Sequence[Site], seed: int, look: Look | None) -> Draws:
        """Return numbers drawn from the stream (seed, "apet", name of the tensor)."""
        return Draws(seed)


class Draws:
    """Uniform random numbers; a part of a tensor has one, whatever its size."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def of(self, sites: Sequence[Site], parts: int) -> Tensor:
        """Return `parts` numbers."""
        import torch

        stream = torch_stream(self._seed, "apet", sites[0].name)
        return torch.rand(parts, generator=stream, dtype=torch.float64)
