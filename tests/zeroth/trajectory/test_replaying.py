"""A log makes the weights again, bit for bit, whatever optimizer and engine it is of."""

from __future__ import annotations

import copy
import logging
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tiny
from shoestring.errors import OptimizerError, OutputError, TrajectoryError
from shoestring.training.objective import OBJECTIVES
from shoestring.zeroth import FZOO, MeZO
from shoestring.zeroth.base import OPTIMIZERS, ZerothOrder
from shoestring.zeroth.directions.base import Directions
from shoestring.zeroth.directions.dense import Dense
from shoestring.zeroth.engines.base import ENGINES
from shoestring.zeroth.tensors import Trained
from shoestring.zeroth.trajectory import Recorder, Trajectory, catch_up, replay
from shoestring.zeroth.trajectory.codec import Step, encode
from shoestring.zeroth.trajectory.header import header_of
from shoestring.zeroth.trajectory.log import Log

pytestmark = pytest.mark.usefixtures("frozen_imports")
Tensors = dict[str, nn.Parameter]


def fresh(dtype: torch.dtype = torch.float32) -> Tensors:
    """Return a matrix, a vector, and a frozen vector."""
    stream = torch.Generator().manual_seed(0)
    made = {name: torch.randn(shape, generator=stream).to(dtype) for name, shape in SHAPES.items()}
    return {name: nn.Parameter(value, requires_grad=name != "frozen") for name, value in made.items()}


SHAPES: dict[str, tuple[int, ...]] = {"matrix": (6, 5), "vector": (7,), "frozen": (3,)}


def loss_of(tensors: Tensors) -> Callable[[], Tensor]:
    def loss() -> Tensor:
        wide = [tensor.float().reshape(-1) for tensor in tensors.values()]
        return sum(((part * torch.arange(len(part))).square().mean() for part in wide), torch.zeros(()))

    return loss


def groups_of(tensors: Tensors) -> list[dict[str, Any]]:
    named = list(tensors.items())
    return [{"params": named[:1], "weight_decay": 0.1}, {"params": named[1:]}]


def plain(tensors: Any) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


ENGINE_NAMES = ENGINES.names()
# What an optimizer cannot be made without.
NEEDED: dict[str, dict[str, Any]] = {"one-point": {"lr": 1e-8}, "static-mask": {"masks": 0.5}}


def build(name: str, tensors: Tensors, **more: Any) -> ZerothOrder:
    settings = {"lr": 1e-3, "seed": 3} | NEEDED.get(name, {}) | more
    return OPTIMIZERS.get(name)(groups_of(tensors), **settings)


def run(optimizer: ZerothOrder, tensors: Tensors, steps: int) -> None:
    """Make steps on a schedule, with an evaluation in between that applies what was put off."""
    for _ in range(steps):
        number = optimizer.shared["steps"]
        for group in optimizer.param_groups:
            group["lr"] = optimizer.given["lr"] * (1 - number / 20)
        optimizer.step(loss_of(tensors))
        if number == 3:
            optimizer.finalize()


@pytest.mark.parametrize("engine", ENGINE_NAMES)
@pytest.mark.parametrize("name", OPTIMIZERS.names())
def test_the_log_of_every_optimizer_makes_its_weights_again(name: str, engine: str, tmp_path: Path) -> None:
    tensors, path = fresh(), tmp_path / "log"
    base = plain(tensors)
    optimizer = build(name, tensors, engine=engine)
    with Recorder(optimizer, path):
        run(optimizer, tensors, 7)
    assert not torch.equal(base["matrix"], tensors["matrix"])
    again = replay(path, base)
    assert tiny.equal(base, plain(tensors))
    assert again.shared["steps"] == 7
    assert type(again) is type(optimizer)


