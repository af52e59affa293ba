"""The largest weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from shoestring.config import Settings
from shoestring.tuning.apet.scoring import SCORERS

if TYPE_CHECKING:
    from shoestring.tuning.apet.elementwise import Magnitudes
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

    def scores(self, sites: Sequence[Site], seed: int, look: Look | None) -> Magnitudes:
        """Return magnitudes, made when they are asked for."""
        from shoestring.tuning.apet.elementwise import Magnitudes

        return Magnitudes(1.0 if self.largest else -1.0)
