"""The same kernels on a CUDA device."""

from __future__ import annotations

import pytest
import torch

import tiny
from kernels.subjects import ALL
from shoestring.kernels import Projection, Request, compute_kernels, outputs_of


@pytest.mark.gpu
@pytest.mark.parametrize(("architecture", "kind"), [("roberta", "masked"), ("llama", "causal")])
def test_kernels_on_cuda_are_those_on_the_processor(architecture: str, kind: str) -> None:
    prompted = tiny.prompted(architecture, kind, dtype=torch.float64)
    items = tiny.encoded(prompted, 5)
    names = [name for name, _ in prompted.model.named_parameters() if not name.endswith("key.bias")]
    requests = [
        Request(outputs_of(prompted), items, None, ALL, names),
        Request(outputs_of(prompted), items[:2], items[2:], ALL, names),
        Request(outputs_of(prompted), items, None, ("sgd",), names, projection=Projection(1, 4)),
    ]
    expected = [compute_kernels(request) for request in requests]
    torch.nn.Module.to(prompted.model, "cuda")
    for request, kernels in zip(requests, expected, strict=True):
        for formula, kernel in compute_kernels(request).items():
            assert kernel.values.device.type == "cpu"
            torch.testing.assert_close(kernel.values, kernels[formula].values, rtol=1e-6, atol=1e-6)
