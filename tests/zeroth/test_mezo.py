from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tiny
from reference import mezo_twin
from shoestring.errors import OptimizerError
from shoestring.methods.catalog.mezo import MeZO as Method
from shoestring.models.prompted import PromptedModel
from shoestring.seeds import derive
from shoestring.training.objective import OBJECTIVES
from shoestring.zeroth import MeZO

pytestmark = pytest.mark.usefixtures("frozen_imports")


def weights_of(optimizer: MeZO) -> list[mezo_twin.Weight]:
    found, place = [], 0
    for group in optimizer.param_groups:
        for offset, param in enumerate(group["params"]):
            number = derive(0, "tensor", group["param_names"][offset]) if "param_names" in group else place
            if param.requires_grad:
                found.append(mezo_twin.Weight(param, number, group["lr"], group["weight_decay"]))
            place += 1
    return found


def loss_of(subject: PromptedModel, objective: str = "cross-entropy") -> Callable[[], Tensor]:
    batch = subject.collate(tiny.encoded(subject, 6))
    return lambda: OBJECTIVES.get(objective).loss(subject, batch)


CASES = {
    "roberta": ("roberta", "masked", "cross-entropy", {}),
    "opt": ("opt", "causal", "cross-entropy", {}),
    "opt, language model": ("opt", "causal", "language-model", {}),
    "roberta, weight decay": ("roberta", "masked", "cross-entropy", {"weight_decay": 0.1}),
    "opt, three directions": ("opt", "causal", "cross-entropy", {"samples": 3}),
    "roberta, accuracy": ("roberta", "masked", "accuracy", {"samples": 2, "weight_decay": 0.1}),
    "roberta head": ("roberta", "head", "cross-entropy", {}),
}


@pytest.mark.parametrize("case", CASES)
def test_steps_are_those_of_the_papers_algorithm_written_out(case: str) -> None:
    architecture, kind, objective, changes = CASES[case]
    ours, twin = (tiny.prompted(architecture, kind, dtype=torch.float64) for _ in range(2))
    settings: dict[str, Any] = {"lr": 1e-2, "eps": 1e-3, "weight_decay": 0.0, "samples": 1, "seed": 7} | changes
    optimizer = MeZO(ours.model.parameters(), **settings)
    weights = weights_of(MeZO(twin.model.parameters(), **settings))
    before = [weight.param.clone() for weight in weights]
    for number in range(3):
        loss = optimizer.step(loss_of(ours, objective))
        wanted = mezo_twin.step(
            weights, loss_of(twin, objective), seed=7, number=number, eps=1e-3, samples=settings["samples"]
        )
        assert float(loss) == pytest.approx(wanted, abs=1e-6)
    assert len(weights) > 20
    for (name, param), weight, old in zip(ours.model.named_parameters(), weights, before, strict=True):
        torch.testing.assert_close(param.data, weight.param.data, rtol=0, atol=1e-12, msg=name)
        assert not torch.equal(param, old), name


def test_steps_in_several_groups_are_those_of_the_algorithm_too() -> None:
    ours, twin = (tiny.prompted("roberta", "masked", dtype=torch.float64) for _ in range(2))
    method = Method(lr=1e-2, weight_decay=0.2, samples=2)

    def build(subject: PromptedModel) -> MeZO:
        optimizer = method.optimizer(subject.model, seed=3)
        assert isinstance(optimizer, MeZO)
        optimizer.param_groups[1]["lr"] = 3e-2
        return optimizer

    optimizer = build(ours)
    weights = weights_of(build(twin))
    assert {weight.weight_decay for weight in weights} == {0.0, 0.2}
    for number in range(2):
        optimizer.step(loss_of(ours))
        seed = optimizer.param_groups[0]["seed"]
        mezo_twin.step(weights, loss_of(twin), seed=seed, number=number, eps=method.eps, samples=2)
    for one, other in zip(ours.model.parameters(), twin.model.parameters(), strict=True):
        torch.testing.assert_close(one.data, other.data, rtol=0, atol=1e-12)


