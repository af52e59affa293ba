"""Weights that others change while an engine has still to put them right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from shoestring.errors import OptimizerError
from shoestring.zeroth import LOZO, MeZO
from shoestring.zeroth.directions.dense import Dense
from shoestring.zeroth.engines.fused import FusedEngine
from shoestring.zeroth.engines.held import Held, Part
from shoestring.zeroth.engines.versions import Versions
from shoestring.zeroth.points import Points
from shoestring.zeroth.tensors import trained_tensors
from shoestring.zeroth.update import Rate, TermsUpdate

pytestmark = pytest.mark.usefixtures("frozen_imports")
X = torch.linspace(-1, 1, 12, dtype=torch.float64).view(3, 4)


def network() -> Any:
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    stream = torch.Generator().manual_seed(0)
    for param in model.parameters():
        param.data = torch.randn(param.shape, generator=stream, dtype=torch.float64)
    return model


def replaced(model: Any) -> None:
    model[0].weight.data = torch.ones(4, 4, dtype=torch.float64)


def smaller(model: Any) -> None:
    model[0].weight.data = model[0].weight.data[:2]


def written(model: Any) -> None:
    with torch.no_grad():
        model[0].weight.fill_(1.0)


CHANGES: dict[str, Callable[[Any], Any]] = {
    "written": written,
    "other memory": replaced,
    "another shape": smaller,
    "another dtype": lambda model: model.float(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_others_do_to_a_tensor_is_noticed(change: str) -> None:
    model = network()
    tensors = trained_tensors([{"params": list(model.parameters())}])
    versions = Versions(tensors)
    assert versions.changed() == []
    CHANGES[change](model)
    assert tensors[0] in versions.changed()
    versions.note()
    assert versions.changed() == []


def test_only_tensors_that_were_changed_are_told() -> None:
    model = network()
    tensors = trained_tensors([{"params": list(model.parameters())}])
    versions = Versions(tensors)
    replaced(model)
    assert versions.changed() == tensors[:1]


@pytest.mark.parametrize("then", ["step", "finalize"])
@pytest.mark.parametrize("change", ["other memory", "another dtype"])
@pytest.mark.parametrize("engine", ["fused", "virtual", {"kind": "paired", "defer": True}], ids=str)
def test_weights_with_other_memory_get_no_update_that_is_not_theirs(engine: Any, change: str, then: str) -> None:
    model = network()
    optimizer = LOZO(model.named_parameters(), lr=0.1, eps=0.1, rank=1, engine=engine)

    def loss() -> Tensor:
        return model(X.to(model[0].weight.dtype)).square().mean()

    for _ in range(2):
        optimizer.step(loss)
    CHANGES[change](model)
    before = model[0].weight.detach().clone()
    with pytest.raises(OptimizerError, match=r"0\.weight.* changed while.*before loading, converting or changing"):
        optimizer.step(loss) if then == "step" else optimizer.finalize()
    assert torch.equal(model[0].weight, before)
    optimizer.step(loss)
    optimizer.finalize()
    assert all(param.isfinite().all() for param in model.parameters())


def test_an_update_put_off_where_weights_are_themselves_is_not_that_of_others() -> None:
    model = network()
    tensors = trained_tensors([{"params": list(model.parameters())}])
    engine, directions = FusedEngine(tensors), Dense("gaussian")
    with torch.no_grad():
        engine.losses(lambda: model(X).square().mean(), Points(directions, (1,), ((0.1,), (0.0,))))
    engine.apply(TermsUpdate(directions, [(1, 0.3)], [Rate(0.1, 0.0)]))
    replaced(model)
    with pytest.raises(OptimizerError, match="changed while the weights were not in place"):
        engine.finalize()
    assert torch.equal(model[0].weight, torch.ones(4, 4, dtype=torch.float64))


def test_weights_loaded_where_nothing_waits_are_taken_as_they_are() -> None:
    model = network()
    optimizer = MeZO(model.named_parameters(), lr=0.1, eps=0.1, engine="fused")
    optimizer.step(lambda: model(X).square().mean())
    optimizer.finalize()
    replaced(model)
    optimizer.step(lambda: model(X).square().mean())
    optimizer.finalize()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_factors_fit_the_weights_that_get_them(dtype: torch.dtype) -> None:
    theta = nn.Parameter(torch.ones(4, 3, dtype=torch.float64))
    (tensor,) = trained_tensors([{"params": [theta]}])
    held = Held()
    held.take([Part(tensor, torch.ones(4, 1), torch.ones(3, 1), 0.5)])
    theta.data = theta.data.to(dtype)
    folded = held.update(TermsUpdate(Dense("gaussian"), [(1, 1.0)], [Rate(1.0, 0.0)]))
    folded(tensor, 0, theta.numel())
    torch.testing.assert_close(theta.detach(), torch.full((4, 3), 1.5, dtype=dtype))
