"""Models that torch compiles."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from shoestring.zeroth import ForwardGradient, MeZO
from shoestring.zeroth.closures import PerExample

pytestmark = pytest.mark.usefixtures("frozen_imports")
X = torch.linspace(-1, 1, 15, dtype=torch.float64).view(3, 5)


@pytest.fixture(autouse=True)
def nothing_compiled() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def network() -> nn.Module:
    stream = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    for param in model.parameters():
        param.data = torch.randn(param.shape, generator=stream, dtype=torch.float64)
    return model.eval()


def graphs() -> tuple[list[int], Any]:
    """Return how often a compiled graph ran, in a list of one number, and the backend that counts."""
    ran = [0]

    def backend(graph: Any, _: Any) -> Callable[..., Any]:
        def counting(*args: Any) -> Any:
            ran[0] += 1
            return graph(*args)

        return counting

    return ran, backend


def stepped(
    make: Any, forward: Callable[[Tensor], Tensor], model: nn.Module, per_example: bool, **settings: Any
) -> tuple[list[float], list[Tensor]]:
    closures = {
        False: lambda: forward(X).square().mean(),
        True: PerExample(lambda batch: forward(batch["x"])[:, 0].square(), [{"x": X}]),
    }
    optimizer = make(model.named_parameters(), lr=0.1, seed=2, **settings)
    losses = []
    for _ in range(3):
        losses += [float(optimizer.step(closures[per_example])), *optimizer.last_projected_grads]
    optimizer.finalize()
    return losses, [param.detach() for param in model.parameters()]


def compiled_of(model: nn.Module, *, warm: bool) -> tuple[Any, list[int]]:
    """Return a compiled model, which may have run once, and how often compiled code ran."""
    ran, backend = graphs()
    compiled = torch.compile(model, backend=backend)
    if warm:
        with torch.no_grad():
            compiled(X)
    return compiled, ran


@pytest.mark.parametrize("per_example", [False, True])
@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("engine", ["paired", {"kind": "paired", "small": 0, "tile": 16, "defer": True}, "virtual"])
def test_a_compiled_model_is_evaluated_at_the_points(engine: Any, warm: bool, per_example: bool) -> None:
    plain, model = network(), network()
    wanted = stepped(MeZO, plain, plain, per_example, engine="replay", eps=1e-3)
    compiled, ran = compiled_of(model, warm=warm)
    before = ran[0]
    found = stepped(MeZO, compiled, model, per_example, engine=engine, eps=1e-3)
    assert ran[0] == before
    assert found[0] == pytest.approx(wanted[0], rel=1e-9, abs=1e-9)
    for one, other in zip(found[1], wanted[1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-11)
    compiled(X)
    assert ran[0] == before + 1, "behind a step compiled code is compiled code again"


@pytest.mark.parametrize("engine", ["fused", "replay"])
def test_engines_that_move_weights_in_place_run_compiled_code(engine: str) -> None:
    plain, model = network(), network()
    wanted = stepped(MeZO, plain, plain, per_example=False, engine="replay", eps=1e-3)
    ran, backend = graphs()
    found = stepped(MeZO, torch.compile(model, backend=backend), model, per_example=False, engine=engine, eps=1e-3)
    assert ran[0] == 6
    assert found[0] == pytest.approx(wanted[0], rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("warm", [False, True])
def test_forward_gradients_of_a_compiled_model_are_those_of_the_model(warm: bool) -> None:
    plain, model = network(), network()
    wanted = stepped(ForwardGradient, plain, plain, per_example=False)
    compiled, ran = compiled_of(model, warm=warm)
    before = ran[0]
    assert stepped(ForwardGradient, compiled, model, per_example=False)[0] == pytest.approx(wanted[0], rel=1e-12)
    assert ran[0] == before


def test_a_closure_that_fails_leaves_compiled_code_compiled() -> None:
    model = network()
    ran, backend = graphs()
    compiled = torch.compile(model, backend=backend)

    def closure() -> Tensor:
        raise RuntimeError("out of paper")

    with pytest.raises(RuntimeError, match="out of paper"):
        MeZO(model.named_parameters()).step(closure)
    compiled(X)
    assert ran == [1]


def test_the_compiler_is_not_imported_for_models_that_are_not_compiled() -> None:
    code = (
        "import sys\n"
        "from shoestring.zeroth.engines.compiled import uncompiled\n"
        "with uncompiled(): print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
