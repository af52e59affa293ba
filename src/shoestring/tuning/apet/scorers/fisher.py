"""The weights that the loss depends on most: squared gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import PositiveInt

from shoestring.config import Settings
from shoestring.tuning.apet.scoring import SCORERS

if TYPE_CHECKING:
    from shoestring.tuning.apet.elementwise import Elementwise
    from shoestring.tuning.apet.sites import Site
    from shoestring.tuning.look import Look


@SCORERS.register("fisher")
class Fisher(Settings):
    """Mean over examples of the squared gradient of each one's loss: the diagonal of the empirical Fisher information.

        score_i = 1/N sum_n (d loss_n / d w_i)^2

    Source: Sung et al. 2021 (FISH mask), eq. 4, with the labels of the training set.
    """

    looks: ClassVar[bool] = True
    uniform: ClassVar[bool] = False

    kind: Literal["fisher"] = "fisher"
    examples: PositiveInt = 64
    """Training examples looked at, drawn without replacement; all where there are fewer."""

    def scores(self, sites: Sequence[Site], seed: int, look: Look | None) -> Elementwise:
        """Make one backward pass an example."""
        import torch

        from shoestring.tuning.apet.elementwise import Elementwise
        from shoestring.tuning.apet.gradients import draw, gradients, needed

        look = needed(look, self.kind)
        sums = {site.name: torch.zeros(site.size, dtype=torch.float32, device=site.param.device) for site in sites}
        for number in draw(look, self.examples, seed, "fisher"):
            for site, grad in gradients(look, sites, [number]):
                sums[site.name] += grad.view(-1).float().square()
        return Elementwise(sums)
