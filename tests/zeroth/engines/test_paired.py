from __future__ import annotations

import logging
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tiny_forwards
from shoestring.errors import OptimizerError, UnknownNameError
from shoestring.zeroth import FZOO, MeZO
from shoestring.zeroth.closures import PerExample
from shoestring.zeroth.directions.dense import gaussian
from shoestring.zeroth.directions.lowrank import LowRank
from shoestring.zeroth.engines.base import make_engine
from shoestring.zeroth.engines.paired import PairedEngine, usual_tile
from shoestring.zeroth.points import Points

pytestmark = pytest.mark.usefixtures("frozen_imports")
TILED = {"kind": "paired", "small": 0, "tile": 100}
Run = tuple[list[float], Tensor, MeZO]


def trained(
    forward: tiny_forwards.Forward, engine: Any, closure: str = "per example", steps: int = 3, **settings: Any
) -> Run:
    """Return projected gradients and final weights; the model's own weights are put back."""
    before = {name: param.detach().clone() for name, param in forward.model.named_parameters()}
    settings = {"lr": 1e-3, "eps": 1e-3, "seed": 1} | settings
    optimizer = MeZO(forward.model.named_parameters(), engine=engine, **settings)
    grads = []
    for _ in range(steps):
        optimizer.step(forward.closure(closure))
        grads += optimizer.last_projected_grads
    optimizer.finalize()
    flat = torch.cat([param.detach().view(-1) for param in forward.model.parameters()])
    for name, param in forward.model.named_parameters():
        param.data.copy_(before[name])
    return grads, flat, optimizer


def assert_same(one: Run, other: Run, tolerance: float = 1e-9) -> None:
    assert one[0] == pytest.approx(other[0], rel=tolerance, abs=tolerance)
    torch.testing.assert_close(one[1], other[1], rtol=tolerance, atol=tolerance)


def repeats(optimizer: MeZO) -> bool | None:
    assert isinstance(optimizer.engine, PairedEngine)
    return optimizer.engine.repeats


ISSUE = ("roberta", "bert", "opt", "gpt2", "llama", "qwen3", "t5")


@pytest.mark.parametrize("engine", ["fused", "paired", TILED, TILED | {"max_rows": 4, "defer": True}], ids=str)
@pytest.mark.parametrize("architecture", ISSUE)
def test_fifty_steps_are_those_of_replay(architecture: str, engine: Any) -> None:
    forward = tiny_forwards.forward(architecture)
    steps = 50 if engine in ("fused", "paired") else 8
    found = trained(forward, engine, steps=steps)
    assert_same(found, trained(forward, "replay", steps=steps), 1e-10)
    if engine != "fused":
        assert repeats(found[2])


@pytest.mark.parametrize("engine", ["paired", TILED], ids=str)
@pytest.mark.parametrize("closure", ["plain", "per example"])
@pytest.mark.parametrize("tuning", ["lora", "prefix", "vectors"])
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "opt", "qwen3"])
def test_adapters_are_perturbed_as_in_replay(architecture: str, tuning: str, closure: str, engine: Any) -> None:
    forward = tiny_forwards.forward(architecture, tuning)
    found = trained(forward, engine, closure)
    assert_same(found, trained(forward, "replay"))
    assert repeats(found[2]) is (True if closure == "per example" else None)


@pytest.mark.parametrize("tuning", ["lora", "vectors"])
@pytest.mark.parametrize("architecture", ["roberta", "bert", "t5"])
def test_adapters_of_other_families_are_perturbed_as_in_replay(architecture: str, tuning: str) -> None:
    if (architecture, tuning) == ("t5", "vectors"):
        return
    forward = tiny_forwards.forward(architecture, tuning)
    found = trained(forward, "paired")
    assert_same(found, trained(forward, "replay"))
    assert repeats(found[2])


@pytest.mark.parametrize("architecture", sorted({*tiny_forwards.MASKED, *tiny_forwards.CAUSAL} - set(ISSUE)))
def test_every_family_of_models_can_be_repeated(architecture: str) -> None:
    forward = tiny_forwards.forward(architecture)
    found = trained(forward, TILED)
    assert_same(found, trained(forward, "replay"))
    assert repeats(found[2])


