"""What each estimator is on average, on a quadratic: the gradient, or what its description says instead."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from reference.quadratic_problem import Problem
from shoestring.zeroth.base import OPTIMIZERS

SHAPES: dict[str, tuple[int, ...]] = {"layers.0.weight": (2, 2), "layers.1.weight": (3,), "head.bias": ()}
COUNT = 1500


class Probe:
    """Many single steps from one point; collects how far each went, over minus lr, and the losses it was answered."""

    def __init__(self, name: str, lr: float = 1.0, **settings: Any) -> None:
        self.problem = Problem(shapes=SHAPES)
        named = list(self.problem.params.items())
        self.optimizer = OPTIMIZERS.get(name)(named, lr=lr, seed=17, **({"engine": "replay"} | settings))
        self.start = self.problem.values()
        self.lr = lr

    def __call__(self) -> Tensor:
        theta = torch.cat([param.reshape(-1) for param in self.problem.params.values()])
        loss = theta @ self.problem.matrix @ theta / 2 + self.problem.slope @ theta
        self.losses.append(float(loss.detach()))
        return loss

    def moves(self, count: int, scale: Callable[[list[float]], float] = lambda losses: 1.0) -> Tensor:
        """Return scale(losses) * (start - end) / lr of `count` steps [count, size]."""
        found, before = [], self.problem.theta()
        for _ in range(count):
            self.losses: list[float] = []
            self.optimizer.step(self)
            found.append((before - self.problem.theta()) / self.lr * scale(self.losses))
            self.problem.put(self.start)
        return torch.stack(found)

    def gradient(self) -> Tensor:
        return torch.cat([part.view(-1) for part in self.problem.gradient().values()])


def agrees(found: Tensor, wanted: Tensor) -> None:
    """Check the mean of draws [N, d], and of their part along what is wanted, within 4 standard errors."""
    root = math.sqrt(len(found))
    assert bool(((found.mean(0) - wanted).abs() <= 4 * found.std(0) / root + 1e-9).all()), (found.mean(0), wanted)
    along = found @ wanted / (wanted @ wanted)
    error = 4 * float(along.std()) / root
    assert abs(float(along.mean()) - 1) <= error + 1e-9
    assert error < 0.25  # Or the check would say little.


UNBIASED: dict[str, tuple[str, dict[str, Any]]] = {
    "one-sided": ("mezo", {"sides": 1, "samples": 2, "eps": 1e-5}),
    "rademacher": ("mezo", {"directions": "rademacher"}),
    "variance-modified": ("variance-modified-mezo", {}),
    "variance-modified, gradients": ("variance-modified-mezo", {"norms": "gradients"}),
    "layer-wise": ("layer-wise-mezo", {}),
    "static mask of everything": ("static-mask", {"masks": 1.0}),
    "forward gradient": ("forward-gradient", {}),
}


@pytest.mark.parametrize("case", UNBIASED)
def test_the_mean_of_estimates_is_the_gradient(case: str) -> None:
    name, settings = UNBIASED[case]
    probe = Probe(name, **settings)
    agrees(probe.moves(COUNT), probe.gradient())


def test_the_sum_of_directions_is_their_number_times_the_gradient() -> None:
    probe = Probe("mezo", samples=3, scale_lr=True)
    agrees(probe.moves(COUNT // 2), 3 * probe.gradient())


def test_the_one_point_estimate_is_the_gradient_on_average() -> None:
    """At a point that stays: the weights are put back after every step, and its noise is of order 1 / eps."""
    probe = Probe("one-point", eps=0.5)
    agrees(probe.moves(6 * COUNT)[1:], probe.gradient())


@pytest.mark.parametrize("norms", ["parameters", "gradients"])
def test_the_expectation_modified_estimate_is_the_gradient_over_the_norms(norms: str) -> None:
    probe = Probe("expectation-modified-mezo", norms=norms)
    gradient = probe.problem.gradient()
    values = gradient if norms == "gradients" else probe.start
    agrees(probe.moves(COUNT), torch.cat([(part / values[n].norm()).view(-1) for n, part in gradient.items()]))


@pytest.mark.parametrize("norms", ["variance-modified-mezo", "expectation-modified-mezo"])
def test_the_zeroth_order_norms_square_to_the_gradients_on_average(norms: str) -> None:
    probe = Probe(norms, norms="zeroth-order", recompute_every=1, lr=0.0)
    squares: dict[str, list[float]] = {}
    probe.losses = []
    for _ in range(COUNT // 2):
        probe.optimizer.step(probe)
        for layer, norm in probe.optimizer.shared["scales"].items():
            squares.setdefault(layer, []).append(norm**2)
    wanted = {"layers.0": "layers.0.weight", "layers.1": "layers.1.weight", "head": "head.bias"}
    assert set(squares) == set(wanted)
    for layer, name in wanted.items():
        drawn = torch.tensor(squares[layer])
        square = float(probe.problem.gradient()[name].square().sum())
        assert abs(float(drawn.mean()) - square) < 4 * float(drawn.std()) / math.sqrt(len(drawn))


def test_fzoo_times_the_deviation_over_eps_is_the_gradient() -> None:
    eps = 1e-4
    probe = Probe("fzoo", samples=4, eps=eps)
    found = probe.moves(COUNT // 2, lambda losses: float(torch.tensor(losses[1:]).double().std(correction=0)) / eps)
    agrees(found, probe.gradient())


@pytest.mark.parametrize(("antithetic", "factor"), [(False, 3 / 4), (True, 1.0)])
def test_evolution_times_the_deviation_over_eps_is_the_gradient(antithetic: bool, factor: float) -> None:
    eps = 1e-3
    probe = Probe("evolution", samples=4, eps=eps, antithetic=antithetic)
    found = probe.moves(
        COUNT // 2, lambda losses: (float(torch.tensor(losses).double().std(correction=0)) + 1e-8) / eps
    )
    agrees(found, factor * probe.gradient())


def test_ranks_point_down_the_gradient_on_average() -> None:
    probe = Probe("evolution", samples=6, shape="rank")
    mean = probe.moves(COUNT // 5).mean(0)
    assert float(torch.cosine_similarity(mean, probe.gradient(), 0)) > 0.95


def test_the_sign_of_the_slope_gives_the_gradients_direction_times_a_constant() -> None:
    probe = Probe("zo-sign")
    gradient = probe.gradient()
    agrees(probe.moves(COUNT), math.sqrt(2 / math.pi) * gradient / gradient.norm())


def test_the_sign_of_the_estimate_is_the_likelier_one_in_every_coordinate() -> None:
    probe = Probe("zo-sign", of="estimate", samples=3)
    found = probe.moves(COUNT)
    assert bool((found.abs() - 1 < 1e-9).all())
    # P(sign of the estimate is right) grows with the share of a coordinate in the gradient: ask of the large ones.
    large = probe.gradient().abs() > 0.5 * probe.gradient().abs().max()
    assert bool((found.mean(0) * probe.gradient().sign() > 4 / math.sqrt(COUNT))[large].all())


def test_weights_of_curvature_shrink_the_estimate_by_the_same_factor_where_it_is_the_same() -> None:
    """Of a diagonal Hessian z' A z is the trace, whatever the Rademacher direction."""
    probe = Probe("1.5-spsa", eps=1e-3)
    probe.problem.matrix = 5 * torch.eye(8, dtype=torch.float64)
    agrees(probe.moves(COUNT), probe.gradient() / 40**0.1)


