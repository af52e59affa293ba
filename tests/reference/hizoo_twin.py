"""Steps of HiZOO and HiZOO-L the slow way, from their formulas: the whole diagonal, in float64."""

from __future__ import annotations

import torch
from torch import Tensor

from reference.lowrank_twin import numbers, sides
from reference.quadratic_problem import Problem
from shoestring.seeds import derive


class Twin:
    def __init__(
        self, problem: Problem, *, seed: int, lr: float, eps: float, decay: float = 0.0, factored: bool = False
    ) -> None:
        self.problem, self.seed, self.lr, self.eps, self.decay = problem, seed, lr, eps, decay
        self.factored, self.number = factored, 0
        self.diagonal = {name: torch.ones_like(value).double() for name, value in problem.values().items()}
        self.rows, self.columns = {}, {}
        for name, value in problem.values().items():
            if value.ndim >= 2 and factored:
                height, width = sides(value)
                self.rows[name] = torch.full((height,), float(width), dtype=torch.float64)
                self.columns[name] = torch.full((width,), float(height), dtype=torch.float64)

    def step(self, alpha: float) -> None:
        own, old = derive(self.seed, "direction", self.number, 0), self.problem.values()
        z = {name: numbers(name, own, *value.shape) for name, value in old.items()}
        losses = []
        for sign in (0, 1, -1):
            self.problem.put({n: old[n] + sign * self.eps * z[n] / self.diagonal[n].sqrt() for n in old})
            losses.append(float(self.problem.loss()))
        middle, plus, minus = losses
        curvature = abs(plus + minus - 2 * middle) / (2 * self.eps**2)
        moved = {}
        for name, value in old.items():
            self.smooth(name, curvature * self.diagonal[name] * z[name] ** 2, alpha)
            along = (plus - minus) / (2 * self.eps) * z[name] / self.diagonal[name].sqrt()
            moved[name] = value - self.lr * (along + self.decay * value)
        self.problem.put(moved)
        self.number += 1

    def smooth(self, name: str, new: Tensor, alpha: float) -> None:
        if name not in self.rows:
            self.diagonal[name] = (1 - alpha) * self.diagonal[name] + alpha * new
            return
        matrix = new.reshape(len(self.rows[name]), -1)
        rows = self.rows[name] = (1 - alpha) * self.rows[name] + alpha * matrix.sum(1)
        columns = self.columns[name] = (1 - alpha) * self.columns[name] + alpha * matrix.sum(0)
        self.diagonal[name] = (torch.outer(rows, columns) / rows.sum()).reshape(new.shape)
