"""Steps of zeroth-order optimizers the slow way, from their equations: dense vectors in float64, nothing in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from shoestring.seeds import derive
from shoestring.zeroth.base import ZerothOrder
from shoestring.zeroth.layers import layer_of
from shoestring.zeroth.tensors import Trained, trained_tensors


class Space:
    """All weights of an optimizer as one vector, with learning rate and decay of each, and its directions."""

    def __init__(self, optimizer: ZerothOrder, loss: Callable[[], Tensor | float]) -> None:
        self.tensors = trained_tensors(optimizer.param_groups)
        self.directions, self.loss, self.seed = optimizer.directions, loss, optimizer.shared["seed"]
        groups = optimizer.param_groups
        self.lr = self.spread(lambda tensor: groups[tensor.group]["lr"])
        self.decay = self.spread(lambda tensor: groups[tensor.group]["weight_decay"])
        self.layers = [layer_of(tensor.name) for tensor in self.tensors]
        self.theta = torch.cat([tensor.param.detach().double().view(-1) for tensor in self.tensors])

    def spread(self, value: Callable[[Trained], float]) -> Tensor:
        return torch.cat([torch.full((t.param.numel(),), value(t), dtype=torch.float64) for t in self.tensors])

    def z(self, step: int, *path: int, masks: Tensor | None = None) -> Tensor:
        """Return a direction; with a mask, the chosen weights of each tensor get the first numbers, in order."""
        seed, parts, place = derive(self.seed, "direction", step, *path), [], 0
        for tensor in self.tensors:
            size = tensor.param.numel()
            part = torch.zeros(size, dtype=torch.float64)
            chosen = torch.ones(size, dtype=torch.bool) if masks is None else masks[place : place + size]
            drawn = torch.empty(int(chosen.sum()))
            if len(drawn):
                self.directions.fill(drawn, tensor, seed)
            part[chosen] = drawn.double()
            parts.append(part)
            place += size
        return torch.cat(parts)

    def write(self, theta: Tensor) -> None:
        place = 0
        for tensor in self.tensors:
            size = tensor.param.numel()
            tensor.param.data = theta[place : place + size].view_as(tensor.param).to(tensor.param.dtype)
            place += size

    def at(self, theta: Tensor) -> float:
        self.write(theta)
        with torch.no_grad():
            return float(self.loss())

    def descend(self, estimate: Tensor, where: Tensor | float = 1.0) -> None:
        self.theta = self.theta - self.lr * where * (estimate + self.decay * self.theta)
        self.write(self.theta)

    def two_sided(self, z: Tensor, eps: float) -> tuple[float, float]:
        """Return the slope along z, and the mean of both losses."""
        plus, minus = self.at(self.theta + eps * z), self.at(self.theta - eps * z)
        return (plus - minus) / (2 * eps), (plus + minus) / 2

    def norms(self, sizes: Tensor) -> dict[str, float]:
        """Return the length of a vector's part in each layer."""
        found: dict[str, float] = {}
        place = 0
        for tensor, layer in zip(self.tensors, self.layers, strict=True):
            part = sizes[place : place + tensor.param.numel()]
            found[layer] = found.get(layer, 0.0) + float(part @ part)
            place += tensor.param.numel()
        return {layer: square**0.5 or 1.0 for layer, square in found.items()}

    def within(self, layer: str) -> Tensor:
        return self.spread(lambda tensor: float(layer_of(tensor.name) == layer))

    def gradient(self) -> Tensor:
        self.write(self.theta)
        with torch.enable_grad():
            loss = self.loss()
        assert isinstance(loss, Tensor)
        params = [tensor.param for tensor in self.tensors]
        grads = torch.autograd.grad(loss, params, allow_unused=True)
        return torch.cat([(p * 0 if g is None else g).detach().view(-1) for p, g in zip(params, grads, strict=True)])