def quadratic(size: int, seed: int = 0) -> tuple[nn.Parameter, Callable[[], Tensor], Tensor]:
    """Return theta, L(theta) = theta' A theta / 2 + b' theta, and its gradient there; float64."""
    stream = torch.Generator().manual_seed(seed)
    root = torch.randn(size, size, generator=stream, dtype=torch.float64) / math.sqrt(size)
    matrix, slope = root @ root.T, torch.randn(size, generator=stream, dtype=torch.float64)
    theta = nn.Parameter(torch.randn(size, generator=stream, dtype=torch.float64))
    return theta, lambda: theta @ matrix @ theta / 2 + slope @ theta, (matrix @ theta + slope).detach()


def estimates(samples: int, count: int, size: int) -> tuple[Tensor, Tensor]:
    """Return `count` gradient estimates of a quadratic [count, size], and its gradient [size]."""
    theta, loss, gradient = quadratic(size)
    start = theta.detach().clone()
    optimizer = MeZO([theta], lr=1.0, eps=1e-3, samples=samples, seed=5)
    found = []
    for _ in range(count):
        optimizer.step(loss)
        found.append(start - theta.detach())
        theta.data.copy_(start)
    return torch.stack(found), gradient


@pytest.mark.parametrize("samples", [1, 4])
def test_the_mean_of_many_estimates_is_the_gradient(samples: int) -> None:
    count, size = 3000 // samples, 6
    found, gradient = estimates(samples, count, size)
    # Of one direction the covariance is |grad|^2 I + grad grad' (methods.md 1.1), of n directions 1/n of it.
    deviation = torch.sqrt((gradient.square().sum() + gradient.square()) / (count * samples))
    assert torch.all((found.mean(0) - gradient).abs() < 4 * deviation)


@pytest.mark.parametrize("samples", [1, 4])
def test_the_mean_squared_length_of_estimates_is_that_of_the_papers_lemma(samples: int) -> None:
    size, count = 6, 3000 // samples
    found, gradient = estimates(samples, count, size)
    ratio = found.square().sum(1) / gradient.square().sum()
    wanted = (size + samples + 1) / samples  # of Gaussian directions; the paper's d + n - 1 is of the sphere
    error = float(ratio.std()) / math.sqrt(count)
    assert abs(float(ratio.mean()) - wanted) < 4 * error


def test_the_projected_gradient_is_the_slope_along_the_direction() -> None:
    theta, loss, gradient = quadratic(6)
    optimizer = MeZO([theta], lr=0.0, eps=1e-4, seed=1)
    optimizer.step(loss)
    weight = mezo_twin.Weight(theta, 0, 0.0)
    z = mezo_twin.direction(mezo_twin.derive(1, "direction", 0, 0), weight)
    assert optimizer.last_projected_grads[0] == pytest.approx(float(z @ gradient), rel=1e-6)


def test_directions_of_steps_samples_and_seeds_differ() -> None:
    def moves(seed: int, samples: int) -> list[Tensor]:
        theta = nn.Parameter(torch.zeros(40, dtype=torch.float64))
        optimizer, seen = MeZO([theta], lr=0.0, eps=1.0, seed=seed, samples=samples), []
        for _ in range(2):
            optimizer.step(lambda: float(seen.append(theta.detach().clone()) or 0.0))
        return seen

    directions = [*moves(0, 2)[::2], *moves(1, 2)[::2]]
    for number, one in enumerate(directions):
        assert all(abs(float(torch.corrcoef(torch.stack([one, two]))[0, 1])) < 0.6 for two in directions[:number])
    assert torch.equal(moves(0, 2)[0], moves(0, 1)[0])


class Boom(Exception):
    pass


def failing(at: int, what: Callable[[], float]) -> Callable[[], float]:
    calls = iter(range(10))

    def closure() -> float:
        call = next(calls)
        return what() if call == at else 1.0 + call

    return closure


def raise_boom() -> float:
    raise Boom