def test_the_conservative_step_lowers_the_loss_every_time() -> None:
    probe = Probe("zo-conservative", lr=0.05)
    values = []
    for _ in range(100):
        probe.losses = []
        probe.optimizer.step(probe)
        values.append(float(probe.problem.loss()))
    assert all(later <= before + 1e-12 for before, later in pairwise(values))
    assert values[-1] < values[0] - 0.1


def test_meazo_goes_by_the_sign_of_the_slope_first_and_does_not_depend_on_the_scale_of_the_loss() -> None:
    def path(scale: float) -> list[Tensor]:
        probe = Probe("meazo", lr=0.01)
        found = []
        for _ in range(5):
            probe.optimizer.step(lambda: scale * probe.problem.loss())
            found.append(probe.problem.theta())
        return found

    for one, other in zip(path(1.0), path(1000.0), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", ["sparse-mezo", "static-mask"])
def test_a_masked_estimate_is_the_gradient_in_the_chosen_weights_alone(name: str) -> None:
    probe = Probe(name, **({"sparsity": 0.4} if name == "sparse-mezo" else {"masks": 0.5}))
    found = probe.moves(COUNT)
    chosen = (found != 0).any(0)
    assert 0 < int(chosen.sum()) < 8
    agrees(found, probe.gradient() * chosen)