@pytest.mark.parametrize("architecture", ["roberta", "gpt2", "llama"])
def test_in_single_precision_fifty_steps_agree_within_rounding(architecture: str) -> None:
    """Projected gradients divide differences of losses, each off by some 1e-7, by 2 eps."""
    forward = tiny_forwards.forward(architecture, dtype=torch.float32)
    found, wanted = trained(forward, "paired", steps=50, eps=1e-2), trained(forward, "replay", steps=50, eps=1e-2)
    assert found[0] == pytest.approx(wanted[0], rel=3e-4, abs=3e-4)
    torch.testing.assert_close(found[1], wanted[1], rtol=0, atol=1e-5)


SETTINGS: dict[str, dict[str, Any]] = {
    "three directions": {"samples": 3},
    "rademacher": {"directions": "rademacher"},
    "weight decay": {"weight_decay": 0.1},
    "low rank": {"directions": LowRank(2)},
}


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("engine", ["fused", TILED, TILED | {"defer": True}], ids=str)
def test_whatever_the_directions_engines_agree(name: str, engine: Any, architecture: str) -> None:
    forward = tiny_forwards.forward(architecture)
    # The product of low-rank factors is rounded to float32 where it is written out, and not where it is not.
    tolerance = 1e-4 if name == "low rank" else 1e-9
    assert_same(trained(forward, engine, **SETTINGS[name]), trained(forward, "replay", **SETTINGS[name]), tolerance)


def test_low_rank_directions_write_no_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    points = LowRank.points

    def noting(self: LowRank, outs: Tensor, weight: Tensor, tensor: Any, *more: Any) -> None:
        made.append(tensor.param.ndim)
        points(self, outs, weight, tensor, *more)

    monkeypatch.setattr(LowRank, "points", noting)
    trained(tiny_forwards.forward("llama"), TILED, directions=LowRank(2), steps=1)
    assert set(made) == {1}


def test_frozen_tensors_stay_and_the_others_move_as_in_replay() -> None:
    forward = tiny_forwards.forward("roberta")
    for number, param in enumerate(forward.model.parameters()):
        param.requires_grad_(number % 3 > 0)
    assert_same(trained(forward, "paired"), trained(forward, "replay"))


def test_tied_weights_are_one_tensor_wherever_they_are_read() -> None:
    forward = tiny_forwards.forward("gpt2")
    model: Any = forward.model
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    model.requires_grad_(False)
    model.get_input_embeddings().weight.requires_grad_(True)
    for engine in ("paired", TILED):
        assert_same(trained(forward, engine), trained(forward, "replay"))


def test_losses_of_several_micro_batches_are_averaged_as_a_closure_does() -> None:
    forward = tiny_forwards.forward("llama", count=5)
    micro = [{name: value[part] for name, value in forward.batch.items()} for part in (slice(0, 2), slice(2, 5))]
    closure = PerExample(forward.losses, micro)
    losses = []
    for engine in ("replay", "paired", {"kind": "paired", "max_rows": 3}):
        optimizer = MeZO(forward.model.named_parameters(), lr=0.0, eps=0.1, engine=engine)
        optimizer.step(closure)
        losses.append(optimizer.last_projected_grads[0])
    assert losses[1:] == pytest.approx([losses[0]] * 2, rel=1e-9)


@pytest.mark.parametrize("closure", ["plain", "per example"])
@pytest.mark.parametrize("rows", [1, 4, 5, 100])
def test_no_forward_pass_has_more_rows_than_are_allowed(rows: int, closure: str) -> None:
    forward, seen = tiny_forwards.forward("llama", count=5), []
    losses = forward.losses

    def noting(batch: dict[str, Tensor]) -> Tensor:
        seen.append(len(batch["labels"]))
        return losses(batch)

    whole = PerExample(noting, [forward.batch])
    optimizer = MeZO(forward.model.named_parameters(), lr=0.0, engine={"kind": "paired", "max_rows": rows})
    optimizer.step(whole)
    # One example at two points is the least that a repeated batch can be.
    assert max(seen) <= max(rows, 2)
    assert optimizer.last_projected_grads[0] == pytest.approx(trained(forward, "replay", steps=1, seed=0)[0][0])