@pytest.mark.parametrize("at", [0, 1, 2, 3])
@pytest.mark.parametrize(
    ("what", "error", "message"),
    [
        (raise_boom, Boom, "^$"),
        (lambda: math.nan, OptimizerError, "step 0: the loss is nan; the weights are as they were before"),
        (lambda: math.inf, OptimizerError, "step 0: the loss is inf"),
    ],
    ids=["exception", "nan", "inf"],
)
def test_weights_are_restored_when_the_closure_fails(
    at: int, what: Callable[[], float], error: type[Exception], message: str
) -> None:
    model = nn.Linear(5, 3).double()
    before = [param.detach().clone() for param in model.parameters()]
    optimizer = MeZO(model.parameters(), lr=0.1, samples=2)
    with pytest.raises(error, match=message):
        optimizer.step(failing(at, what))
    for param, old in zip(model.parameters(), before, strict=True):
        torch.testing.assert_close(param.data, old, rtol=0, atol=1e-14)
    assert optimizer.param_groups[0]["steps"] == 0


def test_after_a_failed_step_nothing_is_applied() -> None:
    theta = nn.Parameter(torch.ones(3))
    optimizer = MeZO([theta], lr=0.1)
    with pytest.raises(Boom):
        optimizer.step(failing(1, raise_boom))
    with pytest.raises(OptimizerError, match="needs a closure"):
        optimizer.step()


def test_a_closure_that_calls_backward_is_refused() -> None:
    theta = nn.Parameter(torch.ones(3))
    before = theta.detach().clone()

    def closure() -> Tensor:
        loss = theta.square().sum()
        loss.backward()
        return loss

    with pytest.raises(OptimizerError, match=r"must not call backward\(\)"):
        MeZO([theta], lr=0.1).step(closure)
    torch.testing.assert_close(theta.data, before)


def test_other_errors_of_the_closure_pass_unchanged() -> None:
    def closure() -> float:
        raise RuntimeError("out of paper")

    with pytest.raises(RuntimeError, match="out of paper"):
        MeZO([nn.Parameter(torch.ones(3))]).step(closure)


def test_a_step_without_closure_or_estimate_is_refused() -> None:
    optimizer = MeZO([nn.Parameter(torch.ones(3))])
    with pytest.raises(OptimizerError, match=r"needs a closure that returns the loss: opt\.step\(lambda"):
        optimizer.step()
    optimizer.step(lambda: 1.0)
    with pytest.raises(OptimizerError, match="needs a closure"):
        optimizer.step()


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "lr": ({"lr": -1e-3}, r"MeZO: lr=-0\.001; it must be finite and not negative"),
    "lr nan": ({"lr": math.nan}, "MeZO: lr=nan; it must be finite"),
    "eps": ({"eps": 0.0}, r"MeZO: eps=0\.0; it must be finite and positive"),
    "eps inf": ({"eps": math.inf}, "MeZO: eps=inf"),
    "weight_decay": ({"weight_decay": -1.0}, r"MeZO: weight_decay=-1\.0; it must be finite and not negative"),
    "samples": ({"samples": 0}, "MeZO: samples=0; it must be finite and at least 1"),
    "samples, half": ({"samples": 1.5}, r"MeZO: samples=1\.5; it must be a whole number"),
}


@pytest.mark.parametrize("case", BAD)
def test_settings_that_cannot_work_are_refused(case: str) -> None:
    changes, message = BAD[case]
    with pytest.raises(OptimizerError, match=message):
        MeZO([nn.Parameter(torch.ones(3))], **changes)


@pytest.mark.parametrize("name", ["eps", "samples", "seed", "steps"])
def test_what_is_one_per_optimizer_is_refused_in_a_group(name: str) -> None:
    groups = [{"params": [nn.Parameter(torch.ones(3))]}, {"params": [nn.Parameter(torch.ones(2))], name: 1}]
    with pytest.raises(OptimizerError, match=f"MeZO: {name} is one for all parameters"):
        MeZO(groups)


