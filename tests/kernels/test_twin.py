"""Every formula, model and choice of parameters against loops in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import tiny
from kernels.subjects import ALL, MODELS, SUBSETS, Subject, subject
from reference import kernel_twin
from shoestring.kernels import Kernel, KernelSettings, Request, compute_kernels, outputs_of


def check(found: dict[str, Kernel], rows: kernel_twin.Rows, columns: kernel_twin.Rows) -> None:
    for formula, kernel in found.items():
        expected = kernel_twin.kernel(formula, rows, columns)
        if formula == "signgd":
            assert torch.equal(kernel.values, expected)
        else:
            torch.testing.assert_close(kernel.values, expected, rtol=1e-9, atol=1e-10 * float(expected.abs().max()))
        torch.testing.assert_close(kernel.row_norms, kernel_twin.norms(formula, rows, 0), rtol=1e-9, atol=0.0)
        torch.testing.assert_close(kernel.column_norms, kernel_twin.norms(formula, columns, 1), rtol=1e-9, atol=0.0)


def against_the_twin(one: Subject, names: tuple[str, ...], *, rows: int = 3, **settings: Any) -> dict[str, Kernel]:
    request = Request(one.outputs, one.items[:rows], one.items[rows:], ALL, names)
    found = compute_kernels(request, KernelSettings(batch_size=2, **settings))
    values, left = kernel_twin.jacobian(one.outputs, one.items[:rows], names)
    others, right = kernel_twin.jacobian(one.outputs, one.items[rows:], names)
    check(found, left, right)
    torch.testing.assert_close(found["sgd"].row_outputs, values)
    torch.testing.assert_close(found["sgd"].column_outputs, others)
    return found


@pytest.mark.parametrize("subset", SUBSETS)
@pytest.mark.parametrize("model", MODELS)
def test_kernels_are_those_of_loops(model: str, subset: str) -> None:
    one = subject(model)
    found = against_the_twin(one, one.names(subset))
    assert found["sgd"].description["autograd"] == []


@pytest.mark.parametrize(
    "model", ["albert", "distilbert", "electra", "modernbert", "gpt2", "gemma2", "qwen3", "mistral", "bloom"]
)
def test_layers_of_other_models_serve_every_parameter(model: str) -> None:
    one = subject(model, count=4)
    names = one.names()
    found = compute_kernels(Request(one.outputs, one.items[:2], one.items[2:], ("sgd",), names))["sgd"]
    _, left = kernel_twin.jacobian(one.outputs, one.items[:2], names)
    _, right = kernel_twin.jacobian(one.outputs, one.items[2:], names)
    expected = kernel_twin.kernel("sgd", left, right)
    torch.testing.assert_close(found.values, expected, rtol=1e-8, atol=1e-8 * float(expected.abs().max()))
    assert found.description["autograd"] == []


@pytest.mark.parametrize("route", ["auto", "autograd"])
@pytest.mark.parametrize("model", tiny.SEQ2SEQ)
def test_models_with_a_decoder_have_the_kernels_of_loops(model: str, route: Any) -> None:
    prompted = tiny.prompted(model, "seq2seq", dtype=torch.float64)
    one = Subject(outputs_of(prompted, difference=True), tiny.encoded(prompted, 5))
    names = one.names()
    settings = KernelSettings(batch_size=2, route=route)
    found = compute_kernels(Request(one.outputs, one.items[:3], one.items[3:], ("sgd",), names), settings)["sgd"]
    _, left = kernel_twin.jacobian(one.outputs, one.items[:3], names)
    _, right = kernel_twin.jacobian(one.outputs, one.items[3:], names)
    expected = kernel_twin.kernel("sgd", left, right)
    # T5 computes norms in float32, whatever its weights are.
    torch.testing.assert_close(found.values, expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max()))
    alone = found.description["autograd"]
    # One target token's biases of relative positions are shared by all examples, as those of the encoder are.
    assert route == "autograd" or all("relative_attention_bias" in name for name in alone)


@pytest.mark.parametrize("model", ["roberta", "llama-tied"])
def test_autograd_alone_gives_the_same(model: str) -> None:
    one = subject(model)
    names = tuple(name for name in one.names() if not name.endswith(("key.bias", "k_proj.bias")))
    found = against_the_twin(one, names, route="autograd")
    assert set(found["sgd"].description["autograd"]) == set(names)


@pytest.mark.parametrize("model", ["roberta", "opt", "head"])
def test_every_output_has_its_gradients(model: str) -> None:
    one = subject(model, difference=False)
    found = against_the_twin(one, one.names())
    assert found["sgd"].values.shape == (3, 2, 2, 2)


def test_candidates_of_several_tokens_are_rows_of_the_same_example() -> None:
    task = tiny.task_of(("really bad", "good and fine", "so so film"))
    prompted = tiny.prompted("opt", "causal", task=task, dtype=torch.float64)
    one = Subject(outputs_of(prompted), tiny.encoded(prompted, 4))
    found = against_the_twin(one, one.names(), rows=2)
    assert found["sgd"].values.shape == (2, 3, 2, 3)


def test_adapters_of_peft_have_their_kernels() -> None:
    from shoestring.tuning.catalog.lora import LoRA

    prompted = tiny.prompted("roberta", "masked", dtype=torch.float64)
    adapted: Any = LoRA(r=2).apply(prompted.model, 13).double().eval()
    stream = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, param in adapted.named_parameters():
            if "lora_B" in name:
                param.copy_(torch.randn(param.shape, generator=stream, dtype=param.dtype))
    outputs = outputs_of(tiny.PromptedModel(adapted, prompted.task, prompted.encoder, prompted.scorer, prompted.pad_id))
    one = Subject(outputs, tiny.encoded(prompted, 5))
    names = tuple(name for name, param in adapted.named_parameters() if param.requires_grad)
    assert len(names) == 8
    against_the_twin(one, names)


@pytest.mark.parametrize("model", ["roberta", "llama"])
def test_examples_with_themselves_are_examples_with_others(model: str) -> None:
    one = subject(model, difference=False)
    formulas = (*ALL, "asymmetric-signgd-flipped")
    own = compute_kernels(Request(one.outputs, one.items, None, formulas), KernelSettings(batch_size=2))
    apart = compute_kernels(Request(one.outputs, one.items, one.items, formulas), KernelSettings(batch_size=2))
    for formula in formulas:
        torch.testing.assert_close(own[formula].values, apart[formula].values, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(own[formula].column_norms, apart[formula].column_norms)
        assert own[formula].columns == own[formula].rows == tuple(item.uid for item in one.items)
    flipped = own["asymmetric-signgd-flipped"].values.permute(2, 3, 0, 1)
    torch.testing.assert_close(own["asymmetric-signgd"].values, flipped, rtol=1e-9, atol=1e-9)
