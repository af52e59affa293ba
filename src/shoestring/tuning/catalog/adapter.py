"""Bottleneck adapters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from shoestring.seeds import derive, torch_seeded
from shoestring.tuning.base import TUNINGS
from shoestring.tuning.inserting import Inserting

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


@TUNINGS.register("adapter")
class Adapter(Inserting):
    """Networks f(x) = scale U a(D x + b) + scale c with a narrow middle, U = 0 and c = 0 at first.

    `houlsby`: y + f(y) of what attention and the feed-forward network give, in front of the residual sums; `pfeiffer`:
    of what the feed-forward network gives; `parallel`: y + f(x), x what the feed-forward network reads.

    Source: Houlsby et al. 2019, figure 2; Pfeiffer et al. 2021 (AdapterFusion), section 3; He et al. 2022, table 1
        (parallel, scale 4).
    Differs: adapters begin as nothing at all, not as almost nothing. Norms are not trained, as Houlsby et al. do: that
        is `also = "(?i)norm"`.
    """

    kind: Literal["adapter"] = "adapter"
    style: Literal["houlsby", "pfeiffer", "parallel"] = "houlsby"
    """Where they stand."""
    width: PositiveInt = 24
    """Width of the middle."""
    activation: Literal["relu", "gelu", "silu", "tanh"] = "gelu"
    """The function a."""
    scale: PositiveFloat | None = None
    """Factor of the output: 4 for `parallel`, 1 for others, unless given."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout in the middle, in training with gradients."""

    @property
    def factor(self) -> float:
        """The scale."""
        return self.scale or (4.0 if self.style == "parallel" else 1.0)

    def insert(self, model: PreTrainedModel, seed: int) -> list[nn.Parameter]:
        """Put adapters in, drawn from the stream (seed, "adapter").

        Raises:
            ModelError: if the architecture's names for its layers are not known.
        """
        from shoestring.tuning.bottleneck import insert_adapters

        with torch_seeded(derive(seed, "adapter")):
            return insert_adapters(self, model)

    def count(self, model: PreTrainedModel) -> int:
        """Return the number of weights: for each adapter those of two layers and their biases."""
        from shoestring.tuning.bottleneck import places, sizes_at

        sizes = [sizes_at(self, module, reads) for module, reads in places(self, model)]
        own = self.own(model)
        inserted = sum(reads * middle + middle + middle * gives + gives for reads, middle, gives in sizes)
        return inserted + sum(param.numel() for param in model.parameters() if id(param) in own)