def test_a_group_may_have_its_own_lr_but_not_a_negative_one() -> None:
    theta = nn.Parameter(torch.ones(3))
    with pytest.raises(OptimizerError, match=r"MeZO: lr=-1\.0"):
        MeZO([{"params": [theta], "lr": -1.0}])


def test_frozen_weights_stay_and_others_move_as_if_nothing_were_frozen() -> None:
    def step(*, freeze: bool) -> list[Tensor]:
        torch_seeded = torch.Generator().manual_seed(0)
        params = [nn.Parameter(torch.randn(4, generator=torch_seeded)) for _ in range(3)]
        params[1].requires_grad_(not freeze)
        MeZO(params, lr=0.1, seed=2).step(failing(0, lambda: 3.0))
        return [param.detach() for param in params]

    free, frozen = step(freeze=False), step(freeze=True)
    assert torch.equal(frozen[0], free[0])
    assert torch.equal(frozen[2], free[2])
    assert not torch.equal(frozen[1], free[1])
    assert torch.equal(frozen[1], torch.randn(12, generator=torch.Generator().manual_seed(0))[4:8])


def test_tied_weights_are_perturbed_once() -> None:
    model = tiny.build_model("roberta", "masked")
    tied = model.get_input_embeddings().weight
    assert model.get_output_embeddings().weight is tied
    before, seen = tied.detach().clone(), []
    optimizer = MeZO(model.parameters(), lr=0.0, eps=0.5, seed=4)
    optimizer.step(lambda: float(seen.append(tied.detach().clone()) or 0.0))
    number = [param is tied for param in optimizer.param_groups[0]["params"]].index(True)
    z = mezo_twin.direction(mezo_twin.derive(4, "direction", 0, 0), mezo_twin.Weight(tied, number, 0.0))
    torch.testing.assert_close(seen[0].double(), before.double() + 0.5 * z, rtol=0, atol=1e-5)
    torch.testing.assert_close(seen[1].double(), before.double() - 0.5 * z, rtol=0, atol=1e-5)


def train(optimizer: Any, theta: Tensor, steps: int) -> None:
    for _ in range(steps):
        optimizer.step(lambda: (theta * torch.arange(1.0, 9.0)).square().sum())


@pytest.mark.parametrize("copied_by", ["state_dict", "pickle", "deepcopy"])
def test_a_restored_optimizer_goes_on_bit_for_bit(copied_by: str) -> None:
    theta = nn.Parameter(torch.ones(8))
    whole = MeZO([theta], lr=1e-3, seed=9, samples=2)
    train(whole, theta, 3)
    if copied_by == "state_dict":
        other = nn.Parameter(theta.detach().clone())
        resumed = MeZO([other], lr=5.0, seed=1)
        resumed.load_state_dict(pickle.loads(pickle.dumps(whole.state_dict())))
    else:
        copier = copy.deepcopy if copied_by == "deepcopy" else lambda thing: pickle.loads(pickle.dumps(thing))
        resumed = copier(whole)
        other = resumed.param_groups[0]["params"][0]
        with pytest.raises(OptimizerError, match="needs a closure"):
            resumed.step()
    train(whole, theta, 4)
    train(resumed, other, 4)
    assert resumed.param_groups[0]["steps"] == 7
    assert torch.equal(theta, other)


def test_the_state_holds_plain_numbers_only(tmp_path: Any) -> None:
    optimizer = MeZO([nn.Parameter(torch.ones(3))], seed=(1 << 63) - 1)
    optimizer.step(lambda: 1.0)
    torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    loaded = torch.load(tmp_path / "state.pt", weights_only=True)
    assert loaded["param_groups"][0]["seed"] == (1 << 63) - 1
    assert loaded["state"] == {}


def test_estimate_and_step_apart_are_a_step() -> None:
    one, other = (nn.Parameter(torch.ones(8)) for _ in range(2))
    together, apart = MeZO([one], lr=1e-2), MeZO([other], lr=1e-2)
    train(together, one, 3)
    for _ in range(3):
        apart.estimate(lambda: (other * torch.arange(1.0, 9.0)).square().sum())
        assert apart.step() is None
    assert torch.equal(one, other)