def mezo(space: Space, t: int, memory: dict[str, Any], **given: Any) -> float:
    eps, most, over = given["eps"], given.get("samples", 1), given.get("grow_over")
    samples = most if over is None else max(1, min(most, int(t / over * most)))
    total, losses = torch.zeros_like(space.theta), []
    for j in range(samples):
        z = space.z(t, j)
        if given.get("sides", 2) == 2:
            g, loss = space.two_sided(z, eps)
            losses += [loss, loss]
        else:
            here, there = space.at(space.theta), space.at(space.theta + eps * z)
            g = (there - here) / eps
            losses += [there] if losses else [here, there]
        total += g * z
    space.descend(total if given.get("scale_lr") else total / samples)
    return sum(losses) / len(losses)


def one_point(space: Space, t: int, memory: dict[str, Any], **given: Any) -> float:
    z = space.z(t, 0)
    loss = space.at(space.theta + given["eps"] * z)
    g = (loss - memory.get("last", loss)) / given["eps"]
    memory["last"] = loss
    space.descend(g * z)
    return loss


def scaled(space: Space, t: int, memory: dict[str, Any], *, unbiased: bool, **given: Any) -> float:
    eps, kind, every = given["eps"], given.get("norms", "parameters"), given.get("recompute_every")
    if t == 0 or (every and t % every == 0):
        if kind == "parameters":
            memory["c"] = space.norms(space.theta)
        elif kind == "gradients":
            memory["c"] = space.norms(space.gradient())
        else:
            layers = list(dict.fromkeys(space.layers))
            memory["c"] = {
                layer: abs(space.two_sided(space.z(t, 0, place) * space.within(layer), eps)[0])
                for place, layer in enumerate(layers)
            }
    c = space.spread(lambda tensor: memory["c"][layer_of(tensor.name)])
    samples = given.get("samples", 1)
    total, losses = torch.zeros_like(space.theta), []
    for j in range(samples):
        z = space.z(t, j)
        g, loss = space.two_sided(z / c, eps)
        total += g * (c * z if unbiased else z) / samples
        losses.append(loss)
    space.descend(total)
    return sum(losses) / samples


def variance_modified(space: Space, t: int, memory: dict[str, Any], **given: Any) -> float:
    return scaled(space, t, memory, unbiased=True, **given)


def expectation_modified(space: Space, t: int, memory: dict[str, Any], **given: Any) -> float:
    return scaled(space, t, memory, unbiased=False, **given)


def layer_wise(space: Space, t: int, memory: dict[str, Any], **given: Any) -> float:
    total, losses, samples = torch.zeros_like(space.theta), [], given.get("samples", 1)
    for layer in dict.fromkeys(space.layers):
        for j in range(samples):
            z = space.z(t, j) * space.within(layer)
            g, loss = space.two_sided(z, given["eps"])
            total += g * z / samples
            losses.append(loss)
    space.descend(total)
    return sum(losses) / len(losses)


def sign(space: Space, t: int, memory: dict[str, Any], **given: Any) -> float:
    total, losses, samples = torch.zeros_like(space.theta), [], given.get("samples", 1)
    of_estimate = given.get("of") == "estimate"
    for j in range(samples):
        z = space.z(t, j)
        g, loss = space.two_sided(z, given["eps"])
        total += (g if of_estimate else (g > 0) - (g < 0)) * z / samples
        losses.append(loss)
    space.descend(total.sign() if of_estimate else total)
    return sum(losses) / samples


def conservative(space: Space, t: int, memory: dict[str, Any], **given: Any) -> float:
    z, eps, here = space.z(t, 0), given["eps"], space.at(space.theta)
    two = given.get("sides", 2) == 2
    g = space.two_sided(z, eps)[0] if two else (space.at(space.theta + eps * z) - here) / eps
    losses = [space.at(space.theta + sign * space.lr * g * z) for sign in (0, -1, 1)]
    space.descend((0, 1, -1)[losses.index(min(losses))] * g * z)
    return losses[0]


def fzoo(space: Space, t: int, memory: dict[str, Any], **given: Any) -> float:
    samples = given.get("samples", 8)
    directions = [space.z(t, j) for j in range(samples)]
    here = space.at(space.theta)
    losses = torch.tensor([space.at(space.theta + given["eps"] * z) for z in directions], dtype=torch.float64)
    sigma = losses.std(correction=0)
    space.descend(
        sum(((loss - here) * z for loss, z in zip(losses, directions, strict=True)), 0 * space.theta)
        / (samples * sigma)
    )
    return here


