"""The weights that move most when all are trained for a while."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import PositiveFloat, PositiveInt

from shoestring.config import Settings
from shoestring.tuning.apet.scoring import SCORERS

if TYPE_CHECKING:
    from shoestring.tuning.apet.elementwise import Elementwise
    from shoestring.tuning.apet.sites import Site
    from shoestring.tuning.look import Look


@SCORERS.register("movement")
class Movement(Settings):
    """How far each weight moves, |w after - w before|, in a few steps of Adam on all of them, which are then undone.

    Source: Ansell et al. 2022 (lottery-ticket sparse fine-tuning), section 3.1.
    Memory: gradients, Adam's two moments and a copy of all weights in scope, for as long as it takes.
    """

    looks: ClassVar[bool] = True
    uniform: ClassVar[bool] = False

    kind: Literal["movement"] = "movement"
    steps: PositiveInt = 16
    """Steps of Adam."""
    batch_size: PositiveInt = 8
    """Training examples a step, drawn without replacement; all where there are fewer."""
    lr: PositiveFloat = 1e-5
    """Learning rate."""

    def scores(self, sites: Sequence[Site], seed: int, look: Look | None) -> Elementwise:
        """Train, measure and undo."""
        import torch

        from shoestring.tuning.apet.elementwise import Elementwise
        from shoestring.tuning.apet.gradients import draw, gradients, needed

        look = needed(look, self.kind)
        before = {site.name: site.param.detach().clone() for site in sites}
        optimizer = torch.optim.Adam([site.param for site in sites], lr=self.lr)
        try:
            for step in range(self.steps):
                for site, grad in gradients(look, sites, draw(look, self.batch_size, seed, "movement", step)):
                    site.param.grad = grad
                optimizer.step()
            moved = {site.name: (site.param.detach() - before[site.name]).float().abs().view(-1) for site in sites}
        finally:
            for site in sites:
                site.param.grad = None
                site.param.data.copy_(before[site.name])
        return Elementwise(moved)
