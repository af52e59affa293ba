"""What rounding leaves: gradients that are accepted because of it, and exact zeros that it hides."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import tiny
from shoestring.kernels import Kernel, KernelSettings, Request, compute_kernels, jacobians, outputs_of

_T5 = tuple(f"{half}.block.0.layer.0.SelfAttention.relative_attention_bias.weight" for half in ("encoder", "decoder"))
HALF = (torch.bfloat16, torch.float16)
SEVERAL = ("really bad", "good and fine", "so so film")


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


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("name", ["roberta", "opt", "gpt2", "bart"])
def test_layers_of_half_precision_are_trusted_with_their_rounding(name: str, dtype: torch.dtype) -> None:
    kind = "masked" if name == "roberta" else "seq2seq" if name == "bart" else "causal"
    task = tiny.task_of(SEVERAL) if name == "bart" else tiny.task_of()
    prompted = tiny.prompted(name, kind, task=task, dtype=dtype)
    names = [name for name, _ in prompted.model.named_parameters()]
    request = Request(outputs_of(prompted), tiny.encoded(prompted, 4), parameters=names)
    assert compute_kernels(request)["sgd"].description["autograd"] == []


def key_biases(name: str, kind: str, dtype: torch.dtype, labels: tuple[str, ...]) -> dict[str, torch.Tensor]:
    prompted = tiny.prompted(name, kind, task=tiny.task_of(labels), dtype=dtype)
    names = [n for n, _ in prompted.model.named_parameters() if n.endswith(("key.bias", "k_proj.bias"))]
    found = jacobians(outputs_of(prompted), tiny.encoded(prompted, 5), names, KernelSettings(batch_size=3))
    return dict(found)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sums_over_several_calls_that_cancel_are_zero(dtype: torch.dtype) -> None:
    """Candidates share what their decoder starts with: keys are made in two calls, whose parts cancel together."""
    found = key_biases("bart", "seq2seq", dtype, SEVERAL)
    assert len(found) == 6
    for name, value in found.items():
        assert not value.any(), name


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize(
    ("name", "kind", "labels"),
    [
        ("roberta", "masked", ("terrible", "great")),
        ("opt", "causal", SEVERAL),
        ("bart", "seq2seq", SEVERAL),
    ],
)
def test_sums_that_cancel_to_the_rounding_of_half_precision_are_zero(
    name: str, kind: str, labels: tuple[str, ...], dtype: torch.dtype
) -> None:
    for parameter, value in key_biases(name, kind, dtype, labels).items():
        assert not value.any(), parameter


def test_sums_of_half_precision_that_do_not_cancel_are_kept() -> None:
    """Other vectors have as many zeros as in full precision."""
    zeros = {}
    for dtype in (torch.float32, torch.bfloat16):
        prompted = tiny.prompted("roberta", "masked", dtype=torch.bfloat16)
        if dtype == torch.float32:
            prompted.model.float()
        names = [n for n, p in prompted.model.named_parameters() if p.ndim == 1 and not n.endswith("key.bias")]
        found = jacobians(outputs_of(prompted), tiny.encoded(prompted, 5), names)
        zeros[dtype] = {name: int((value == 0).flatten(2).all(-1).sum()) for name, value in found}
    assert zeros[torch.bfloat16] == zeros[torch.float32]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_attention_to_a_single_key_has_no_gradient_in_queries_and_keys(dtype: torch.dtype) -> None:
    """A softmax of one number is 1: T5's decoder has one token where answers have."""
    prompted = tiny.prompted("t5", "seq2seq", dtype=dtype)
    names = [f"decoder.block.{n}.layer.0.SelfAttention.{key}.weight" for n in (0, 1) for key in "qkv"]
    outputs, items = outputs_of(prompted), tiny.encoded(prompted, 5)
    for batch_size in (1, 3):
        for name, value in jacobians(outputs, items, names, KernelSettings(batch_size=batch_size)):
            assert bool(value.any()) == name.endswith("v.weight"), name


def test_signs_of_a_decoder_of_one_token_are_those_of_autograd_whatever_the_batch() -> None:
    prompted = tiny.prompted("t5", "seq2seq", dtype=torch.float64)
    outputs, items = outputs_of(prompted), tiny.encoded(prompted, 5)

    def kernel(**settings: Any) -> torch.Tensor:
        request = Request(outputs, items, None, ("signgd",), [n for n, _ in prompted.model.named_parameters()])
        return compute_kernels(request, KernelSettings(**settings))["signgd"].values

    expected = kernel(route="autograd")
    for batch_size in (1, 2, 5):
        assert torch.equal(kernel(batch_size=batch_size), expected)
