"""Every zeroth-order optimizer is a method too, with the same settings and the same defaults."""

from __future__ import annotations

import inspect
from typing import Any, get_args

import pytest
from pydantic import ValidationError

import tiny
from shoestring.methods.base import METHODS
from shoestring.methods.training import TrainingMethod
from shoestring.methods.zeroth import ScheduleName, ZerothMethod
from shoestring.zeroth.base import OPTIMIZERS
from shoestring.zeroth.smoothing import SCHEDULES

pytestmark = pytest.mark.usefixtures("frozen_imports")
COMMON = {"engine", "max_rows", "rounding", "nonfinite"}
# Settings that a run gives in another form: here an optimizer takes tensors.
OTHERWISE = {"static-mask": ({"masks"}, {"share", "choose"})}


def settings_of(name: str) -> dict[str, Any]:
    given = inspect.signature(OPTIMIZERS.get(name).__init__).parameters.values()
    return {one.name: one.default for one in given if one.name not in ("self", "params", "common")}


def test_every_optimizer_is_a_method() -> None:
    methods = {name for name, method in METHODS.items() if issubclass(method, ZerothMethod)}
    assert methods == set(OPTIMIZERS.names())


@pytest.mark.parametrize("name", OPTIMIZERS.names())
def test_a_method_has_the_settings_and_defaults_of_its_optimizer(name: str) -> None:
    here, there = OTHERWISE.get(name, (set(), set()))
    wanted = {key: value for key, value in settings_of(name).items() if key not in here}
    method = METHODS.get(name)()
    own = set(type(method).model_fields) - set(TrainingMethod.model_fields) - {"kind", "directions"} - COMMON - there
    assert own | {"lr"} == set(wanted)
    assert {key: getattr(method, key) for key in wanted} == wanted


@pytest.mark.parametrize("name", OPTIMIZERS.names())
def test_a_method_builds_its_optimizer_with_what_it_was_given(name: str) -> None:
    model = tiny.build_model("roberta", "masked")
    method = METHODS.get(name)(lr=0.25, weight_decay=0.5, rounding="nearest", nonfinite="skip", engine="fused")
    optimizer = method.optimizer(model, seed=3)
    assert type(optimizer) is OPTIMIZERS.get(name)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.25]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.5, 0.0]
    assert (optimizer.rounding, optimizer.nonfinite, optimizer.engine_name) == ("nearest", "skip", "fused")
    other = method.optimizer(model, seed=4)
    assert other.shared["seed"] != optimizer.shared["seed"]


def test_a_static_mask_can_be_of_the_largest_weights() -> None:
    model = tiny.build_model("roberta", "masked")
    method = METHODS.get("static-mask")(share=0.1, choose="magnitude")
    masks = method.own(model, 3)["masks"]
    sizes = {name: param.detach().abs() for name, param in model.named_parameters()}
    chosen = sum(int(mask.sum()) for mask in masks.values())
    assert chosen == pytest.approx(0.1 * sum(size.numel() for size in sizes.values()), abs=1)
    least = min(float(sizes[name][mask].min()) for name, mask in masks.items() if bool(mask.any()))
    rest = max(float(sizes[name][~mask].max()) for name, mask in masks.items() if not bool(mask.all()))
    assert least >= rest


def test_the_names_of_smoothings_are_those_the_optimizer_knows() -> None:
    assert set(get_args(ScheduleName)) == set(SCHEDULES)


def test_the_rows_of_a_forward_pass_can_be_bounded() -> None:
    optimizer = METHODS.get("mezo")(max_rows=8).optimizer(tiny.build_model("roberta", "masked"), 3)
    assert optimizer.engine_name == {"kind": "paired", "max_rows": 8}
    optimizer = METHODS.get("lozo")(max_rows=8, engine="virtual").optimizer(tiny.build_model("roberta", "masked"), 3)
    assert optimizer.engine_name == {"kind": "virtual", "max_rows": 8}
    with pytest.raises(ValidationError, match=r"max_rows is of engine=\"paired\" and \"virtual\"; engine='fused' eval"):
        METHODS.get("mezo")(max_rows=8, engine="fused")
