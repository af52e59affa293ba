"""Mistakes that a new user makes: each is named, or does no harm."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import tiny_forwards
from shoestring.errors import OptimizerError, TrajectoryError, UnknownNameError
from shoestring.zeroth import FZOO, MEAZO, ForwardGradient, HiZOO, MeZO, SparseMeZO, VarianceModifiedMeZO
from shoestring.zeroth.closures import PerExample, warn_of_coarse_loss
from shoestring.zeroth.engines.base import ENGINES
from shoestring.zeroth.trajectory import Recorder

DRAWN = torch.Generator().manual_seed(0)
INPUTS, LABELS = torch.randn(6, 4, generator=DRAWN), torch.randint(0, 2, (6,), generator=DRAWN)


def network() -> nn.Sequential:
    model = nn.Sequential(nn.utils.skip_init(nn.Linear, 4, 8), nn.Tanh(), nn.utils.skip_init(nn.Linear, 8, 2))
    drawn = torch.Generator().manual_seed(1)
    for param in model.parameters():
        param.data = torch.randn(param.shape, generator=drawn)
    return model.eval()


def loss_of(model: nn.Module) -> Tensor:
    return functional.cross_entropy(model(INPUTS).float(), LABELS)


NO_LOSS: dict[str, tuple[Callable[[nn.Module], Any], str]] = {
    "no return": (lambda model: None, "the closure returned NoneType"),
    "outputs": (lambda model: {"loss": loss_of(model)}, "the closure returned dict"),
    "tuple": (lambda model: (loss_of(model), 1), "the closure returned tuple"),
    "losses": (lambda model: model(INPUTS), r"the closure returned a tensor of shape \[6, 2\]"),
}


@pytest.mark.parametrize("engine", ENGINES.names())
@pytest.mark.parametrize("case", NO_LOSS)
def test_a_closure_that_returns_no_loss_is_refused(case: str, engine: str) -> None:
    closure, message = NO_LOSS[case]
    model = network()
    before = copy.deepcopy(model.state_dict())
    optimizer = MeZO(model.named_parameters(), engine=engine)
    with pytest.raises(OptimizerError, match=message + "; it must return the loss, one number"):
        optimizer.step(lambda: closure(model))
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name])


BAD: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "lr": ({"lr": "1e-3"}, OptimizerError, "MeZO: lr='1e-3'; it must be a number"),
    "no lr": ({"lr": None}, OptimizerError, "MeZO: lr=None; it must be a number"),
    "eps": ({"eps": "1e-3"}, OptimizerError, "MeZO: eps='1e-3'; it must be a number"),
    "samples": ({"samples": "2"}, OptimizerError, "MeZO: samples='2'; it must be a number"),
    "seed": ({"seed": 1.5}, OptimizerError, r"MeZO: seed=1\.5; it must be a whole number"),
    "nonfinite": ({"nonfinite": "skp"}, OptimizerError, "MeZO: nonfinite='skp'; allowed: 'raise', 'skip'"),
    "directions": ({"directions": 3}, OptimizerError, "MeZO: directions=3; give a name or Directions"),
    "engine": ({"engine": "pared"}, UnknownNameError, "unknown engine 'pared'; did you mean 'paired'"),
}


def test_a_share_that_is_no_number_is_refused() -> None:
    with pytest.raises(OptimizerError, match=r"MEAZO: beta='0\.9'; it must be a number"):
        MEAZO(network().named_parameters(), beta=cast("Any", "0.9"))


@pytest.mark.parametrize("case", BAD)
def test_settings_that_cannot_work_are_refused_when_the_optimizer_is_made(case: str) -> None:
    settings, error, message = BAD[case]
    with pytest.raises(error, match=message):
        MeZO(network().named_parameters(), **settings)


def test_frozen_parameters_alone_are_refused() -> None:
    model = network().requires_grad_(False)
    optimizer = MeZO(model.named_parameters())
    with pytest.raises(OptimizerError, match="MeZO: none of its 4 tensors requires a gradient"):
        optimizer.step(lambda: loss_of(model))


@pytest.mark.parametrize("engine", ENGINES.names())
def test_what_is_frozen_later_stays_and_what_is_unfrozen_moves(engine: str) -> None:
    model = network()
    model[0].requires_grad_(False)
    optimizer = MeZO(model.named_parameters(), lr=0.1, engine=engine)
    optimizer.step(lambda: loss_of(model))
    model[0].requires_grad_(True)
    model[2].requires_grad_(False)
    optimizer.finalize()
    before = copy.deepcopy(model.state_dict())
    optimizer.step(lambda: loss_of(model))
    optimizer.finalize()
    after = model.state_dict()
    assert not torch.equal(after["0.weight"], before["0.weight"])
    assert torch.equal(after["2.weight"], before["2.weight"])


def test_a_log_does_not_go_on_with_other_tensors(tmp_path: Any) -> None:
    model = network()
    optimizer = MeZO(model.named_parameters(), lr=0.1)
    with Recorder(optimizer, tmp_path / "log"):
        optimizer.step(lambda: loss_of(model))
        model[0].requires_grad_(False)
        with pytest.raises(TrajectoryError, match="frozen or unfrozen while the optimizer was recorded"):
            optimizer.step(lambda: loss_of(model))


@pytest.mark.parametrize("make", [VarianceModifiedMeZO, SparseMeZO])
def test_parameters_added_later_get_what_is_measured_of_parameters(make: Any) -> None:
    model = network()
    optimizer = make(model[0].named_parameters(prefix="0"), lr=0.1)
    optimizer.step(lambda: loss_of(model))
    name = "scales" if make is VarianceModifiedMeZO else "thresholds"
    measured = dict(optimizer.shared[name])
    optimizer.add_param_group({"params": list(model[2].named_parameters(prefix="2"))})
    before = copy.deepcopy(model.state_dict())
    optimizer.step(lambda: loss_of(model))
    optimizer.finalize()
    assert not torch.equal(model.state_dict()["2.weight"], before["2.weight"])
    found = optimizer.shared[name]
    assert len(found) > len(measured)
    assert {key: found[key] for key in measured} == measured


def test_a_state_of_another_optimizer_is_refused() -> None:
    state = MeZO(network().named_parameters()).state_dict()
    optimizer = HiZOO(network().named_parameters())
    with pytest.raises(OptimizerError, match="HiZOO: the state was saved by MeZO: make that to go on"):
        optimizer.load_state_dict(state)
    del state["param_groups"][0]["optimizer"]  # As in those of earlier versions.
    with pytest.raises(OptimizerError, match="HiZOO: the state has no floor, smoothing: it is another optimizer's"):
        optimizer.load_state_dict(state)
    again = MeZO(network().named_parameters())
    again.load_state_dict(state)
    assert again.state_dict()["param_groups"][0]["optimizer"] == "MeZO"


def test_a_state_of_tensors_without_names_is_refused_where_they_have_names() -> None:
    state = MeZO(network().parameters()).state_dict()
    named = MeZO(network().named_parameters())
    with pytest.raises(OptimizerError, match=r"saved of parameters without names, .* make it with model\.parameters"):
        named.load_state_dict(state)


def test_a_state_of_tensors_with_names_brings_them_along() -> None:
    model, other = network(), network()
    whole, resumed = MeZO(model.named_parameters(), lr=1e-2), MeZO(other.parameters())
    resumed.finalize()  # Its engine is made, of tensors without names.
    resumed.load_state_dict(whole.state_dict())
    for optimizer, trained in ((whole, model), (resumed, other)):
        optimizer.step(lambda trained=trained: loss_of(trained))
        optimizer.finalize()
    for param, value in zip(other.parameters(), model.parameters(), strict=True):
        assert torch.equal(param, value)


def test_settings_that_are_numbers_of_numpy_are_saved_as_pythons(tmp_path: Any) -> None:
    groups = [{"params": list(network().named_parameters()), "lr": np.float32(0.5)}]
    optimizer = MeZO(groups, lr=np.float64(1e-3), eps=np.float64(1e-2), seed=np.int64(3), weight_decay=np.float32(0.25))
    torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    options = torch.load(tmp_path / "state.pt", weights_only=True)["param_groups"][0]
    assert [options[name] for name in ("lr", "eps", "seed", "weight_decay")] == [0.5, 1e-2, 3, 0.25]


@pytest.mark.parametrize("engine", ENGINES.names())
@pytest.mark.parametrize("make", [MeZO, HiZOO, FZOO])
def test_autocast_around_a_whole_loop_sees_every_perturbation(make: Any, engine: str) -> None:
    def answers(*, outside: bool, per_example: bool = False) -> list[tuple[float, ...]]:
        model = network()
        losses = PerExample(
            lambda batch: functional.cross_entropy(model(batch["x"]).float(), batch["y"], reduction="none"),
            [{"x": INPUTS, "y": LABELS}],
        )
        optimizer = make(model.named_parameters(), lr=0.1, eps=0.05, engine=engine)

        def inside() -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                return loss_of(model)

        found = []
        with torch.autocast("cpu", torch.bfloat16, enabled=outside):
            for _ in range(2):
                optimizer.step(losses if per_example else (lambda: loss_of(model)) if outside else inside)
                found.append(optimizer.last_answers)
        return found

    wanted = answers(outside=False)
    assert answers(outside=True) == wanted
    assert wanted[0] != wanted[1]


@pytest.mark.parametrize("engine", ENGINES.names())
def test_a_state_loaded_before_its_weights_leaves_these_alone(engine: str) -> None:
    model = network()
    weights = copy.deepcopy(model.state_dict())
    optimizer = MeZO(model.named_parameters(), lr=0.1, eps=0.1, engine=engine)
    state = copy.deepcopy(optimizer.state_dict())
    optimizer.step(lambda: loss_of(model))
    optimizer.load_state_dict(state)
    model.load_state_dict(weights)
    optimizer.finalize()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, weights[name], rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.float8_e4m3fn])
def test_weights_of_a_dtype_without_directions_are_refused(dtype: torch.dtype) -> None:
    theta = nn.Parameter(torch.ones(4).to(dtype))
    optimizer = MeZO([("theta", theta)])
    with pytest.raises(OptimizerError, match=f"tensor theta is {dtype}; weights must be float16, bfloat16, float32"):
        optimizer.step(lambda: 1.0)


def test_a_tensor_without_elements_has_no_small_weights() -> None:
    theta, empty = nn.Parameter(torch.ones(4)), nn.Parameter(torch.empty(0, 3))
    before = theta.detach().clone()
    SparseMeZO([("theta", theta), ("empty", empty)], lr=0.1).step(lambda: theta.square().sum() + empty.sum())
    assert not torch.equal(theta, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_loss_in_half_precision_is_warned_of_once(dtype: torch.dtype, caplog: pytest.LogCaptureFixture) -> None:
    warn_of_coarse_loss.cache_clear()  # Once in a process, in which other tests may have had such a loss.
    theta = nn.Parameter(torch.ones(4))
    optimizer = MeZO([theta])
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            optimizer.step(lambda: theta.square().sum().to(dtype))
    found = [record.getMessage() for record in caplog.records]
    assert found == [] if dtype == torch.float32 else len(found) == 1
    assert all(f"the closure's loss is {dtype}" in message and "logits.float()" in message for message in found)


def test_forward_gradient_refuses_dropout() -> None:
    model = nn.Sequential(network(), nn.Dropout(0.5)).train()
    optimizer = ForwardGradient(model.named_parameters(), lr=0.1)
    with pytest.raises(OptimizerError, match=r"uses dropout with p=0\.5.*call model\.eval\(\)"):
        optimizer.step(lambda: loss_of(model))


@pytest.mark.parametrize("engine", ENGINES.names())
def test_a_model_put_back_into_training_mode_is_refused_at_any_step(engine: str) -> None:
    model = nn.Sequential(network(), nn.Dropout(0.5)).eval()
    optimizer = MeZO(model.named_parameters(), lr=0.1, engine=engine)
    optimizer.step(lambda: loss_of(model))
    optimizer.finalize()
    weights = copy.deepcopy(model.state_dict())
    model.train()
    with pytest.raises(OptimizerError, match=r"uses dropout with p=0\.5.*call model\.eval\(\)"):
        optimizer.step(lambda: loss_of(model))
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, weights[name])


def test_an_engine_that_gave_way_leaves_weights_where_the_optimizer_means_them_to_be() -> None:
    model = network()
    view, weights = [model.state_dict()["0.weight"]], copy.deepcopy(model.state_dict())
    optimizer = MeZO(model.named_parameters(), lr=0.0, eps=0.5)
    optimizer.step(lambda: functional.cross_entropy(model[2](torch.tanh(INPUTS @ view[0].t())), LABELS))
    assert optimizer.engine.instead == "fused"
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, weights[name])


@pytest.mark.parametrize("engine", ["fused", {"kind": "paired", "defer": True}], ids=str)
@pytest.mark.parametrize("then", ["step", "finalize", "load"])
def test_weights_changed_while_they_are_not_in_place_are_refused_and_left_as_they_are(then: str, engine: Any) -> None:
    model = network()
    weights = copy.deepcopy(model.state_dict())
    optimizer = MeZO(model.named_parameters(), lr=0.0, eps=0.1, engine=engine)
    state = copy.deepcopy(optimizer.state_dict())
    optimizer.step(lambda: loss_of(model))
    model[0].load_state_dict({"weight": weights["0.weight"], "bias": weights["0.bias"]})
    acts = {
        "step": lambda: optimizer.step(lambda: loss_of(model)),
        "finalize": optimizer.finalize,
        "load": lambda: optimizer.load_state_dict(state),
    }
    with pytest.raises(OptimizerError, match=r"0\.weight, 0\.bias changed while.*call optimizer\.finalize\(\) before"):
        acts[then]()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, weights[name])
    optimizer.step(lambda: loss_of(model))
    optimizer.finalize()


def test_a_closure_that_writes_weights_and_fails_shows_its_own_error() -> None:
    theta, other = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2))
    optimizer = MeZO([theta, other], lr=0.0, engine="fused")

    def closure() -> Tensor:
        theta.mul_(1.0)
        raise RuntimeError("out of paper")

    with pytest.raises(RuntimeError, match="out of paper"):
        optimizer.step(closure)
    torch.testing.assert_close(theta.data, torch.ones(3))
    torch.testing.assert_close(other.data, torch.ones(2))


@pytest.mark.parametrize("closure", ["plain", "per example"])
@pytest.mark.parametrize("engine", ["paired", "fused", "replay"])
def test_an_adapter_that_is_merged_later_is_found_out_by_its_equal_losses(engine: str, closure: str) -> None:
    forward = tiny_forwards.forward("llama", "lora")
    model: Any = forward.model
    optimizer = MeZO(model.named_parameters(), lr=0.0, engine=engine)
    optimizer.step(forward.closure(closure))
    model.merge_adapter()
    optimizer.step(forward.closure(closure))
    with pytest.raises(OptimizerError, match="a merged LoRA adapter"):
        optimizer.step(forward.closure(closure))


@pytest.mark.parametrize(("name", "value"), [("directions", "rademacher"), ("rounding", "nearest")])
def test_a_state_of_other_directions_or_rounding_is_refused(name: str, value: str) -> None:
    theta = nn.Parameter(torch.ones(3))
    saved = MeZO([theta], **{name: value}).state_dict()
    usual = "gaussian" if name == "directions" else "auto"
    message = (
        f"the state was saved with {name}='{value}', and this optimizer has {name}='{usual}': make it with the same"
    )
    optimizer = MeZO([theta], seed=5)
    with pytest.raises(OptimizerError, match=message):
        optimizer.load_state_dict(saved)
    assert optimizer.shared["seed"] == 5


def test_tensors_of_one_name_are_refused() -> None:
    first, second = network(), network()
    groups = [{"params": list(model.named_parameters())} for model in (first, second)]
    with pytest.raises(OptimizerError, match=r"2 tensors are named 0\.weight: they would be moved along the same"):
        MeZO(groups).step(lambda: loss_of(first) - loss_of(second))


def test_tensors_that_share_memory_are_refused_and_one_frozen_is_not() -> None:
    model = network()
    whole = nn.Parameter(torch.zeros(40))
    one, other = nn.Parameter(whole.data[:30]), nn.Parameter(whole.data[20:])
    named = [*model.named_parameters(), ("one", one), ("other", other)]
    with pytest.raises(OptimizerError, match=r"tensors one and other share memory: .* or freeze one of them"):
        MeZO(named).step(lambda: loss_of(model))
    other.requires_grad_(False)
    MeZO(named).step(lambda: loss_of(model))


NO_BATCH: dict[str, tuple[Any, str]] = {
    "none": ([], "micro_batches=none; give a list of batches"),
    "generator": ((batch for batch in [{"x": INPUTS}]), "micro_batches=generator; give a list of batches"),
    "nothing": ([{}], r"a batch of \[\] has no examples"),
    "empty": ([{"x": INPUTS[:0]}], r"a batch of \['x'\] has no examples"),
    "no tensor": ([{"x": None}], r"a batch of \['x'\] has no examples: its first entry must be a tensor"),
    "shared": ([{"x": INPUTS, "k": torch.ones(1, 4)}], r"k is of shape \[1, 4\], and there are 6 examples"),
    "number": ([{"x": INPUTS, "k": 2.0}], "k is a float, and there are 6 examples"),
}


@pytest.mark.parametrize("engine", ["replay", {"kind": "paired", "max_rows": 4}])
@pytest.mark.parametrize("case", NO_BATCH)
def test_batches_that_hold_no_examples_or_cannot_be_cut_are_refused(case: str, engine: Any) -> None:
    batches, message = NO_BATCH[case]
    model = network()

    def losses(batch: dict[str, Any]) -> Tensor:
        return functional.cross_entropy(model(batch["x"] * batch.get("k", 1)).float(), LABELS, reduction="none")

    before = [param.clone() for param in model.parameters()]
    optimizer = MeZO(model.named_parameters(), engine=engine)

    def step() -> None:
        closure = PerExample(losses, batches)
        optimizer.step(closure if engine != "replay" else lambda: closure.mean(4))

    with pytest.raises(OptimizerError, match="PerExample: " + message):
        step()
    for param, value in zip(model.parameters(), before, strict=True):
        torch.testing.assert_close(param, value)


@pytest.mark.parametrize("engine", ENGINES.names())
@pytest.mark.parametrize(
    ("found", "message"), [([1.0], "list"), (1.5, "one number"), (torch.tensor(1.0), "one number")]
)
def test_what_is_no_losses_of_examples_is_refused(found: Any, message: str, engine: str) -> None:
    model = network()

    def losses(batch: dict[str, Tensor]) -> Any:
        model(batch["x"])
        return found

    with pytest.raises(OptimizerError, match=f"losses returned {message}; it must return a tensor of one loss"):
        MeZO(model.named_parameters(), engine=engine).step(PerExample(losses, [{"x": INPUTS}]))
