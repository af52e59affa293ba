"""A quadratic loss of a few tensors of different shapes, with its gradient and curvature written out."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

SHAPES = {"matrix": (5, 3), "vector": (4,), "cube": (3, 2, 2), "scalar": ()}


class Problem:
    """L(theta) = theta' A theta / 2 + b' theta over all tensors, one after the other."""

    def __init__(self, dtype: torch.dtype = torch.float64, shapes: dict[str, tuple[int, ...]] | None = None) -> None:
        stream = torch.Generator().manual_seed(3)
        self.params: dict[str, nn.Parameter] = {}
        for name, shape in (shapes or SHAPES).items():
            values = torch.randn(shape, generator=stream, dtype=torch.float64)
            self.params[name] = nn.Parameter(values.to(dtype))
        size = sum(param.numel() for param in self.params.values())
        root = torch.randn(size, size, generator=stream, dtype=torch.float64) / math.sqrt(size)
        self.matrix = root @ root.T + 0.1 * torch.eye(size, dtype=torch.float64)
        self.slope = torch.randn(size, generator=stream, dtype=torch.float64)

    def theta(self) -> Tensor:
        return torch.cat([param.detach().double().reshape(-1) for param in self.params.values()])

    def loss(self) -> Tensor:
        theta = self.theta()
        return theta @ self.matrix @ theta / 2 + self.slope @ theta

    def gradient(self) -> dict[str, Tensor]:
        whole = self.matrix @ self.theta() + self.slope
        parts = whole.split([param.numel() for param in self.params.values()])
        return {name: part.reshape(param.shape) for (name, param), part in zip(self.params.items(), parts, strict=True)}

    def put(self, values: dict[str, Tensor]) -> None:
        for name, param in self.params.items():
            param.data = values[name].clone()

    def values(self) -> dict[str, Tensor]:
        return {name: param.detach().clone() for name, param in self.params.items()}


def assert_close(ours: Problem, twin: Problem, error: float) -> None:
    for (name, one), other in zip(ours.params.items(), twin.params.values(), strict=True):
        torch.testing.assert_close(
            one.data, other.data, rtol=0, atol=error, msg=lambda text, name=name: f"{name}: {text}"
        )
