"""Masked training the obvious way: every weight is trained, and gradients are zeroed but at the chosen ones."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn


def train(
    model: nn.Module,
    masks: Mapping[str, Tensor],
    loss: Callable[[], Tensor],
    make: Callable[[list[Tensor]], torch.optim.Optimizer],
    steps: int,
) -> list[float]:
    """Train a model in place, weights moving only where a mask [numel] says so, and return its losses."""
    model.requires_grad_(True)
    optimizer = make(list(model.parameters()))
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        value = loss()
        value.backward()
        for name, param in model.named_parameters():
            if param.grad is not None:
                mask = masks.get(name)
                param.grad.view(-1).mul_(0.0 if mask is None else mask.to(param.grad.dtype))
        optimizer.step()
        losses.append(float(value.detach()))
    return losses


def masks_of(chosen: Mapping[str, Tensor], whole: Sequence[str], model: nn.Module) -> dict[str, Tensor]:
    """Return masks [numel] of the tensors that have chosen positions or are trained whole."""
    masks = {}
    for name, param in model.named_parameters():
        if name in chosen:
            masks[name] = torch.zeros(param.numel(), dtype=torch.bool)
            masks[name][chosen[name]] = True
        elif name in whole:
            masks[name] = torch.ones(param.numel(), dtype=torch.bool)
    return masks


def squared_gradients(model: nn.Module, losses: Callable[[int], Tensor], numbers: Sequence[int]) -> dict[str, Tensor]:
    """Return the sum over examples of the squared gradient of each one's loss."""
    found: dict[str, Tensor] = {}
    model.requires_grad_(True)
    for number in numbers:
        model.zero_grad()
        losses(number).backward()
        for name, param in model.named_parameters():
            if param.grad is not None:
                found[name] = found.get(name, torch.zeros_like(param)) + param.grad**2
    model.zero_grad()
    return found


def greedy(prices: Sequence[int], ranks: Sequence[float], budget: int) -> list[int]:
    """Return the places of portions bought from the highest rank to the lowest, each that can still be paid."""
    bought: list[int] = []
    for place in sorted(range(len(prices)), key=lambda place: (-ranks[place], place)):
        if prices[place] <= budget:
            bought.append(place)
            budget -= prices[place]
    return sorted(bought)


def published(named: Sequence[tuple[str, int]], budget: int, seed: int) -> set[str]:
    """Return the names that PET scaling's procedure trains, written down step by step as published notes tell it.

    Six rules: modules inserted and backbone apart; groups of 2, 4, 1; Python's generator seeded with the product;
    groups shuffled, then the backbone; half of the budget each; first tensors decide, all tensors pay.
    """
    words = {"lora": 2, "adapter": 4, "soft_prompt": 1}
    groups: list[list[Any]] = []
    backbone: list[Any] = []
    pending = 0
    for name, size in named:
        word = next((word for word in words if word in name), None)
        if word is None:
            backbone.append((name, size))
        elif pending:
            groups[-1].append((name, size))
            pending -= 1
        else:
            groups.append([(name, size)])
            pending = words[word] - 1
    state = random.getstate()
    try:
        random.seed(budget * seed)
        random.shuffle(groups)
        random.shuffle(backbone)
    finally:
        random.setstate(state)
    picked: set[str] = set()
    left = budget // 2
    for group in groups:
        if left > 0 and group[0][1] <= left:
            picked |= {name for name, _ in group}
            for _, size in group:
                left -= size
    left = budget // 2
    for name, size in backbone:
        if left > 0 and size <= left:
            picked.add(name)
            left -= size
    return picked