@pytest.mark.parametrize(("lanes", "rows"), [(1, {3}), (2, {3, 6}), (3, {3, 6, 9}), (9, {3, 24})])
def test_many_points_take_as_many_passes_as_lanes_ask_for(lanes: int, rows: set[int]) -> None:
    """Eight directions, one end each, and the weights themselves, which go alone: nine points on a batch of three."""
    forward = tiny_forwards.forward("opt")
    seen, found = [], {}
    for engine in ("replay", {"kind": "paired", "lanes": lanes}):
        optimizer = FZOO(forward.model.named_parameters(), lr=0.0, engine=engine, seed=2)
        closure = forward.closure("per example")
        assert isinstance(closure, PerExample)

        def losses(batch: dict[str, Tensor], closure: PerExample = closure) -> Tensor:
            seen.append(len(next(iter(batch.values()))))
            return closure.losses(batch)

        watched = PerExample(losses, closure.micro_batches)
        optimizer.step(watched)
        seen.clear()
        optimizer.step(watched)
        found[str(engine)] = optimizer.last_answers
    assert set(seen) == rows
    assert sum(seen) == 9 * 3
    one, other = found.values()
    assert one == pytest.approx(other, abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_two_thousand_evaluations_leave_every_bit_of_the_weights(dtype: torch.dtype) -> None:
    stream = torch.Generator().manual_seed(0)
    layer = nn.Linear(8, 4).to(dtype)
    layer.weight.data = torch.randn(4, 8, generator=stream).to(dtype)
    before = [param.detach().clone() for param in layer.parameters()]
    x = torch.randn(3, 8, generator=stream).to(dtype)
    closure = PerExample(lambda batch: layer(batch["x"]).float().square().mean(1), [{"x": x}])
    optimizer = MeZO(layer.parameters(), lr=0.0, eps=0.05)
    for _ in range(2000):
        optimizer.step(closure)
    assert repeats(optimizer)
    assert abs(optimizer.last_projected_grads[0]) > 0
    for param, old in zip(layer.parameters(), before, strict=True):
        assert torch.equal(param, old)


def test_nothing_is_left_on_the_model() -> None:
    forward = tiny_forwards.forward("llama", "lora")

    def traces() -> list[Any]:
        modules = [(name, sorted(vars(module)), len(module._forward_pre_hooks), len(module._forward_hooks))
                   for name, module in forward.model.named_modules()]  # fmt: skip
        params = [(name, id(param), sorted(vars(param))) for name, param in forward.model.named_parameters()]
        buffers = [(name, id(buffer), sorted(vars(buffer))) for name, buffer in forward.model.named_buffers()]
        return [modules, params, buffers, [sorted(vars(value)) for value in forward.batch.values()]]

    before = traces()
    trained(forward, "paired")
    assert traces() == before
    assert not torch._C._len_torch_function_stack()
    assert not torch._C._len_torch_dispatch_stack()


class Boom(Exception):
    pass


@pytest.mark.parametrize("defer", [False, True])
@pytest.mark.parametrize("kind", ["plain", "per example"])
@pytest.mark.parametrize("at", [0, 1])
def test_a_closure_that_fails_leaves_the_weights_and_nothing_else(at: int, kind: str, defer: bool) -> None:
    forward, calls, limit = tiny_forwards.forward("llama"), [0], [100]
    wanted = trained(forward, "replay", steps=2)[1]

    def losses(batch: dict[str, Tensor]) -> Tensor:
        found = forward.losses(batch)
        calls[0] += 1
        if calls[0] > limit[0]:
            raise Boom
        return found

    closure = tiny_forwards.Forward(forward.model, losses, forward.batch).closure(kind)
    optimizer = MeZO(forward.model.named_parameters(), lr=1e-3, seed=1, engine={"kind": "paired", "defer": defer})
    for _ in range(2):
        optimizer.step(closure)
    limit[0] = calls[0] + (at if kind == "plain" else 0)
    with pytest.raises(Boom):
        optimizer.step(closure)
    assert not torch._C._len_torch_function_stack()
    optimizer.finalize()
    flat = torch.cat([param.detach().view(-1) for param in forward.model.parameters()])
    torch.testing.assert_close(flat, wanted, rtol=1e-9, atol=1e-9)


def test_scratch_is_no_more_than_a_tile_at_every_point() -> None:
    layers = nn.Sequential(nn.Linear(64, 512), nn.Linear(512, 64)).double()
    x = torch.ones(2, 64, dtype=torch.float64)
    closure = PerExample(lambda batch: layers(batch["x"]).mean(1), [{"x": x}])
    engine = {"kind": "paired", "small": 0, "tile": 1024}
    optimizer = MeZO(layers.parameters(), lr=0.0, engine=engine)
    optimizer.step(closure)
    assert isinstance(optimizer.engine, PairedEngine)
    assert 0 < optimizer.engine.scratch.bytes <= 2 * 1024 * 8


@torch.no_grad()
def test_more_points_and_larger_layers_than_before_find_room() -> None:
    """Layers of growing size, read at two points, then at three: all that was made ready lies in memory given up."""
    sizes = (8, 40, 16, 300, 20)
    torch.manual_seed(0)
    layers = nn.Sequential(*(nn.Linear(n, m) for n, m in pairwise(sizes))).double()
    closure = PerExample(lambda batch: layers(batch["x"]).square().mean(1), [{"x": torch.ones(3, 8).double()}])
    engines = [
        make_engine(kind, MeZO(layers.parameters(), lr=0.0).engine.tensors)
        for kind in ({"kind": "paired", "small": 0, "tile": 700}, "replay")
    ]
    for rows in (((0.1,), (-0.1,)), ((0.1,), (-0.1,), (0.2,)), ((0.3,), (0.4,))):
        points = Points(gaussian(), (5,), rows)
        found, right = (engine.losses(closure, points) for engine in engines)
        assert found == pytest.approx(right, rel=1e-12)
    assert isinstance(engines[0], PairedEngine)
    assert engines[0].repeats
    assert engines[0].scratch.bytes <= 3 * 700 * 8


@pytest.mark.parametrize(
    ("size", "tile"), [(1000, 1 << 20), (104_857_600, 1 << 20), (300_000_000, 3_000_000), (1 << 30, 1 << 22)]
)
def test_a_tile_is_a_hundredth_of_the_weights_within_bounds(size: int, tile: int) -> None:
    weight = nn.Parameter(torch.empty(size, dtype=torch.bfloat16))  # Its pages are never touched.
    assert usual_tile(MeZO([weight], lr=1.0).engine.tensors) == tile


@pytest.mark.parametrize("engine", ["paired", "fused"])
def test_a_state_saved_with_updates_put_off_goes_on_bit_for_bit(engine: str) -> None:
    choice = {"kind": engine, "defer": True} if engine == "paired" else engine
    whole = tiny_forwards.forward("llama")
    optimizer = MeZO(whole.model.named_parameters(), lr=1e-2, seed=1, engine=choice)
    for _ in range(2):
        optimizer.step(whole.closure("plain"))
    state = optimizer.state_dict()
    other = tiny_forwards.forward("llama")
    other.model.load_state_dict(whole.model.state_dict())
    resumed = MeZO(other.model.named_parameters(), lr=5.0, engine=choice)
    resumed.load_state_dict(state)
    for _ in range(2):
        optimizer.step(whole.closure("plain"))
        resumed.step(other.closure("plain"))
    optimizer.finalize(), resumed.finalize()
    for one, two in zip(whole.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(one, two)


def test_generation_is_advised_to_use_the_fused_engine(caplog: pytest.LogCaptureFixture) -> None:
    layer = nn.Linear(8, 8)

    def closure() -> Tensor:
        x = torch.ones(1, 8)
        for _ in range(9):
            x = layer(x)
        return x.mean()

    with caplog.at_level(logging.WARNING):
        optimizer = MeZO(layer.parameters(), engine={"kind": "paired", "small": 0})
        optimizer.step(closure), optimizer.step(closure)
    assert [record.getMessage() for record in caplog.records if "times over" in record.getMessage()] == [
        "one evaluation reads the weights 9 times over, as generation and shared layers do, and makes perturbed ones "
        'each time; engine="fused" makes them once'
    ]


BAD: dict[str, tuple[Any, type[Exception], str]] = {
    "unknown": ("pared", UnknownNameError, "unknown engine 'pared'; did you mean 'paired'"),
    "no kind": ({"max_rows": 3}, OptimizerError, "engine={'max_rows': 3} has no kind"),
    "option": ({"kind": "paired", "rows": 3}, UnknownNameError, "unknown option of engine 'paired' 'rows'; did you"),
    "no options": ({"kind": "fused", "tile": 3}, UnknownNameError, "unknown option of engine 'fused' 'tile'"),
    "lanes": ({"kind": "paired", "lanes": 0}, OptimizerError, "lanes=0; it must be at least 1"),
    "max_rows": ({"kind": "paired", "max_rows": 0}, OptimizerError, "max_rows=0; it must be at least 1"),
    "tile": ({"kind": "paired", "tile": 0}, OptimizerError, "tile=0; it must be at least 1"),
}


@pytest.mark.parametrize("case", BAD)
def test_engines_that_cannot_be_are_refused(case: str) -> None:
    choice, error, message = BAD[case]
    with pytest.raises(error, match=message):
        MeZO([nn.Parameter(torch.ones(3))], engine=choice).step(lambda: 1.0)
