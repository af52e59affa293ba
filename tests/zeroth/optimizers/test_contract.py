"""What every registered zeroth-order optimizer does: a new one is tested here without writing a test."""

from __future__ import annotations

import copy
import inspect
import math
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from shoestring.errors import OptimizerError, UnknownNameError
from shoestring.zeroth.base import OPTIMIZERS, ZerothOrder
from shoestring.zeroth.engines.base import ENGINES
from shoestring.zeroth.noise import using

NAMES = OPTIMIZERS.names()
# Settings for the few whose defaults are made for large models.
SETTINGS: dict[str, dict[str, Any]] = {
    "one-point": {"eps": 0.3},
    "sparse-mezo": {"sparsity": 0.05},
    "static-mask": {"masks": 0.9},
    "subzero": {"rank": 2},
}
NEED_DERIVATIVES = {"forward-gradient"}
WITHOUT_DERIVATIVES = [name for name in NAMES if name not in NEED_DERIVATIVES]


class Model(nn.Module):
    """A matrix and a vector in each of two numbered layers, and a vector beside."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.layers = nn.ModuleList([skip_init(nn.Linear, 6, 4), skip_init(nn.Linear, 4, 4)])
        self.scale = nn.Parameter(torch.empty(3))
        drawn = torch.Generator().manual_seed(1)
        for param in self.parameters():
            param.data = torch.randn(param.shape, generator=drawn).to(dtype)

    def forward(self) -> Tensor:
        """Return a quadratic whose curvature differs between tensors."""
        parts = [(place % 3 + 1) * (param - 0.2).square().mean() for place, param in enumerate(self.parameters())]
        return torch.stack(parts).sum()

    def weights(self) -> list[Tensor]:
        return [param.detach().clone() for param in self.parameters()]


def build(name: str, params: Any, **settings: Any) -> Any:
    return OPTIMIZERS.get(name)(params, **({"engine": "replay", "lr": 1e-4} | SETTINGS.get(name, {}) | settings))


def grouped(model: nn.Module, second: dict[str, Any]) -> list[dict[str, Any]]:
    named = list(model.named_parameters())
    return [{"params": named[:2]}, {"params": named[2:], **second}]


def train(optimizer: Any, closure: Callable[[], Any], steps: int) -> None:
    for _ in range(steps):
        optimizer.step(closure)


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def close(one: list[Tensor], other: list[Tensor], error: float = 1e-5) -> bool:
    return all(torch.allclose(a, b, rtol=0, atol=error) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    ("engine", "copied_by"),
    [*((engine, "file") for engine in ENGINES.names()), ("replay", "pickle"), ("replay", "deepcopy")],
)
@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_optimizer_goes_on_bit_for_bit(name: str, engine: str, copied_by: str, tmp_path: Path) -> None:
    model = Model()
    whole = build(name, grouped(model, {"lr": 3e-5, "weight_decay": 0.0}), engine=engine, weight_decay=0.1, seed=5)
    train(whole, model, 4)
    whole.finalize()
    if copied_by in ("pickle", "deepcopy"):
        pair = (model, whole)
        other, resumed = copy.deepcopy(pair) if copied_by == "deepcopy" else pickle.loads(pickle.dumps(pair))
    else:
        other = copy.deepcopy(model)
        resumed = build(name, grouped(other, {}), engine=engine, lr=0.5, seed=2)
        torch.save(whole.state_dict(), tmp_path / "state.pt")
        resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for trained, optimizer in ((model, whole), (other, resumed)):
        train(optimizer, trained, 5)
        optimizer.finalize()
    assert same(model.weights(), other.weights())
    assert not same(model.weights(), Model().weights())
    assert resumed.shared["steps"] == 9


@pytest.fixture
def default_dtype() -> Iterator[Callable[[torch.dtype], None]]:
    before = torch.get_default_dtype()
    yield torch.set_default_dtype
    torch.set_default_dtype(before)


@pytest.mark.parametrize(
    ("engine", "backend"), [*((engine, "numba") for engine in ENGINES.names()), ("replay", "torch")]
)
@pytest.mark.parametrize("name", NAMES)
def test_the_global_default_dtype_changes_nothing(
    name: str, engine: str, backend: str, default_dtype: Callable[[torch.dtype], None]
) -> None:
    found = []
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        model = Model()
        default_dtype(dtype)
        optimizer = build(name, model.named_parameters(), engine=engine, seed=2)
        with using(backend):
            train(optimizer, model, 2)
            optimizer.finalize()
        default_dtype(torch.float32)
        found.append(model.weights())
    assert same(found[0], found[1])
    assert same(found[0], found[2])


@pytest.mark.parametrize("name", NAMES)
def test_a_group_with_a_learning_rate_of_its_own_moves_by_it(name: str) -> None:
    model = Model(torch.float64)
    before = model.weights()
    optimizer = build(name, grouped(model, {"lr": 0.0}))
    train(optimizer, model, 3)
    after = model.weights()
    assert close(before[2:], after[2:], 1e-12)
    assert not close(before[:2], after[:2], 1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_what_does_not_require_gradients_is_left_alone(name: str) -> None:
    model = Model()
    before = model.weights()
    model.scale.requires_grad_(False)
    train(build(name, model.named_parameters(), weight_decay=0.1), model, 3)
    after = model.weights()
    place = [param is model.scale for param in model.parameters()].index(True)
    assert torch.equal(before[place], after[place])
    assert not same(before, after)


@pytest.mark.parametrize("name", NAMES)
def test_where_the_loss_is_flat_nothing_moves(name: str) -> None:
    model = Model(torch.float64)
    before = model.weights()
    closure = (lambda: model() * 0) if name in NEED_DERIVATIVES else (lambda: 1.5)
    train(build(name, model.named_parameters(), lr=0.1), closure, 3)
    assert close(before, model.weights(), 1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_it_lowers_a_quadratic_loss_at_some_learning_rate(name: str) -> None:
    reached: dict[float, float] = {}
    for lr in (0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4):
        model = Model(torch.float64)
        before = float(model().detach())
        optimizer = build(name, model.named_parameters(), lr=lr, seed=3)
        try:
            for _ in range(6):
                train(optimizer, model, 50)
                reached[lr] = float(model().detach()) / before
                if reached[lr] > 100:  # It will not come back.
                    break
        except OptimizerError:
            continue
        if reached[lr] < 0.7:
            return
    pytest.fail(f"loss over loss at the beginning, by learning rate: {reached}")


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("name", NAMES)
def test_a_loss_that_is_not_finite_is_refused_and_leaves_all_as_it_was(name: str, bad: float) -> None:
    model = Model(torch.float64)
    optimizer = build(name, model.named_parameters(), weight_decay=0.1)
    train(optimizer, model, 2)
    before, passes = model.weights(), optimizer.last_passes
    state = copy.deepcopy(optimizer.state_dict())
    calls = iter(range(100))
    with pytest.raises(OptimizerError, match=f"step 2: the loss is -?{bad}"):
        optimizer.step(lambda: model() * (bad if next(calls) >= passes - 1 else 1.0))
    assert close(before, model.weights(), 1e-12)
    assert repr(optimizer.state_dict()) == repr(state)


@pytest.mark.parametrize("name", NAMES)
def test_a_loss_that_is_not_finite_is_skipped_and_counted_where_asked(name: str) -> None:
    model = Model(torch.float64)
    optimizer = build(name, model.named_parameters(), weight_decay=0.1, nonfinite="skip")
    train(optimizer, model, 2)
    before = model.weights()
    optimizer.step(lambda: model() * math.nan)
    assert close(before, model.weights(), 1e-12)
    assert (optimizer.shared["skipped"], optimizer.shared["steps"]) == (1, 3)
    train(optimizer, model, 2)
    assert not close(before, model.weights(), 1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_steps_touch_no_global_generator(name: str, global_random_states: None) -> None:
    model = Model()
    train(build(name, model.named_parameters()), model, 2)


@pytest.mark.parametrize("name", NAMES)
def test_the_passes_counted_are_the_calls_of_the_closure(name: str) -> None:
    model, calls = Model(), []

    def closure() -> Tensor:
        calls.append(1)
        return model()

    optimizer = build(name, model.named_parameters())
    for _ in range(3):
        calls.clear()
        optimizer.step(closure)
        assert optimizer.last_passes == len(calls) > 0


def reward(model: Model) -> float:
    """Return minus the number of weights near their goal: a loss in steps, by plain Python."""
    return -float(sum(abs(value - 0.2) < 0.4 for param in model.parameters() for value in param.flatten().tolist()))


@pytest.mark.parametrize("name", WITHOUT_DERIVATIVES)
def test_any_python_reward_can_be_optimised(name: str) -> None:
    model = Model(torch.float64)
    before = model.weights()
    train(build(name, model.named_parameters(), eps=0.3, lr=0.1), lambda: reward(model), 8)
    assert all(bool(weight.isfinite().all()) for weight in model.weights())
    assert not close(before, model.weights(), 1e-9)


@pytest.mark.parametrize("name", sorted(NEED_DERIVATIVES))
def test_one_that_needs_a_derivative_says_so_when_there_is_none(name: str) -> None:
    model = Model()
    before = model.weights()
    for closure in (lambda: reward(model), lambda: (model() > 0).float(), lambda: model().detach()):
        with pytest.raises(OptimizerError, match=r"the closure's loss has no tangent.*takes any loss"):
            build(name, model.named_parameters()).step(closure)
    assert same(before, model.weights())


@pytest.mark.parametrize("name", NAMES)
def test_settings_that_cannot_work_are_refused(name: str) -> None:
    kind = OPTIMIZERS.get(name)
    settings = set(inspect.signature(kind.__init__).parameters)
    given = {"lr": -1.0, "weight_decay": math.nan}
    given |= {"eps": 0.0} if "eps" in settings else {}
    given |= {"samples": 0} if "samples" in settings else {}
    for setting, value in given.items():
        with pytest.raises(OptimizerError, match=f"{kind.__name__}: {setting}={value!r}; it must be"):
            build(name, Model().named_parameters(), **{setting: value})
    if "samples" in settings:
        with pytest.raises(OptimizerError, match=r"samples=2\.5; it must be a whole number"):
            build(name, Model().named_parameters(), samples=2.5)
    with pytest.raises(UnknownNameError, match=f"unknown {kind.__name__} setting 'momentumm'"):
        build(name, Model().named_parameters(), momentumm=0.9)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_one_per_optimizer_is_refused_in_a_group(name: str) -> None:
    shared = build(name, Model().named_parameters()).shared
    for setting in set(shared) - {"params", "param_names", "lr", "weight_decay"}:
        with pytest.raises(OptimizerError, match=f"{setting} is one for all parameters"):
            build(name, grouped(Model(), {setting: 1}))


@pytest.mark.parametrize("name", NAMES)
def test_its_description_says_where_it_is_from_and_what_it_costs(name: str) -> None:
    kind = OPTIMIZERS.get(name)
    assert issubclass(kind, ZerothOrder)
    text = kind.__doc__ or ""
    assert "Source: " in text
    assert "forward pass" in text
