"""The largest weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from shoestring.config import Settings
from shoestring.tuning.apet.scoring import SCORERS, Elementwise

if TYPE_CHECKING:
    from torch import Tensor

    from shoestring.tuning.apet.sites import Site
    from shoestring.tuning.look import Look


@SCORERS.register("magnitude")
class Magnitude(Settings):
    """The largest weights, |w|, or the smallest, -|w|. Source: Liu et al. 2024 (Sparse-MeZO), section 3, the latter."""

    looks: ClassVar[bool] = False
    uniform: ClassVar[bool] = False

    kind: Literal["magnitude"] = "magnitude"
    largest: bool = True
    """Take the largest; false takes the smallest."""

    def scores(self, sites: Sequence[Site], seed: int, look: Look | None) -> Elementwise:
        """Return magnitudes, made when they are asked for."""
        return _Magnitudes(1.0 if self.largest else -1.0)


class _Magnitudes(Elementwise):
    def __init__(self, sign: float) -> None:
        super().__init__({})
        self._sign = sign

    def elements(self, site: Site) -> Tensor:
        """Return the magnitude of every weight."""
        return self._sign * site.param.detach().float().abs().view(-1)
