"""Models of vectors, and examples that are vectors: nothing heavy is imported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from shoestring.kernels import Outputs


@dataclass(frozen=True)
class Point:
    """An example that is a few vectors."""

    uid: str
    values: Tensor

    @property
    def ids(self) -> Tensor:
        return self.values


def points(count: int, tokens: int, size: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> list[Point]:
    stream = torch.Generator().manual_seed(seed)
    drawn = torch.randn(count, tokens, size, generator=stream, dtype=torch.float64).to(dtype)
    return [Point(f"point:{number}", values) for number, values in enumerate(drawn)]


def of_points(model: nn.Module, scores: Callable[[nn.Module, Tensor], Tensor] | None = None) -> Outputs:
    """Return the outputs of a model of vectors: the mean over the tokens, unless told otherwise."""
    read = scores or (lambda model, values: model(values).mean(1))

    def collate(items: Sequence[Any]) -> dict[str, Tensor]:
        return {"values": torch.stack([item.values for item in items])}

    return Outputs(model, lambda batch: read(model, batch["values"]), collate)


class Deep(nn.Module):
    """Layers of vectors."""

    def __init__(self, size: int, layers: int) -> None:
        super().__init__()
        stream = torch.Generator().manual_seed(0)
        self.layers = nn.ModuleList([nn.Linear(size, size) for _ in range(layers)])
        with torch.no_grad():
            for param in self.parameters():
                param.copy_(0.1 * torch.randn(param.shape, generator=stream))

    def forward(self, values: Tensor) -> Tensor:
        for layer in self.layers:
            values = layer(values).tanh()
        return values.sum(-1, keepdim=True)