def test_a_scheduler_drives_the_learning_rate() -> None:
    theta = nn.Parameter(torch.zeros(4, dtype=torch.float64))
    optimizer = MeZO([theta], lr=1.0, seed=3)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: [1.0, 0.5, 0.0][step])
    lengths = []
    for _ in range(3):
        before = theta.detach().clone()
        optimizer.step(lambda: theta.sum())
        lengths.append(float((theta.detach() - before).norm()) / abs(optimizer.last_projected_grads[0]))
        if len(lengths) < 3:
            schedule.step()
    numbers = range(3)
    z = [mezo_twin.direction(mezo_twin.derive(3, "direction", n, 0), mezo_twin.Weight(theta, 0, 0.0)) for n in numbers]
    assert lengths == pytest.approx([float(z[0].norm()), 0.5 * float(z[1].norm()), 0.0], abs=1e-9)


def test_it_works_wrapped_by_accelerate_which_swallows_the_loss() -> None:
    from accelerate import Accelerator

    plain, wrapped = nn.Parameter(torch.ones(8)), nn.Parameter(torch.ones(8))
    optimizer = MeZO([wrapped], lr=1e-2)
    prepared = Accelerator(cpu=True).prepare(optimizer)
    train(MeZO([plain], lr=1e-2), plain, 3)
    train(prepared, wrapped, 3)
    assert torch.equal(plain, wrapped)
    assert optimizer.last_loss is not None
    assert math.isfinite(float(optimizer.last_loss))


def test_a_step_touches_no_global_generator(global_random_states: None) -> None:
    theta = nn.Parameter(torch.ones(8))
    train(MeZO([theta]), theta, 2)


def test_the_loss_is_the_mean_over_both_ends_and_all_directions() -> None:
    values = iter([1.0, 2.0, 3.0, 6.0])
    loss = MeZO([nn.Parameter(torch.ones(3))], samples=2).step(lambda: next(values))
    assert float(loss) == 3.0


def test_the_closure_runs_without_gradients() -> None:
    theta, modes = nn.Parameter(torch.ones(3)), []
    MeZO([theta]).step(lambda: float(modes.append(torch.is_grad_enabled()) or len(modes)))
    assert modes == [False, False]


def test_half_precision_weights_are_nearly_restored_after_a_step_of_no_length() -> None:
    theta = nn.Parameter(torch.linspace(0.5, 1.0, 64, dtype=torch.bfloat16))
    before = theta.detach().clone()
    MeZO([theta], lr=0.0, eps=1e-2).step(lambda: theta.sum())
    # Rounding at each of the three moves, half a unit in the last of 8 bits: what the docstring warns of.
    torch.testing.assert_close(theta.data, before, rtol=3 * 2**-8, atol=0)


def test_the_direction_of_a_named_tensor_depends_on_its_name_alone() -> None:
    """Freezing other tensors, or parting them into other groups, changes nothing."""

    def moved(*names: str, apart: bool = False) -> dict[str, Tensor]:
        tensors = {name: nn.Parameter(torch.zeros(5, dtype=torch.float64)) for name in names}
        named = list(tensors.items())
        groups: Any = [{"params": [pair]} for pair in reversed(named)] if apart else named
        MeZO(groups, lr=1.0, seed=3).step(lambda: sum((param.sum() for param in tensors.values()), torch.zeros(())))
        return {name: param.data / param.data.norm() for name, param in tensors.items()}

    alone, together, apart = moved("b"), moved("a", "b", "c"), moved("a", "b", "c", apart=True)
    sign = torch.sign(alone["b"] @ together["b"])
    torch.testing.assert_close(alone["b"], sign * together["b"])
    for name in together:
        torch.testing.assert_close(together[name], apart[name])
    assert abs(float(together["a"] @ together["b"])) < 0.99