@pytest.mark.parametrize("engine", ENGINE_NAMES)
@pytest.mark.parametrize("name", OPTIMIZERS.names())
def test_a_snapshot_and_the_tail_of_a_log_are_a_resume(name: str, engine: str, tmp_path: Path) -> None:
    tensors, path = fresh(), tmp_path / "log"
    optimizer = build(name, tensors, engine=engine)
    with Recorder(optimizer, path) as recorder:
        run(optimizer, tensors, 4)
        recorder.mark()
        snapshot, weights = copy.deepcopy(optimizer.state_dict()), plain(tensors)
        torch.save(snapshot, tmp_path / "snapshot.pt")
        run(optimizer, tensors, 3)
    others = {name: nn.Parameter(value, tensors[name].requires_grad) for name, value in weights.items()}
    resumed = build(name, others, engine=engine)
    resumed.load_state_dict(torch.load(tmp_path / "snapshot.pt", weights_only=True))
    assert catch_up(resumed, path) == 3
    assert tiny.equal(plain(others), plain(tensors))
    run(optimizer, tensors, 2)
    run(resumed, others, 2)
    optimizer.finalize()
    resumed.finalize()
    assert tiny.equal(plain(others), plain(tensors))


@pytest.mark.parametrize("engine", ENGINE_NAMES)
@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_log_makes_weights_of_every_dtype_again(
    dtype: torch.dtype, rounding: str, engine: str, tmp_path: Path
) -> None:
    tensors = fresh(dtype)
    base = plain(tensors)
    optimizer = build("mezo", tensors, engine=engine, rounding=rounding, eps=1e-2, directions="rademacher")
    with Recorder(optimizer, tmp_path / "log"):
        run(optimizer, tensors, 6)
    replay(tmp_path / "log", base)
    assert tiny.equal(base, plain(tensors))


@pytest.mark.parametrize("architecture", ["roberta", "opt"])
@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_the_log_of_a_model_makes_it_again(architecture: str, engine: str, tmp_path: Path) -> None:
    kind = "masked" if architecture == "roberta" else "causal"
    subject, other = tiny.prompted(architecture, kind), tiny.prompted(architecture, kind)
    batch = subject.collate(tiny.encoded(subject, 6))
    optimizer = MeZO(subject.model.named_parameters(), lr=1e-3, engine=engine)
    with Recorder(optimizer, tmp_path / "log", model=subject.model):
        for _ in range(3):
            optimizer.step(lambda: OBJECTIVES.get("cross-entropy").loss(subject, batch))
    replay(tmp_path / "log", other.model)
    assert tiny.equal(tiny.weights(subject.model), tiny.weights(other.model))
    assert all(param.requires_grad for param in other.model.parameters())


@pytest.mark.parametrize("engine", ["paired", {"kind": "paired", "max_rows": 8, "defer": True}, {"kind": "fused"}])
def test_an_engine_that_gives_up_gives_up_in_the_replay_too(engine: Any, tmp_path: Path) -> None:
    """In bfloat16 the fused engine drifts: the replay has to drift with it."""
    start = torch.linspace(-1, 1, 40, dtype=torch.bfloat16)
    theta, base = nn.Parameter(start.clone()), {"theta": start.clone()}
    hidden = theta.detach().view(-1)
    optimizer = MeZO([("theta", theta)], lr=1e-3, eps=1e-2, engine=engine)
    with Recorder(optimizer, tmp_path / "log"):
        for _ in range(4):
            optimizer.step(lambda: hidden.float().square().sum())
    found = Trajectory.read(tmp_path / "log")
    gave_up = engine != {"kind": "fused"}
    assert [step.before for step in found.steps] == [((-1, "engine", "fused"),) if gave_up else (), (), (), ()]
    assert found.header.common["engine"] == ("paired" if gave_up else "fused")
    replay(found, base)
    assert torch.equal(base["theta"], theta)


