"""Closures that run the model in another thread, which torch's modes do not reach."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from shoestring.zeroth import MeZO
from shoestring.zeroth.closures import PerExample
from shoestring.zeroth.trajectory import Recorder, replay

pytestmark = pytest.mark.usefixtures("frozen_imports")
X = torch.linspace(-1, 1, 12, dtype=torch.float64).view(3, 4)
WORDS = "past the tensors that the optimizer was given: no tensor in this thread, but in another one; weights are"


def network() -> nn.Module:
    model = nn.Linear(4, 1).double()
    stream = torch.Generator().manual_seed(0)
    for param in model.parameters():
        param.data = torch.randn(param.shape, generator=stream, dtype=torch.float64)
    return model


def trained(engine: Any, per_example: bool) -> tuple[list[float], list[Tensor], str | None]:
    model = network()
    optimizer = MeZO(model.named_parameters(), lr=0.1, eps=0.01, engine=engine)
    with ThreadPoolExecutor(1) as pool:

        def losses(batch: dict[str, Tensor]) -> Tensor:
            def work() -> Tensor:
                with torch.no_grad():
                    return model(batch["x"])[:, 0].square()

            return pool.submit(work).result()

        batch = {"x": X}
        slopes = []
        for _ in range(3):
            optimizer.step(PerExample(losses, [batch]) if per_example else lambda: losses(batch).mean())
            slopes += optimizer.last_projected_grads
    optimizer.finalize()
    return slopes, [param.detach() for param in model.parameters()], optimizer.engine.instead


@pytest.mark.parametrize("per_example", [False, True])
@pytest.mark.parametrize("engine", ["paired", "virtual", {"kind": "paired", "defer": True}], ids=str)
def test_a_model_that_runs_in_another_thread_is_evaluated_in_place(
    engine: Any, per_example: bool, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = trained("replay", per_example)
    with caplog.at_level(logging.WARNING):
        found = trained(engine, per_example)
    assert found[2] == "fused"
    assert found[0] == pytest.approx(wanted[0], rel=1e-8)
    for one, other in zip(found[1], wanted[1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
    assert [WORDS in record.getMessage() for record in caplog.records] == [True]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_losses_that_were_known_before_change_neither_engine_nor_weights(
    dtype: torch.dtype, caplog: pytest.LogCaptureFixture
) -> None:
    model = network().to(dtype)
    before = [param.detach().clone() for param in model.parameters()]
    optimizer = MeZO(model.named_parameters(), lr=0.1, eps=0.3)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            optimizer.step(lambda: 1.5)
    assert not caplog.records
    assert optimizer.engine.instead is None
    for param, old in zip(model.parameters(), before, strict=True):
        assert torch.equal(param, old)


def test_equal_losses_of_weights_that_were_read_change_no_engine() -> None:
    model = network()
    optimizer = MeZO(model.named_parameters(), lr=0.1, eps=1e-3)
    for _ in range(3):
        optimizer.step(lambda: (model(X) > 1e3).double().mean())
    assert optimizer.engine.instead is None


def test_equal_losses_of_a_log_change_no_engine(tmp_path: Any, caplog: pytest.LogCaptureFixture) -> None:
    model, again = network(), network()
    optimizer = MeZO(model.named_parameters(), lr=0.1, eps=1e-3, weight_decay=0.1)
    with Recorder(optimizer, tmp_path / "log", model=model):
        for _ in range(3):
            optimizer.step(lambda: (model(X) > 1e3).double().mean())
    with caplog.at_level(logging.WARNING):
        replay(tmp_path / "log", again)
    assert not caplog.records
    for one, other in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
