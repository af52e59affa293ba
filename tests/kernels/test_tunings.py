"""Kernels with respect to what each tuning trains."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest
import torch

import tiny
from reference import kernel_twin
from shoestring.kernels import Request, compute_kernels, outputs_of
from shoestring.tuning.base import TUNINGS

NEEDED: dict[str, dict[str, Any]] = {"pattern": {"pattern": "dense|fc1"}, "peft": {"method": "loha"}}
# Tunings whose weights torch's and peft's own layers hold: kernels of them need no pass for each example.
BY_LAYER = ("adapter", "bitfit", "full", "head", "layers", "lora", "norms", "pattern")


@pytest.mark.parametrize("name", TUNINGS.names())
@pytest.mark.parametrize(("architecture", "kind"), [("roberta", "masked"), ("opt", "causal")])
def test_kernels_of_what_a_tuning_trains_are_those_of_loops(name: str, architecture: str, kind: str) -> None:
    prompted = tiny.prompted(architecture, kind, dtype=torch.float64)
    model = TUNINGS.get(name)(**NEEDED.get(name, {})).apply(prompted.model, 13).double().eval()
    stream = torch.Generator().manual_seed(1)
    # The bias of keys has no gradient but rounding, of which autograd's signs are taken as they are.
    kept = {key: param for key, param in model.named_parameters() if not re.search(r"(key|k_proj)\.(.*\.)?bias$", key)}
    trained = {key: param for key, param in kept.items() if param.requires_grad}
    with torch.no_grad():
        for param in trained.values():  # what begins at zero would hide mistakes
            param.add_(0.1 * torch.randn(param.shape, generator=stream, dtype=param.dtype))
    outputs = outputs_of(dataclasses.replace(prompted, model=model))
    items = tiny.encoded(prompted, 4)
    found = compute_kernels(Request(outputs, items[:2], items[2:], ("sgd", "signgd"), tuple(trained)))
    _, rows = kernel_twin.jacobian(outputs, items[:2], list(trained))
    _, columns = kernel_twin.jacobian(outputs, items[2:], list(trained))
    torch.testing.assert_close(found["sgd"].values, kernel_twin.kernel("sgd", rows, columns), rtol=1e-9, atol=1e-12)
    assert torch.equal(found["signgd"].values, kernel_twin.kernel("signgd", rows, columns))
    if name in BY_LAYER:
        assert found["sgd"].description["autograd"] == []