def curvature_spsa(space: Space, t: int, memory: dict[str, Any], **given: Any) -> float:
    eps, samples, here = given["eps"], given.get("samples", 1), space.at(space.theta)
    total = torch.zeros_like(space.theta)
    for j in range(samples):
        z = space.z(t, j)
        plus, minus = space.at(space.theta + eps * z), space.at(space.theta - eps * z)
        weight = 1 / max(1, abs((plus - 2 * here + minus) / eps**2) ** given.get("power", 0.1))
        total += (plus - minus) / (2 * eps) * weight * z / samples
    space.descend(total)
    return here


def meazo(space: Space, t: int, memory: dict[str, Any], **given: Any) -> float:
    samples, beta = given.get("samples", 1), given.get("beta", 0.99)
    found = [(z, *space.two_sided(z, given["eps"])) for z in (space.z(t, j) for j in range(samples))]
    mean = sum(g for _, g, _ in found) / samples
    memory["v"] = beta * memory.get("v", 0.0) + (1 - beta) * mean**2
    root = (memory["v"] / (1 - beta ** (t + 1))) ** 0.5
    total = sum((g * z for z, g, _ in found), 0 * space.theta) / samples
    space.descend(total / (root + given.get("floor", 1e-8)))
    return sum(loss for *_, loss in found) / samples


def evolution(space: Space, t: int, memory: dict[str, Any], **given: Any) -> float:
    samples, signs = given.get("samples", 30), (1, -1) if given.get("antithetic") else (1,)
    members = [sign * space.z(t, j) for j in range(samples) for sign in signs]
    rewards = torch.tensor([-space.at(space.theta + given["eps"] * z) for z in members], dtype=torch.float64)
    if given.get("shape") == "rank":
        below = (rewards[:, None] > rewards).sum(1) + ((rewards[:, None] == rewards).sum(1) - 1) / 2
        shapes = below / (len(members) - 1) - 0.5
    else:
        shapes = (rewards - rewards.mean()) / (rewards.std(correction=0) + 1e-8)
    space.descend(-sum((s * z for s, z in zip(shapes, members, strict=True)), 0 * space.theta) / len(members))
    return -float(rewards.mean())


def sparse(space: Space, t: int, memory: dict[str, Any], **given: Any) -> float:
    if t == 0:
        share = 1 - given.get("sparsity", 0.75)

        def limit(tensor: Trained) -> float:
            ordered = tensor.param.detach().abs().view(-1).sort().values
            return float(ordered[max(1, round(share * len(ordered))) - 1])

        memory["h"] = space.spread(limit)
    return masked(space, t, space.theta.abs() <= memory["h"], **given)


def static_mask(space: Space, t: int, memory: dict[str, Any], **given: Any) -> float:
    chosen = torch.cat([given["masks"][tensor.name].view(-1) for tensor in space.tensors])
    return masked(space, t, chosen, **given)


def masked(space: Space, t: int, chosen: Tensor, **given: Any) -> float:
    total, losses, samples = torch.zeros_like(space.theta), [], given.get("samples", 1)
    for j in range(samples):
        z = space.z(t, j, masks=chosen)
        g, loss = space.two_sided(z, given["eps"])
        total += g * z / samples
        losses.append(loss)
    space.descend(total, chosen.double())
    return sum(losses) / samples


def forward_gradient(space: Space, t: int, memory: dict[str, Any], **given: Any) -> float:
    samples, gradient = given.get("samples", 1), space.gradient()
    directions = [space.z(t, j) for j in range(samples)]
    loss = space.at(space.theta)
    space.descend(sum((gradient @ z * z for z in directions), 0 * space.theta) / samples)
    return loss


STEPS: dict[str, Callable[..., float]] = {
    "mezo": mezo,
    "one-point": one_point,
    "variance-modified-mezo": variance_modified,
    "expectation-modified-mezo": expectation_modified,
    "layer-wise-mezo": layer_wise,
    "zo-sign": sign,
    "zo-conservative": conservative,
    "fzoo": fzoo,
    "1.5-spsa": curvature_spsa,
    "meazo": meazo,
    "evolution": evolution,
    "sparse-mezo": sparse,
    "static-mask": static_mask,
    "forward-gradient": forward_gradient,
}