def test_what_was_changed_between_steps_is_in_the_log(tmp_path: Path) -> None:
    tensors = fresh()
    base = plain(tensors)
    optimizer = build("mezo", tensors)
    with Recorder(optimizer, tmp_path / "log"):
        optimizer.step(loss_of(tensors))
        optimizer.param_groups[1]["lr"] = 2e-3
        optimizer.shared["samples"] = 2
        optimizer.step(loss_of(tensors))
        optimizer.estimate(loss_of(tensors))
        optimizer.param_groups[0]["weight_decay"] = 0.5
        optimizer.step()
        optimizer.param_groups[1]["note"] = ["a", 1, None]
        optimizer.step(loss_of(tensors))
    steps = Trajectory.read(tmp_path / "log").steps
    assert [(step.lr, step.before, step.between) for step in steps] == [
        (None, (), ()),
        (None, ((0, "samples", 2), (1, "lr", 2e-3)), ()),
        (None, (), ((0, "weight_decay", 0.5),)),
        (None, ((1, "note", ["a", 1, None]),), ()),
    ]
    again = replay(tmp_path / "log", base)
    assert tiny.equal(base, plain(tensors))
    assert again.param_groups[1]["note"] == ["a", 1, None]


def test_skipped_steps_are_skipped_again(tmp_path: Path) -> None:
    tensors = fresh()
    base, losses = plain(tensors), iter([1.0, 2.0, 1.0, float("nan"), 3.0, 2.0])
    optimizer = build("mezo", tensors, nonfinite="skip")
    with Recorder(optimizer, tmp_path / "log"):
        for _ in range(3):
            optimizer.step(lambda: next(losses))
    assert [step.skipped for step in Trajectory.read(tmp_path / "log").steps] == [False, True, False]
    assert replay(tmp_path / "log", base).shared["skipped"] == 1
    assert tiny.equal(base, plain(tensors))


@pytest.mark.parametrize("engine", ["paired", "fused", "replay"])
def test_steps_without_a_deviation_of_losses_are_logged_as_skipped_and_skipped_again(
    tmp_path: Path, engine: str
) -> None:
    base = {"w": torch.ones(6)}
    w = nn.Parameter(base["w"].clone())
    losses = iter([lambda: w.square().sum(), lambda: torch.tensor(0.5), lambda: w.square().sum()])
    optimizer = FZOO([("w", w)], lr=0.05, samples=2, weight_decay=0.1, engine=engine, seed=3)
    moved = []
    with Recorder(optimizer, tmp_path / "log"):
        for loss in losses:
            before = w.detach().clone()
            optimizer.step(loss)
            optimizer.finalize()
            moved.append(not torch.allclose(before, w, atol=1e-6))
    assert moved == [True, False, True]
    assert [step.skipped for step in Trajectory.read(tmp_path / "log").steps] == [False, True, False]
    again = replay(tmp_path / "log", base)
    assert again.shared["skipped"] == optimizer.shared["skipped"] == 1
    assert torch.equal(base["w"], w)


def test_steps_up_to_one_in_between(tmp_path: Path) -> None:
    tensors = fresh()
    base, met = plain(tensors), []
    optimizer = build("mezo", tensors, engine="fused")
    with Recorder(optimizer, tmp_path / "log"):
        for _ in range(5):
            run(optimizer, tensors, 1)
            optimizer.finalize()
            met.append(plain(tensors))
    assert replay(tmp_path / "log", base, steps=3).shared["steps"] == 3
    assert tiny.equal(base, met[2])
    with pytest.raises(TrajectoryError, match=r"reaches from step 0 to 5; from step 0 it cannot be replayed to 6"):
        replay(tmp_path / "log", plain(fresh()), steps=6)


class Counter:
    """Counts the steps it is told of."""

    count = 0

    def advance(self, steps: int = 1) -> None:
        self.count += steps

    def note(self, text: str) -> None:
        raise AssertionError(text)


def test_a_replay_reports_its_steps(tmp_path: Path) -> None:
    tensors, bar = fresh(), Counter()
    base = plain(tensors)
    optimizer = build("mezo", tensors)
    with Recorder(optimizer, tmp_path / "log"):
        run(optimizer, tensors, 3)
    replay(tmp_path / "log", base, bar=bar)
    assert bar.count == 3


