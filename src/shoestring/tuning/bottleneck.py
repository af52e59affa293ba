"""Bottleneck adapters as modules and hooks: the architecture's own names and calls stay as they are."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from shoestring.errors import ModelError
from shoestring.tuning.architectures import ATTENTION_OUT, FEED_FORWARD_IN, FEED_FORWARD_OUT, modules_at

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from shoestring.tuning.catalog.adapter import Adapter

SLOT = "adapter"
"""Name of the submodule of a layer that holds the adapter behind it."""
ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh}


class Bottleneck(nn.Module):
    """f(x) = scale U a(D x + b) + scale c, U = 0 and c = 0 at first.

    Args:
        sizes: of x, of the bottleneck, and of f(x).
        activation: a, a name of `ACTIVATIONS`.
        scale: a number.
        dropout: share of a(D x + b) that is dropped in training with gradients.
    """

    def __init__(self, sizes: tuple[int, int, int], activation: str, scale: float, dropout: float) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(sizes[0], sizes[1]), nn.Linear(sizes[1], sizes[2])
        self.activation, self.dropout, self.scale = ACTIVATIONS[activation](), nn.Dropout(dropout), scale
        self._read: Tensor | None = None
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    def forward(self, x: Tensor) -> Tensor:
        """Return f(x)."""
        return self.scale * self.up(self.dropout(self.activation(self.down(x))))

    def behind(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        """Return y + f(y) of what a layer gives."""
        return output + self(output)

    def remember(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """Keep what the first layer of a network reads, until its last layer gives something."""
        self._read = args[0]

    def beside(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        """Return y + f(x) of what a network reads and gives."""
        read, self._read = self._read, None
        return output if read is None else output + self(read)


def places(settings: Adapter, model: PreTrainedModel) -> list[tuple[nn.Module, nn.Module | None]]:
    """Return the layers that adapters go behind, and for parallel ones the layers whose input they read.

    Raises:
        ModelError: if the architecture's names for them are not known.
    """
    behind = modules_at(model, FEED_FORWARD_OUT)
    found: list[tuple[nn.Module, nn.Module | None]] = [(module, None) for module in behind.values()]
    if settings.style == "parallel":
        first = modules_at(model, FEED_FORWARD_IN)
        found = list(zip(behind.values(), first.values(), strict=False)) if len(first) == len(behind) else []
    if settings.style == "houlsby":
        attention = modules_at(model, ATTENTION_OUT)
        found = [*((module, None) for module in attention.values()), *found] if attention else []
    if not found:
        raise ModelError(
            f'tuning.kind="adapter": where {type(model).__name__} has its '
            f"{'attention and ' if settings.style == 'houlsby' else ''}feed-forward layers is not known here; "
            'try tuning.kind="lora" with tuning.targets'
        )
    return found


def size_of(module: nn.Module, *, output: bool) -> int:
    """Return how many numbers a linear layer gives, or reads."""
    known = getattr(module, "out_features" if output else "in_features", None)
    if isinstance(known, int):  # A matrix in 4 bits has another shape.
        return known
    turned = type(module).__name__ == "Conv1D"  # GPT-2's keeps its weight the other way round
    return int(module.get_parameter("weight").shape[1 if turned == output else 0])


def insert_adapters(settings: Adapter, model: PreTrainedModel) -> list[nn.Parameter]:
    """Put adapters in; return their parameters.

    Raises:
        ModelError: see `places`.
    """
    found: list[nn.Parameter] = []
    for module, reads in places(settings, model):
        weight = module.get_parameter("weight")
        adapter = Bottleneck(sizes_at(settings, module, reads), settings.activation, settings.factor, settings.dropout)
        adapter.to(device=weight.device, dtype=weight.dtype if weight.is_floating_point() else model.dtype)
        module.add_module(SLOT, adapter)
        if reads is None:
            module.register_forward_hook(adapter.behind)
        else:
            reads.register_forward_pre_hook(adapter.remember)
            module.register_forward_hook(adapter.beside)
        found.extend(adapter.parameters())
    return found


def sizes_at(settings: Adapter, module: nn.Module, reads: nn.Module | None) -> tuple[int, int, int]:
    """Return the sizes of an adapter at a place."""
    gives = size_of(module, output=True)
    return (gives if reads is None else size_of(reads, output=False), settings.width, gives)
