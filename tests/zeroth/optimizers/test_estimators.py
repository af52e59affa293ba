"""What single estimators promise beside their equations."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tiny
from shoestring.errors import OptimizerError
from shoestring.seeds import derive
from shoestring.training.objective import OBJECTIVES
from shoestring.zeroth import (
    FZOO,
    EvolutionStrategies,
    ExpectationModifiedMeZO,
    ForwardGradient,
    LayerWiseMeZO,
    MeZO,
    OnePointMeZO,
    VarianceModifiedMeZO,
    ZOConservative,
)
from shoestring.zeroth.base import OPTIMIZERS
from shoestring.zeroth.closures import PerExample
from shoestring.zeroth.layers import by_layer, layer_of
from shoestring.zeroth.optimizers.evolution import ranks, z_scores
from shoestring.zeroth.tensors import trained_tensors

REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "sides": ("mezo", {"sides": 3}, "MeZO: sides=3; allowed: 1, 2"),
    "grow_over": ("mezo", {"grow_over": 0}, "MeZO: grow_over=0; it must be finite and at least 1"),
    "conservative sides": ("zo-conservative", {"sides": 0}, "ZOConservative: sides=0; allowed: 1, 2"),
    "norms": (
        "variance-modified-mezo",
        {"norms": "weights"},
        "VarianceModifiedMeZO: norms='weights'; allowed: 'parameters', 'gradients', 'zeroth-order'",
    ),
    "recompute_every": ("expectation-modified-mezo", {"recompute_every": 0}, "recompute_every=0; it must be"),
    "of": ("zo-sign", {"of": "it"}, "ZOSign: of='it'; allowed: 'projected-grad', 'estimate'"),
    "fzoo samples": ("fzoo", {"samples": 1}, "FZOO: samples=1; it must be finite and at least 2"),
    "evolution samples": ("evolution", {"samples": 1}, "samples=1; it must be finite and at least 2"),
    "shape": ("evolution", {"shape": "log"}, "shape='log'; allowed: 'z-score', 'rank'"),
    "power": ("1.5-spsa", {"power": -1.0}, r"CurvatureSPSA: power=-1\.0; it must be finite and not negative"),
    "beta": ("meazo", {"beta": 1.0}, r"MEAZO: beta=1\.0; it must be at least 0 and below 1"),
    "floor": ("meazo", {"floor": 0.0}, r"MEAZO: floor=0\.0; it must be finite and positive"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_settings_of_single_optimizers_that_cannot_work_are_refused(case: str) -> None:
    name, settings, message = REFUSED[case]
    with pytest.raises(OptimizerError, match=message):
        OPTIMIZERS.get(name)([nn.Parameter(torch.ones(3))], **settings)


def test_there_is_a_closure_only_while_an_estimate_is_made() -> None:
    optimizer = MeZO([nn.Parameter(torch.ones(3))], engine="replay")
    optimizer.step(lambda: 1.0)
    with pytest.raises(OptimizerError, match="MeZO: there is a closure only while an estimate is made"):
        _ = optimizer.closure


def test_the_number_of_directions_grows_to_its_end_and_stays_there() -> None:
    optimizer = MeZO([nn.Parameter(torch.ones(3))], samples=3, grow_over=6, lr=0.0, engine="replay")
    found = []
    for _ in range(9):
        optimizer.step(lambda: 1.0)
        found.append(optimizer.last_passes // 2)
    assert found == [1, 1, 1, 1, 2, 2, 3, 3, 3]


def test_fzoo_counts_a_step_without_deviation_and_moves_nothing_not_even_by_decay() -> None:
    theta = nn.Parameter(torch.ones(3))
    optimizer = FZOO([theta], lr=0.5, weight_decay=0.5, engine="replay")
    assert float(optimizer.step(lambda: 2.0)) == 2.0
    torch.testing.assert_close(theta.detach(), torch.ones(3), rtol=0, atol=1e-6)
    assert (optimizer.shared["skipped"], optimizer.shared["steps"]) == (1, 1)
    optimizer.step(lambda: theta[0] * 1.0)
    assert optimizer.shared["skipped"] == 1


def test_fzoo_probes_along_signs_unless_told_otherwise() -> None:
    theta, seen = nn.Parameter(torch.zeros(40)), []
    FZOO([theta], eps=1.0, samples=2, engine="replay").step(lambda: float(seen.append(theta.detach().clone()) or 0))
    assert set(seen[1].tolist()) == {-1.0, 1.0}
    seen.clear()
    FZOO([theta], eps=1.0, samples=2, engine="replay", directions="gaussian").step(
        lambda: float(seen.append(theta.detach().clone()) or 0)
    )
    assert len(set(seen[1].tolist())) > 30


def test_the_conservative_step_stays_without_further_passes_where_the_slope_is_zero() -> None:
    optimizer = ZOConservative([nn.Parameter(torch.ones(3))], engine="replay")
    optimizer.step(lambda: 4.0)
    assert optimizer.last_passes == 2


def test_the_conservative_step_takes_the_opposite_where_that_is_better() -> None:
    """The slope is measured on one side of a wall, the step lands beyond it."""
    theta = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    values = iter([1.0, -1.0, 0.0, 5.0, -2.0])
    optimizer = ZOConservative([theta], lr=0.1, eps=0.1, engine="replay", directions="rademacher")
    loss = optimizer.step(lambda: next(values))
    assert float(loss) == 0.0
    grad = optimizer.last_projected_grads[0]
    assert grad == pytest.approx(10.0)
    assert abs(theta.item()) == pytest.approx(1.0)  # lr g z, with the sign that descent along the slope does not have.
    again = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    plain = MeZO([again], lr=0.1, eps=0.1, engine="replay", directions="rademacher")
    values = iter([1.0, -1.0])
    plain.step(lambda: next(values))
    assert again.item() == pytest.approx(-theta.item())


def test_a_skipped_step_leaves_the_loss_that_the_one_point_estimate_has_noted() -> None:
    values = iter([3.0, math.nan, 5.0])
    optimizer = OnePointMeZO([nn.Parameter(torch.ones(3))], eps=0.5, lr=0.0, nonfinite="skip", engine="replay")
    for _ in range(3):
        optimizer.step(lambda: next(values))
    assert optimizer.last_projected_grads == (4.0,)


@pytest.mark.parametrize("antithetic", [False, True])
@pytest.mark.parametrize("shape", ["z-score", "rank"])
def test_evolution_reports_a_slope_along_each_direction(shape: str, *, antithetic: bool) -> None:
    theta, slope = nn.Parameter(torch.zeros(5, dtype=torch.float64)), torch.arange(5.0, dtype=torch.float64)
    settings: dict[str, Any] = {"samples": 4, "antithetic": antithetic, "shape": shape, "eps": 1e-2, "seed": 3}
    optimizer = EvolutionStrategies([("w", theta)], lr=0.0, engine="replay", **settings)
    optimizer.step(lambda: theta @ slope)
    (tensor,), found = optimizer.engine.tensors, []
    for sample in range(4):
        z = torch.empty(5)
        optimizer.directions.fill(z, tensor, derive(3, "direction", 0, sample))
        found.append(float(z.double() @ slope))
    wanted = found if antithetic else [along - sum(found) / 4 for along in found]
    assert optimizer.last_projected_grads == pytest.approx(wanted, rel=1e-6)


def test_shapes_of_rewards() -> None:
    assert ranks([3.0, 1.0, 2.0]) == [0.5, -0.5, 0.0]
    assert ranks([2.0, 2.0, 2.0, 2.0]) == [0.0] * 4
    assert z_scores([7.0, 7.0]) == [0.0, 0.0]
    assert sum(value**2 for value in z_scores([1.0, 2.0, 4.0])) == pytest.approx(3, rel=1e-6)


LAYERS = {
    "roberta.embeddings.LayerNorm.weight": "embeddings",
    "roberta.encoder.layer.3.output.dense.bias": "roberta.encoder.layer.3",
    "lm_head.layer_norm.weight": "head",
    "classifier.dense.weight": "head",
    "transformer.wte.weight": "embeddings",
    "transformer.h.10.attn.c_attn.weight": "transformer.h.10",
    "transformer.ln_f.bias": "rest",
    "shared.weight": "embeddings",
    "encoder.block.0.layer.1.DenseReluDense.wi.weight": "encoder.block.0",
    "decoder.block.0.layer.0.SelfAttention.q.weight": "decoder.block.0",
    "base_model.model.model.layers.2.self_attn.q_proj.lora_A.default.weight": "base_model.model.model.layers.2",
    "0.weight": "0",
    "#4": "#4",
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_recognised_by_their_names(name: str) -> None:
    assert layer_of(name) == LAYERS[name]


@pytest.mark.parametrize(("architecture", "kind"), [("roberta", "masked"), ("opt", "causal"), ("llama", "causal")])
def test_a_models_layers_are_its_embeddings_its_numbered_layers_its_head_and_the_rest(
    architecture: str, kind: str
) -> None:
    model = tiny.build_model(architecture, kind)
    layers = by_layer(
        trained_tensors([{"params": list(model.parameters()), "param_names": [n for n, _ in model.named_parameters()]}])
    )
    numbered = [layer for layer in layers if layer.rpartition(".")[2].isdigit()]
    assert len(numbered) == 2
    assert "embeddings" in layers
    assert set(layers) - set(numbered) <= {"embeddings", "head", "rest"}


def test_scales_are_kept_measured_again_when_due_and_never_zero() -> None:
    theta, other = nn.Parameter(torch.tensor([3.0, 4.0])), nn.Parameter(torch.zeros(2))
    named = [("layers.0.w", theta), ("layers.1.w", other)]
    for every, wanted in ((None, 5.0), (2, 10.0)):
        optimizer = VarianceModifiedMeZO(named, lr=0.0, recompute_every=every, engine="replay")
        optimizer.step(lambda: theta.sum())
        assert optimizer.shared["scales"]["layers.0"] == pytest.approx(5.0, rel=1e-5)
        assert optimizer.shared["scales"]["layers.1"] == 1.0
        theta.data *= 2
        optimizer.step(lambda: theta.sum())
        assert optimizer.shared["scales"]["layers.0"] == pytest.approx(5.0, rel=1e-5)
        optimizer.step(lambda: theta.sum())
        assert optimizer.shared["scales"]["layers.0"] == pytest.approx(wanted, rel=1e-5)
        theta.data /= 2
        other.data.zero_()


@pytest.mark.parametrize("make", [VarianceModifiedMeZO, ExpectationModifiedMeZO])
@pytest.mark.parametrize("old", [False, True])
def test_a_measurement_whose_step_was_skipped_is_made_in_the_next(make: Any, *, old: bool) -> None:
    theta, bad = nn.Parameter(torch.tensor([3.0, 4.0])), {4, 5, 9}
    settings: dict[str, Any] = {"norms": "gradients", "lr": 0.0, "recompute_every": 4, "nonfinite": "skip"}
    optimizer = make([("w", theta)], engine="replay", **settings)
    found = []
    for step in range(10):
        if old and step == 3:
            del optimizer.shared["measured_at"]  # As in states of earlier versions.
        factor = math.nan if step in bad else float(step + 1)
        optimizer.step(lambda factor=factor: theta.square().sum() * factor / 10)
        found.append(round(optimizer.shared["scales"]["rest"]))
    assert found == [1, 1, 1, 1, 1, 1, 7, 7, 9, 9]
    assert optimizer.shared["measured_at"] == 8


def test_gradient_norms_of_a_loss_without_gradients_are_refused_with_the_remedy() -> None:
    theta = nn.Parameter(torch.ones(3))
    with pytest.raises(
        OptimizerError, match=r"number, detached, or made by operations.*masks that need no gradient work"
    ):
        ExpectationModifiedMeZO([theta], norms="gradients", engine="replay").step(lambda: 1.0)


def test_layers_have_slopes_of_their_own() -> None:
    one, two = (nn.Parameter(torch.zeros(4, dtype=torch.float64)) for _ in range(2))
    optimizer = LayerWiseMeZO([("layers.0.w", one), ("layers.1.w", two)], lr=0.1, engine="replay")
    optimizer.step(lambda: one.sum())
    assert len(optimizer.last_projected_grads) == 2
    assert optimizer.last_projected_grads[1] == pytest.approx(0.0, abs=1e-9)
    torch.testing.assert_close(two.detach(), torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-10)
    assert float(one.detach().sum()) < 0


def loss_of(subject: Any) -> Callable[[], Tensor]:
    batch = subject.collate(tiny.encoded(subject, 4))
    return lambda: OBJECTIVES.get("cross-entropy").loss(subject, batch)


@pytest.mark.usefixtures("frozen_imports")
@pytest.mark.parametrize(
    ("architecture", "kind"),
    [
        ("roberta", "masked"),
        ("bert", "masked"),
        ("opt", "causal"),
        ("gpt2", "causal"),
        ("llama", "causal"),
        ("roberta", "head"),
    ],
)
def test_the_forward_gradients_slope_is_that_of_finite_differences(architecture: str, kind: str) -> None:
    subject = tiny.prompted(architecture, kind, dtype=torch.float64)
    named, before = list(subject.model.named_parameters()), [p.detach().clone() for p in subject.model.parameters()]
    exact = ForwardGradient(named, lr=0.0, seed=3, engine="replay")
    loss = exact.step(loss_of(subject))
    assert all(torch.equal(param, old) for param, old in zip(subject.model.parameters(), before, strict=True))
    assert float(loss) == pytest.approx(float(loss_of(subject)().detach()), rel=1e-5)
    # Llama's norms and positions are computed in float32 whatever the weights are.
    eps, error = (1e-4, 5e-3) if architecture == "llama" else (1e-6, 1e-5)
    near = MeZO(named, lr=0.0, seed=3, eps=eps, engine="replay")
    near.step(loss_of(subject))
    assert exact.last_projected_grads[0] == pytest.approx(near.last_projected_grads[0], rel=error)


def test_a_forward_gradient_goes_through_a_batch_cut_into_examples() -> None:
    theta = nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float64))
    batches = [{"x": torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)} for _ in range(2)]
    optimizer = ForwardGradient([theta], lr=0.0, seed=1, engine="replay")
    optimizer.step(PerExample(lambda batch: (batch["x"] @ theta).square(), batches))
    z = torch.empty(2)
    optimizer.directions.fill(z, trained_tensors(optimizer.param_groups)[0], derive(1, "direction", 0, 0))
    assert optimizer.last_projected_grads[0] == pytest.approx(float(theta.detach() @ z.double()))