def test_tensors_without_names_are_given_in_order(tmp_path: Path) -> None:
    one, other = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(3))
    optimizer = MeZO([one, other], lr=1e-2)
    with Recorder(optimizer, tmp_path / "log"):
        optimizer.step(lambda: (one.sum() - other.sum()).square())
    again = [torch.ones(4), torch.ones(3)]
    replay(tmp_path / "log", again)
    assert torch.equal(again[0], one)
    assert torch.equal(again[1], other)
    with pytest.raises(TrajectoryError, match="written for tensors without names; give them as a list"):
        replay(tmp_path / "log", {"a": torch.ones(4), "b": torch.ones(3)})
    with pytest.raises(TrajectoryError, match="was written for 2 tensors, 1 are given"):
        replay(tmp_path / "log", [torch.ones(4)])


# A log of 20,000 steps


@pytest.mark.parametrize("schedule", ["constant", "linear"])
def test_twenty_thousand_steps_of_mezo_take_less_than_half_a_megabyte_for_the_largest_models(
    schedule: str, tmp_path: Path
) -> None:
    """The header grows with the number of tensors: here those of a Llama of 126 layers, 405 B weights."""
    parts = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    names = [f"model.layers.{layer}.{'self_attn' if 'o' in part else 'mlp'}.{part}.weight" for layer in range(126)
             for part in [*parts, "input_layernorm", "post_attention_layernorm"]]  # fmt: skip
    tensors = {name: nn.Parameter(torch.randn(1)) for name in dict.fromkeys(names)}
    assert len(tensors) == 126 * 9
    optimizer = MeZO([{"params": list(tensors.items())[:1000]}, {"params": list(tensors.items())[1000:]}])
    stream = torch.Generator().manual_seed(0)
    recorder = Recorder(optimizer, tmp_path / "log")
    optimizer.engine.tensors = optimizer.engine.tensors[:1]  # The log does not depend on what moves.
    for step in range(40):
        if schedule == "linear":
            for group in optimizer.param_groups:
                group["lr"] = 1e-6 * (1 - step / 20_000)
        optimizer.step(lambda: torch.rand((), generator=stream))
    recorder.close()
    ends = [end for end, _ in Trajectory.read(tmp_path / "log").ends]
    header, step = ends[0], ends[-1] - ends[-2]
    assert (tmp_path / "log").stat().st_size == ends[-1] == header + 40 * step - (8 if schedule == "linear" else 0)
    assert header + 20_000 * step < 500_000


def test_a_log_of_twenty_thousand_steps_as_it_lies_on_the_disk(tmp_path: Path) -> None:
    optimizer = MeZO([("theta", nn.Parameter(torch.ones(3)))])
    stream = torch.Generator().manual_seed(0)
    losses = torch.rand((20_000, 2), generator=stream).tolist()
    header = header_of(optimizer, None, {})
    with Log.begin(tmp_path / "log", header) as log:
        for number, pair in enumerate(losses):
            log.append(Step(tuple(pair), 1e-6 * (1 - number / 20_000)))
    assert 400_000 < (tmp_path / "log").stat().st_size < 500_000
    found = Trajectory.read(tmp_path / "log")
    assert [list(step.answers) for step in found.steps] == losses
    assert found.header == header


# What is refused


@pytest.fixture
def log(tmp_path: Path) -> Path:
    tensors = fresh()
    optimizer = build("mezo", tensors)
    with Recorder(optimizer, tmp_path / "log"):
        run(optimizer, tensors, 3)
    return tmp_path / "log"


