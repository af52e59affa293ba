"""What rounding leaves: gradients that are accepted because of it, and exact zeros that it hides."""

from __future__ import annotations

import pytest
import torch

import tiny
from shoestring.kernels import Kernel, KernelSettings, Request, compute_kernels, outputs_of

_T5 = tuple(f"{half}.block.0.layer.0.SelfAttention.relative_attention_bias.weight" for half in ("encoder", "decoder"))
HALF = (torch.bfloat16, torch.float16)


@pytest.mark.parametrize("dtype", [torch.float32, *HALF])
@pytest.mark.parametrize(("count", "batch_size"), [(5, 3), (6, 8)])
@pytest.mark.parametrize("labels", [("terrible", "great"), ("bad film", "good cast")])
def test_look_ups_of_relative_positions_are_not_taken_for_those_of_examples(
    labels: tuple[str, str], count: int, batch_size: int, dtype: torch.dtype
) -> None:
    """T5 looks biases up for pairs of positions; in half precision coarse rounding must not cover the difference."""
    prompted = tiny.prompted("t5", "seq2seq", task=tiny.task_of(labels), dtype=dtype)
    # The decoder's have no part in the first token of an answer.
    names = _T5[: 1 if labels[0] == "terrible" else 2]
    outputs, items = outputs_of(prompted), tiny.encoded(prompted, count)

    def kernel(route: str) -> Kernel:
        settings = KernelSettings.model_validate({"batch_size": batch_size, "route": route})
        return compute_kernels(Request(outputs, items, parameters=names), settings)["sgd"]

    found = kernel("auto")
    assert set(found.description["autograd"]) == set(names)
    assert torch.equal(found.values, kernel("autograd").values)
