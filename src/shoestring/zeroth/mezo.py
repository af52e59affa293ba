"""MeZO: stochastic gradient descent on a gradient estimated from two forward passes, in the memory of inference."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, overload

import torch
from torch import Tensor

from shoestring.errors import OptimizerError
from shoestring.seeds import derive
from shoestring.zeroth.base import Closure, Term, ZerothOrder
from shoestring.zeroth.noise import add_direction


class MeZO(ZerothOrder):
    r"""Memory-efficient zeroth-order SGD, in place, by replaying each direction from its seed.

    Per step, on one batch, for each of n directions z ~ N(0, I):

        projected_grad g = (L(theta + eps z) - L(theta - eps z)) / (2 eps)
        theta <- theta - lr * ( mean over directions of g z  +  weight_decay * theta )

    Costs 2n forward passes a step and no memory beyond a few chunks of 4 MiB of a direction. Weights are put back to
    theta after each pair of passes by adding the opposite perturbation, as in the paper; in half precision that drifts.

    Example:
        >>> import torch
        >>> w = torch.nn.Parameter(torch.ones(8))
        >>> opt = MeZO([w], lr=0.05, eps=1e-3, seed=0)
        >>> losses = [float(opt.step(lambda: (w ** 2).sum())) for _ in range(60)]
        >>> losses[-1] < 0.1 * losses[0]
        True

    Args:
        params: parameters or parameter groups; those that do not require gradients are left alone. Groups may have
            their own `lr` and `weight_decay`. Give each tensor once, best with its name: `model.named_parameters()`
            makes a tensor's directions depend on its name, not on which other tensors are there.
        lr: learning rate.
        eps: size of the perturbation.
        weight_decay: decoupled from nothing, as in the reference: lambda * theta is added to the gradient estimate
            (which for plain SGD is the same as shrinking the weights by lr * lambda).
        samples: number n of directions a step, all on the same batch.
        seed: the directions of step t are those of the named stream (seed, t); the global generators are not used.

    The model must be deterministic while it steps: `model.eval()`, no dropout. The closure returns the loss and calls
    no `backward()`; it is run under `torch.no_grad()`.

    `step(closure)` is `estimate(closure)` followed by `step()`; a trainer that calls `step()` itself, like
    transformers', calls `estimate` first. The step counter lives in the parameter groups, so `state_dict` carries all
    that an exact resume needs.

    Source: Malladi et al. 2023, algorithm 1 and definition 1 (arXiv 2305.17333).
    Differs: returns the mean of L(theta + eps z) and L(theta - eps z) over directions, the reference L(theta + eps z)
        of the last direction. Weight decay applies to every parameter of a group with weight_decay > 0; the reference
        exempts names with `bias` or `layer_norm` in one of its two code bases and nothing in the other.
    """

    _terms: list[Term] | None = None

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]] | Iterable[tuple[str, Tensor]],
        lr: float = 1e-6,
        *,
        eps: float = 1e-3,
        weight_decay: float = 0.0,
        samples: int = 1,
        seed: int = 0,
    ) -> None:
        for name, value in {"lr": lr, "eps": eps, "weight_decay": weight_decay, "samples": samples}.items():
            _check(name, value)
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        # Numbers in a parameter group are saved and restored with it: the first one carries what is one per optimizer.
        self.param_groups[0].update(eps=eps, samples=int(samples), seed=seed, steps=0)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, which may have its own `lr` and `weight_decay`.

        Raises:
            OptimizerError: if they cannot be, or the group has a setting that is one for all parameters.
        """
        for name in ("eps", "samples", "seed", "steps"):
            if name in param_group:
                raise OptimizerError(f"MeZO: {name} is one for all parameters; give it to MeZO, not to a group")
        for name in ("lr", "weight_decay"):
            _check(name, param_group.get(name, 0.0))
        super().add_param_group(param_group)

    @torch.no_grad()
    def estimate(self, closure: Closure) -> Tensor:
        """Evaluate the loss at both ends of every direction, restore the weights, remember the terms of the update.

        Returns:
            The mean of the 2n losses, detached.

        Raises:
            OptimizerError: if the loss is not finite or the closure calls `backward()`; the weights are restored.
        """
        head = self.param_groups[0]
        terms: list[Term] = []
        losses: list[float] = []
        for sample in range(head["samples"]):
            direction = derive(head["seed"], "direction", head["steps"], sample)
            plus, minus = self._both_ends(closure, direction)
            terms.append((direction, (plus - minus) / (2 * head["eps"])))
            losses += [plus, minus]
        self._terms = [(direction, grad / len(terms)) for direction, grad in terms]
        self.last_projected_grads = tuple(grad for _, grad in terms)
        self.last_loss = torch.tensor(sum(losses) / len(losses))
        return self.last_loss

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Closure) -> Tensor: ...
    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Tensor | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Make one step; without a closure, apply what `estimate` found.

        Raises:
            OptimizerError: without a closure and without a preceding `estimate`.
        """
        loss = self.estimate(closure) if closure is not None else None
        if self._terms is None:
            raise OptimizerError("MeZO.step() needs a closure that returns the loss: opt.step(lambda: loss_of(model))")
        terms, self._terms = self._terms, None
        for key, group, param in self.trained():
            lr, decay = group["lr"], group["weight_decay"]
            if decay:
                param.mul_(1 - lr * decay)
            for direction, coefficient in terms:
                add_direction(param, direction, key, -lr * coefficient)
        self.param_groups[0]["steps"] += 1
        return loss

    def _both_ends(self, closure: Closure, direction: int) -> tuple[float, float]:
        """Return L(theta + eps z) and L(theta - eps z); theta is restored whatever happens inside the closure."""
        place = 0.0
        try:
            losses = []
            for end in (1.0, -1.0):
                self._move(direction, end - place)
                place = end
                losses.append(self._loss(closure))
        finally:
            self._move(direction, -place)
        return losses[0], losses[1]

    def _move(self, direction: int, ends: float) -> None:
        eps = self.param_groups[0]["eps"]
        for key, _, param in self.trained():
            add_direction(param, direction, key, ends * eps)

    def _loss(self, closure: Closure) -> float:
        try:
            loss = float(closure())
        except RuntimeError as error:
            if "does not require grad" in str(error):
                raise OptimizerError(
                    "the closure of a zeroth-order optimizer returns the loss and must not call backward()"
                ) from error
            raise
        if not math.isfinite(loss):
            raise OptimizerError(
                f"MeZO: step {self.param_groups[0]['steps']}: the loss is {loss}; the weights are as they were before "
                "the step; a smaller lr or eps usually helps"
            )
        return loss


def _check(name: str, value: float) -> None:
    if name == "samples" and math.isfinite(value) and value != int(value):
        raise OptimizerError(f"MeZO: {name}={value!r}; it must be a whole number")
    allowed = value >= 1 if name == "samples" else value > 0 if name == "eps" else value >= 0
    if not (math.isfinite(value) and allowed):
        least = {"samples": "at least 1", "eps": "positive"}.get(name, "not negative")
        raise OptimizerError(f"MeZO: {name}={value!r}; it must be finite and {least}")