def change(base: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    base[name].view(-1)[1] += 1e-6
    return base


def test_another_base_is_refused_and_the_tensor_named(log: Path) -> None:
    base = change(plain(fresh()), "vector")
    before = plain(base)
    with pytest.raises(TrajectoryError, match="began with other weights than these: vector differs"):
        replay(log, base)
    assert tiny.equal(base, before)


def test_other_frozen_weights_of_a_model_are_refused(tmp_path: Path) -> None:
    model: Any = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).eval()
    model[1].requires_grad_(False)
    other = copy.deepcopy(model)
    optimizer = MeZO(list(model.named_parameters()))
    with Recorder(optimizer, tmp_path / "log", model=model):
        optimizer.step(lambda: model[0].weight.sum())
    replay(tmp_path / "log", copy.deepcopy(other))
    for tensor in (other[1].weight, other[1].running_mean):
        tensor.data[0] += 1
        with pytest.raises(TrajectoryError, match="a model with other frozen weights than these"):
            replay(tmp_path / "log", other)
        tensor.data[0] -= 1


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ({}, "moves the tensor 'matrix', which is not there"),
        ({"matrixx": torch.zeros(6, 5)}, "'matrix', which is not there; did you mean 'matrixx'"),
        ({"matrix": torch.zeros(5, 6)}, r"the tensor matrix was float32 \[6, 5\], this one is float32 \[5, 6\]"),
        ({"matrix": torch.zeros(6, 5).half()}, r"the tensor matrix was float32 \[6, 5\], this one is float16 \[6, 5\]"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(base: dict[str, Tensor], message: str, log: Path) -> None:
    rest = plain(fresh())
    del rest["matrix"]
    with pytest.raises(TrajectoryError, match=message):
        replay(log, rest | base)


OTHERS: dict[str, tuple[Callable[[Tensors], ZerothOrder], str]] = {
    "seed": (lambda tensors: build("mezo", tensors, seed=4), "with seed=3, not 4"),
    "eps": (lambda tensors: build("mezo", tensors, eps=0.5), r"with eps=0\.001, not 0\.5"),
    "rounding": (lambda tensors: build("mezo", tensors, rounding="nearest"), "with rounding='auto', not 'nearest'"),
    "directions": (lambda tensors: build("mezo", tensors, directions="rademacher"), "with directions="),
    "engine": (lambda tensors: build("mezo", tensors, engine="fused"), "with engine='.*', not 'fused'"),
    "optimizer": (lambda tensors: build("fzoo", tensors), "is a log of 'mezo', not of 'fzoo'"),
    "groups": (lambda tensors: MeZO(list(tensors.items())), "with 2 parameter groups, not 1"),
    "names": (
        lambda tensors: MeZO([{"params": [("m", tensors["matrix"])]}, {"params": [("v", tensors["vector"])]}]),
        r"of other tensors: matrix \(float32 \[6, 5\]\), not m \(float32 \[6, 5\]\)",
    ),
    "number": (
        lambda tensors: MeZO(
            [{"params": list(tensors.items())[:1]}, {"params": list(tensors.items())[1:2]}], seed=3
        ),
        "of other tensors: others in number",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", OTHERS)
def test_another_optimizer_is_refused(case: str, log: Path) -> None:
    made, message = OTHERS[case]
    with pytest.raises(TrajectoryError, match=message):
        catch_up(made(fresh()), log)
    with pytest.raises(TrajectoryError, match=message):
        Recorder(made(fresh()), log, resume=True)


def test_a_frozen_tensor_that_was_trained_is_refused(log: Path) -> None:
    tensors = fresh()
    tensors["vector"].requires_grad_(False)
    with pytest.raises(TrajectoryError, match=r"vector \(float32 \[7\]\), not vector \(float32 \[7\], frozen\)"):
        catch_up(build("mezo", tensors), log)


def test_an_optimizer_ahead_of_the_log_is_refused(log: Path) -> None:
    optimizer = build("mezo", fresh())
    optimizer.shared["steps"] = 4
    with pytest.raises(TrajectoryError, match="holds the steps 0 to 3; the optimizer is at 4"):
        catch_up(optimizer, log)


def test_an_existing_log_is_not_overwritten(log: Path) -> None:
    with pytest.raises(OutputError, match="exists; choose another place, or go on with it: resume=True"):
        Recorder(build("mezo", fresh()), log)


def test_an_optimizer_is_recorded_once_and_does_not_catch_up_meanwhile(log: Path, tmp_path: Path) -> None:
    optimizer = build("mezo", fresh())
    with Recorder(optimizer, tmp_path / "other"):
        with pytest.raises(TrajectoryError, match="MeZO is being recorded already"):
            Recorder(optimizer, tmp_path / "third")
        with pytest.raises(TrajectoryError, match="close the recorder of the optimizer before it catches up"):
            catch_up(optimizer, log)


def test_a_state_loaded_while_recording_is_refused(tmp_path: Path) -> None:
    tensors = fresh()
    optimizer = build("mezo", tensors)
    start = copy.deepcopy(optimizer.state_dict())
    with Recorder(optimizer, tmp_path / "log"):
        run(optimizer, tensors, 2)
        optimizer.load_state_dict(start)
        with pytest.raises(TrajectoryError, match="taken from step 2 to step 0 while it was recorded; close the"):
            optimizer.step(loss_of(tensors))


def test_a_group_added_while_recording_is_refused(tmp_path: Path) -> None:
    tensors = fresh()
    optimizer = MeZO(list(tensors.items()))
    with Recorder(optimizer, tmp_path / "log"):
        optimizer.add_param_group({"params": [("more", nn.Parameter(torch.ones(2)))]})
        with pytest.raises(TrajectoryError, match="a parameter group was added while the optimizer was recorded"):
            optimizer.step(loss_of(tensors))


def test_masks_that_are_replaced_while_recording_are_refused(tmp_path: Path) -> None:
    tensors = fresh()
    masks = {name: torch.ones_like(tensor, dtype=torch.bool) for name, tensor in tensors.items() if name != "frozen"}
    optimizer = build("static-mask", tensors, masks=masks)
    with Recorder(optimizer, tmp_path / "log"):
        run(optimizer, tensors, 2)
        optimizer.shared["masks"] = dict(optimizer.shared["masks"])
        with pytest.raises(TrajectoryError, match="the option masks was replaced while the optimizer was recorded"):
            optimizer.step(loss_of(tensors))
    with pytest.raises(TrajectoryError, match=r"cannot say what masks=Tensor\(\.\.\.\) was; make the optimizer your"):
        replay(tmp_path / "log", plain(fresh()))


def test_an_optimizer_that_is_not_registered_is_refused(tmp_path: Path) -> None:
    class Mine(MeZO):
        """Not registered."""

    with pytest.raises(TrajectoryError, match="Mine is not registered, so no log of it could be replayed; register"):
        Recorder(Mine(list(fresh().items())), tmp_path / "log")
    assert not (tmp_path / "log").exists()


def test_a_log_that_begins_in_the_middle_needs_its_snapshot(tmp_path: Path) -> None:
    tensors = fresh()
    optimizer = build("mezo", tensors)
    run(optimizer, tensors, 2)
    middle = plain(tensors)
    with Recorder(optimizer, tmp_path / "log"):
        run(optimizer, tensors, 2)
    with pytest.raises(TrajectoryError, match="matrix differs; it begins at step 2"):
        replay(tmp_path / "log", plain(fresh()))
    assert replay(tmp_path / "log", middle).shared["steps"] == 4
    assert tiny.equal(middle, plain(tensors))


def test_a_log_that_begins_with_a_state_needs_it(tmp_path: Path) -> None:
    tensors = fresh()
    optimizer = build("mezo", tensors)
    optimizer.state[tensors["matrix"]]["moment"] = torch.ones(1)
    with Recorder(optimizer, tmp_path / "log"):
        run(optimizer, tensors, 1)
    with pytest.raises(TrajectoryError, match="begins at step 0, with a state that is not in it; load the"):
        replay(tmp_path / "log", plain(fresh()))


def test_weights_changed_behind_the_optimizers_back_are_noticed_at_the_next_mark(tmp_path: Path) -> None:
    tensors = fresh()
    optimizer = build("mezo", tensors)
    with Recorder(optimizer, tmp_path / "log"):
        run(optimizer, tensors, 2)
        tensors["vector"].data[0] += 1
    with pytest.raises(TrajectoryError, match="at step 2 the weights are not those of the recorded run: the weights w"):
        replay(tmp_path / "log", plain(fresh()))


def test_an_evaluation_that_failed_is_noted(tmp_path: Path) -> None:
    tensors = fresh()
    optimizer = build("mezo", tensors, engine="replay")
    with Recorder(optimizer, tmp_path / "log"):
        for loss in (float("nan"), 1.0):
            try:
                optimizer.step(lambda loss=loss: loss)
            except OptimizerError:
                tensors["vector"].data[0] += 1e-6  # as rounding might
    assert [step.disturbed for step in Trajectory.read(tmp_path / "log").steps] == [True]
    with pytest.raises(TrajectoryError, match="an evaluation of the recorded run failed half-way, and its engine"):
        replay(tmp_path / "log", plain(fresh()))


def test_a_log_with_too_few_or_too_many_answers_is_refused(log: Path) -> None:
    found = Trajectory.read(log)
    for answers, message in (((1.0,), "asks for more losses than were logged"), ((1.0,) * 3, "asks for fewer losses")):
        with Log.go_on(found, 1) as file:
            file.append(Step(answers))
        with pytest.raises(TrajectoryError, match=f"step 1: the optimizer {message}"):
            replay(log, plain(fresh()))


# Directions of one's own


class Mine(Directions):
    """Ones."""

    def fill(self, out: Tensor, tensor: Trained, seed: int, start: int = 0) -> None:
        out.fill_(1.0)


def test_directions_of_the_package_are_made_again_and_ones_own_are_asked_for(tmp_path: Path) -> None:
    tensors = fresh()
    base = plain(tensors)
    optimizer = build("mezo", tensors, directions=Dense("rademacher"))
    with Recorder(optimizer, tmp_path / "log"):
        run(optimizer, tensors, 2)
    replay(tmp_path / "log", base)
    assert tiny.equal(base, plain(tensors))

    others = fresh()
    base = {name: nn.Parameter(value, others[name].requires_grad) for name, value in plain(others).items()}
    optimizer = build("mezo", others, directions=Mine())
    with Recorder(optimizer, tmp_path / "mine"):
        run(optimizer, others, 2)
    with pytest.raises(TrajectoryError, match=r"cannot say what directions=Mine\(\.\.\.\) was; make the optimizer you"):
        replay(tmp_path / "mine", plain(base))
    catch_up(build("mezo", base, directions=Mine()), tmp_path / "mine")
    assert tiny.equal(plain(base), plain(others))


def test_a_header_that_names_other_code_than_directions_is_refused(log: Path) -> None:
    found = Trajectory.read(log).header
    settings = found.settings | {"directions": {"module": "os", "class": "system", "arguments": {"command": "true"}}}
    with Log.begin(log, found.model_copy(update={"settings": settings})):
        pass
    with pytest.raises(TrajectoryError, match=r"directions: os\.system is no directions of this package"):
        replay(log, plain(fresh()))


def test_marks_are_eight_bytes_of_a_digest(log: Path) -> None:
    found = Trajectory.read(log)
    assert {steps: len(digest) for steps, digest in found.marks.items()} == {3: 8}
    size = log.stat().st_size
    assert struct.unpack("<I", log.read_bytes()[-4:])[0] == found.ends[-1][1]
    assert size == found.ends[-1][0]
    assert len(encode(Step((1.0, 2.0)), 0)[0]) == 14


def test_recording_says_nothing(log: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    replay(log, plain(fresh()))
    assert caplog.records == []
