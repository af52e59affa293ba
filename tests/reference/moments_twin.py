"""Steps of ZO-momentum and ZO-Adam the slow way: every estimate whole, in float64, and all of them kept."""

from __future__ import annotations

import torch
from torch import Tensor

from reference.lowrank_twin import numbers, slope
from reference.quadratic_problem import Problem
from shoestring.seeds import derive


class Twin:
    """Means are sums over the estimates of the last `history` steps, written out."""

    def __init__(
        self, problem: Problem, *, seed: int, lr: float, eps: float, samples: int, decay: float, history: int = 10**6
    ) -> None:
        self.problem, self.seed, self.lr, self.eps = problem, seed, lr, eps
        self.samples, self.decay, self.history = samples, decay, history
        self.estimates: list[dict[str, Tensor]] = []

    def estimate(self) -> None:
        total = {name: torch.zeros_like(value) for name, value in self.problem.values().items()}
        for sample in range(self.samples):
            own = derive(self.seed, "direction", len(self.estimates), sample)
            z = {name: numbers(name, own, *value.shape) for name, value in total.items()}
            along = slope(self.problem, z, self.eps)
            total = {name: value + along * z[name] / self.samples for name, value in total.items()}
        self.estimates.append(total)

    def mean(self, name: str, beta: float, power: int) -> Tensor:
        last = self.estimates[-self.history :]
        return sum((beta**ago * past[name] ** power for ago, past in enumerate(reversed(last))), torch.zeros(()))

    def momentum_step(self, beta: float) -> None:
        self.estimate()
        moves = {name: self.mean(name, beta, 1) for name in self.problem.params}
        self.move(moves)

    def adam_step(self, first: float, second: float, floor: float) -> None:
        self.estimate()
        count, moves = min(len(self.estimates), self.history), {}
        for name in self.problem.params:
            m = (1 - first) * self.mean(name, first, 1) / (1 - first**count)
            v = (1 - second) * self.mean(name, second, 2) / (1 - second**count)
            moves[name] = m / (v.sqrt() + floor)
        self.move(moves)

    def move(self, moves: dict[str, Tensor]) -> None:
        old = self.problem.values()
        self.problem.put({name: (1 - self.lr * self.decay) * old[name] - self.lr * moves[name] for name in old})
