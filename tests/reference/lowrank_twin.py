"""Steps of LOZO, LOZO-M and SubZero the slow way: whole directions in float64, nothing in place, no state shared."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from reference.quadratic_problem import Problem
from shoestring.seeds import derive
from shoestring.zeroth.noise.base import Source
from shoestring.zeroth.noise.plain import PlainNoise
from shoestring.zeroth.tensors import key_of


def numbers(name: str, seed: int, *shape: int) -> Tensor:
    """Return the first Gaussian numbers of a tensor's stream, float64."""
    out = torch.empty(math.prod(shape))
    PlainNoise().fill(out, Source(key_of(name), "gaussian"), seed)
    return out.double().reshape(shape)


def sides(value: Tensor) -> tuple[int, int]:
    return value.shape[0], value.numel() // value.shape[0]


def slope(problem: Problem, directions: dict[str, Tensor], eps: float) -> float:
    old, ends = problem.values(), []
    for sign in (1, -1):
        problem.put({name: old[name] + sign * eps * directions[name] for name in old})
        ends.append(float(problem.loss()))
    problem.put(old)
    return (ends[0] - ends[1]) / (2 * eps)


def orthonormal(name: str, seed: int, size: int, rank: int) -> Tensor:
    """Return the Gram-Schmidt basis of Gaussian columns: the QR decomposition whose R has a positive diagonal."""
    columns: list[Tensor] = []
    for column in numbers(name, seed, size, rank).T:
        rest = column
        for _ in range(2):  # twice, since once loses digits
            for known in columns:
                rest = rest - (known @ rest) * known
        columns.append(rest / rest.norm())
    return torch.stack(columns, 1)


class LOZO:
    """`momentum` None is LOZO, a number LOZO-M."""

    def __init__(
        self, problem: Problem, *, seed: int, lr: float, eps: float, rank: int, period: int, decay: float = 0.0,
        momentum: float | None = None, divide: bool = True,
    ) -> None:  # fmt: skip
        self.problem, self.seed, self.lr, self.eps, self.rank, self.period = problem, seed, lr, eps, rank, period
        self.decay, self.momentum, self.divide = decay, momentum, divide
        self.number, self.held, self.old = 0, {}, {}

    def step(self) -> None:
        seed = derive(self.seed, "direction", self.number, 0)
        basis = derive(self.seed, "basis", self.number // self.period)
        left, right, along = {}, {}, {}
        for name, value in self.problem.values().items():
            if value.ndim < 2:
                along[name] = numbers(name, seed, *value.shape)
                continue
            height, width = sides(value)
            left[name], right[name] = numbers(name, seed, height, self.rank), numbers(name, basis, width, self.rank)
            along[name] = (left[name] @ right[name].T).reshape(value.shape)
        c = slope(self.problem, along, self.eps)
        moved = {}
        for name, value in self.problem.values().items():
            estimate = c * along[name] if self.momentum is None else self.mean(name, value, c, along, left, right)
            if value.ndim >= 2 and self.divide:
                estimate = estimate / self.rank
            moved[name] = value - self.lr * (estimate + self.decay * value)
        self.problem.put(moved)
        self.number += 1
        self.old = right

    def mean(self, name: str, value: Tensor, c: float, along: dict, left: dict, right: dict) -> Tensor:
        new = c * (left[name] if value.ndim >= 2 else along[name])
        if name in self.held:
            before = self.held[name]
            if value.ndim >= 2 and self.number % self.period == 0:
                before = before @ self.old[name].T @ right[name] / len(right[name])
            share = self.momentum or 0.0
            new = share * before + (1 - share) * new
        self.held[name] = new
        return (new @ right[name].T).reshape(value.shape) if value.ndim >= 2 else new


def subzero_step(problem: Problem, *, seed: int, number: int, lr: float, eps: float, rank: int, period: int) -> None:
    """Make step `number` of SubZero."""
    own, basis, along = derive(seed, "direction", number, 0), derive(seed, "basis", number // period), {}
    for name, value in problem.values().items():
        if value.ndim < 2:
            along[name] = numbers(name, own, *value.shape)
            continue
        height, width = sides(value)
        r = min(rank, height, width)
        left = orthonormal(name, derive(basis, "left"), height, r)
        right = orthonormal(name, derive(basis, "right"), width, r)
        core = numbers(name, own, r, r)
        along[name] = math.sqrt(height * width / r**2) * (left @ core @ right.T).reshape(value.shape)
    c = slope(problem, along, eps)
    problem.put({name: value - lr * c * along[name] for name, value in problem.values().items()})
