"""Training chosen weights is training all weights with gradients zeroed elsewhere, whichever way is taken."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

import tiny
from reference import apet_twin
from shoestring.errors import ModelError
from shoestring.training.objective import OBJECTIVES
from shoestring.tuning.apet import delta, storage
from shoestring.tuning.apet.delta import Delta, deltas
from shoestring.tuning.apet.sites import sites_of
from shoestring.tuning.catalog.apet import APET
from shoestring.zeroth.closures import PerExample
from shoestring.zeroth.engines.paired import PairedEngine
from shoestring.zeroth.optimizers.hizoo import HiZOO
from shoestring.zeroth.optimizers.mezo import MeZO
from tuning.apet.conftest import loss_of, scramble, trained
from tuning.subjects import batch, logits, losses

pytestmark = pytest.mark.usefixtures("frozen_imports")
WAYS = {"dense": True, "sparse": False}
Make = Callable[[list[Tensor]], torch.optim.Optimizer]
SGD: Make = partial(torch.optim.SGD, lr=0.1, momentum=0.9)
ADAM: Make = partial(torch.optim.Adam, lr=0.02)
# Tied and untied embeddings, fused projections, scaled and shared ones, padding, positions with an offset.
ALL = [*((name, "masked") for name in tiny.MASKED), *((name, "causal") for name in tiny.CAUSAL), ("roberta", "head")]


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Make every tensor take the same way, where it has two."""
    monkeypatch.setattr(delta, "attach", partial(delta.attach, dense=WAYS[request.param]))
    return WAYS[request.param]


@pytest.mark.parametrize("make", [SGD, ADAM], ids=["sgd", "adam"])
@pytest.mark.parametrize(("architecture", "kind"), [("roberta", "masked"), ("gpt2", "causal"), ("llama", "causal")])
def test_a_trajectory_is_that_of_all_weights_with_masked_gradients(
    architecture: str, kind: str, make: Make, way: bool
) -> None:
    compare_with_the_twin(architecture, kind, make, steps=6)


@pytest.mark.parametrize(("architecture", "kind"), ALL)
def test_every_architecture_learns_as_with_masked_gradients(architecture: str, kind: str, way: bool) -> None:
    compare_with_the_twin(architecture, kind, ADAM, steps=2)


def compare_with_the_twin(architecture: str, kind: str, make: Make, steps: int) -> None:
    ours, twin = (tiny.prompted(architecture, kind, dtype=torch.float64) for _ in range(2))
    model = APET(budget=900).apply(ours.model, 3)
    found = storage.collect(model)
    masks = apet_twin.masks_of({name: index for name, (index, _) in found.chosen.items()}, [*found.whole], twin.model)
    wanted = apet_twin.train(twin.model, masks, loss_of(twin), make, steps)
    losses = []
    optimizer, loss = make(list(trained(model))), loss_of(ours)
    for _ in range(steps):
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step()
        losses.append(float(value.detach()))
    torch.testing.assert_close(losses, wanted, rtol=1e-9, atol=1e-10)
    delta.fold(model)
    for (name, one), other in zip(model.named_parameters(), twin.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10, msg=name)


def test_few_elements_are_kept_beside_a_matrix_and_many_put_into_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def ways(budget: int) -> dict[str, list[str]]:
        model = APET(budget=budget, scope="query.weight|word_embeddings|bias").apply(
            tiny.build_model("roberta", "masked"), 3
        )
        return {name: list(one._sparse) for name, _, one in deltas(model)}

    assert "weight" in ways(60)["roberta.embeddings.word_embeddings"]
    few, many = ways(60), ways(9000)
    assert any(found == ["weight"] for name, found in few.items() if name.endswith("query"))
    assert all(found == [] for name, found in many.items() if name.endswith("query"))
    assert all(found == [] for name, found in few.items() if name.endswith("LayerNorm"))


@pytest.mark.parametrize("padding", [0, 3, None])
def test_a_row_of_padding_has_no_gradient_in_an_embedding_but_counts(padding: int | None, way: bool) -> None:
    layer = torch.nn.Embedding(6, 4, padding_idx=padding, dtype=torch.float64)
    pristine, index = layer.weight.detach().clone(), torch.tensor([0, 5, 12, 13, 23])
    delta.attach(sites_of(layer), {"weight": index})
    values = added(layer).values("weight")
    scramble([values])
    ids = torch.tensor([[0, 3, 5], [1, 3, 0]])
    layer(ids).square().sum().backward()
    twin = torch.nn.Embedding(6, 4, padding_idx=padding, dtype=torch.float64)
    twin.weight.data.copy_(pristine).view(-1)[index] += values.data
    twin(ids).square().sum().backward()
    assert twin.weight.grad is not None
    torch.testing.assert_close(layer(ids), twin(ids))
    torch.testing.assert_close(values.grad, twin.weight.grad.view(-1)[index])


def test_a_subclass_that_scales_its_output_gets_the_sum_of_weights(way: bool) -> None:
    class Scaled(torch.nn.Embedding):
        def forward(self, input: Tensor) -> Tensor:
            return 3.0 * super().forward(input)

    layer = Scaled(6, 4)
    pristine = layer.weight.detach().clone()
    delta.attach(sites_of(layer), {"weight": torch.tensor([2])})
    added(layer).values("weight").data.fill_(1.0)
    torch.testing.assert_close(layer(torch.tensor([0]))[0, 2], 3.0 * (pristine[0, 2] + 1.0))


@pytest.mark.parametrize("insert", ["lora", "adapter", "ia3", "prefix", "prompt-tuning"])
@pytest.mark.parametrize(("architecture", "kind"), [("roberta", "masked"), ("llama", "causal")])
def test_chosen_weights_of_whatever_is_inserted_act_as_if_they_were_in_their_tensors(
    insert: str, architecture: str, kind: str
) -> None:
    subject = tiny.prompted(architecture, kind, dtype=torch.float64)
    prompts = tiny.encoded(subject, 4)
    model = APET(budget=40, over="inserted", insert=(insert,)).apply(subject.model, 3)
    loss_of(subject)().backward()
    assert any(param.grad is not None and param.grad.any() for param in trained(model))
    before = subject.predict(prompts, 4)
    scramble(trained(model), 0.5)
    wanted = subject.predict(prompts, 4)
    assert not torch.equal(wanted, before)
    delta.fold(model)
    torch.testing.assert_close(subject.predict(prompts, 4), wanted, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("scope", ["rel_embeddings", "word_embeddings", "query", "."])
def test_weights_that_another_module_reads_past_their_own_act_too(
    scope: str, legacy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DeBERTa reads its table of distances itself; its newer head reads the embeddings, which are looked up as well."""
    settings = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False}
    monkeypatch.setitem(tiny.ARCHITECTURES, "deberta-v2", tiny.SIZES | settings | {"initializer_range": 0.2})
    model = tiny.build_model("deberta-v2", "masked", type_vocab_size=0, legacy=legacy).double()
    before, tuning = logits(model), APET(budget=50, scope=scope)
    tuning.apply(model, 3)
    torch.testing.assert_close(logits(model), before)
    scramble(trained(model), 1.0)
    tuned = logits(model)
    assert not torch.allclose(tuned, before)
    losses(model, batch(model)).sum().backward()
    if scope == "rel_embeddings":
        assert all(param.grad is not None and param.grad.any() for param in trained(model))
    torch.testing.assert_close(logits(tuning.merge(model)), tuned)


def test_a_pass_that_fails_leaves_a_tensor_to_be_read_as_before() -> None:
    layer = torch.nn.Linear(40, 30)
    delta.attach(sites_of(layer), {"weight": torch.tensor([1])}, dense=False)
    added(layer).values("weight").data.fill_(1.0)
    wanted, x = layer.weight, torch.ones(2, 40)
    with pytest.raises(RuntimeError):
        layer(torch.ones(2, 3))
    assert torch.equal(layer.weight, wanted)
    torch.testing.assert_close(layer(x), torch.nn.functional.linear(x, layer.weight, layer.bias))
    with torch.no_grad():
        assert torch.equal(torch.nn.Linear.forward(layer, x), torch.nn.functional.linear(x, wanted, layer.bias))


def test_whoever_reads_a_tensor_gets_the_sum_and_the_module_keeps_its_own(way: bool) -> None:
    layer = torch.nn.Linear(4, 3)
    weight = layer.weight
    delta.attach(sites_of(layer), {"weight": torch.tensor([1, 5])})
    added(layer).values("weight").data.copy_(torch.tensor([1.0, -2.0]))
    assert dict(layer.named_parameters())["weight"] is weight
    assert layer.state_dict().keys() == {"weight", "bias", "delta.weight", "delta.weight_index"}
    wanted = weight.detach().clone()
    wanted.view(-1)[[1, 5]] += torch.tensor([1.0, -2.0])
    assert torch.equal(layer.weight, wanted)
    assert layer.get_parameter("weight") is weight
    assert isinstance(layer, torch.nn.Linear)
    delta.fold(layer)
    assert type(layer) is torch.nn.Linear
    assert layer.weight is weight
    assert torch.equal(weight, wanted)


def test_a_module_has_one_delta() -> None:
    layer = torch.nn.Linear(4, 3)
    delta.attach(sites_of(layer), {"weight": torch.tensor([1])})
    with pytest.raises(ModelError, match="bias: its module has a 'delta' already; merge what was tuned before"):
        delta.attach(sites_of(layer), {"bias": torch.tensor([1])})


def test_a_copy_of_a_tuned_model_is_a_model_of_its_own() -> None:
    subject = tiny.prompted("opt", "causal")
    model = APET(budget=300).apply(subject.model, 3)
    other = copy.deepcopy(model)
    ids = torch.tensor([[0, 8, 9, 10, 2]])
    scramble(trained(other))
    with torch.no_grad():
        assert not torch.equal(model(input_ids=ids).logits, other(input_ids=ids).logits)
        scramble(trained(model))
        assert torch.equal(model(input_ids=ids).logits, other(input_ids=ids).logits)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_values_of_half_precision_weights_are_in_single_precision(dtype: torch.dtype) -> None:
    subject = tiny.prompted("opt", "causal", dtype=dtype)
    model = APET(budget=300).apply(subject.model, 3)
    assert {param.dtype for param in trained(model)} == {torch.float32}
    loss_of(subject)().backward()
    assert subject.predict(tiny.encoded(subject, 2), 2).isfinite().all()
    optimizer = torch.optim.SGD(trained(model), lr=1e-6)  # far below half precision's units in the last place
    optimizer.step()
    assert all(bool(param.any()) for param in trained(model) if param.grad is not None and param.grad.any())


TUNINGS: dict[str, dict[str, Any]] = {
    "elements": {"budget": 500},
    "rows": {"budget": 500, "granularity": "row"},
    "lora": {"budget": 100, "over": "inserted", "insert": ["lora"]},
    "half": {"budget": 300, "over": "half", "insert": ["lora"]},
    "published": {"budget": 1500, "compat": "pet-scaling"},
}


@pytest.mark.parametrize("name", TUNINGS)
@pytest.mark.parametrize("architecture", ["roberta", "llama", "gpt2", "bloom"])
def test_zeroth_order_steps_are_the_same_with_every_engine_and_paired_never_gives_way(
    name: str, architecture: str, caplog: pytest.LogCaptureFixture
) -> None:
    found: dict[str, Tensor] = {}
    with caplog.at_level(logging.WARNING):
        for engine in ("replay", "fused", "paired"):
            optimizer, params = zeroth_steps(architecture, TUNINGS[name], MeZO, engine)
            found[engine] = torch.cat([param.detach().view(-1) for param in params])
            if isinstance(optimizer.engine, PairedEngine):
                assert optimizer.engine.repeats
                assert optimizer.engine.instead is None
    torch.testing.assert_close(found["fused"], found["replay"], rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(found["paired"], found["replay"], rtol=1e-9, atol=1e-11)
    assert found["replay"].any()
    if name in ("elements", "rows"):
        assert caplog.messages == []


@pytest.mark.parametrize("architecture", ["roberta", "llama"])
def test_the_state_of_an_optimizer_has_the_size_of_the_budget(architecture: str) -> None:
    optimizer, _ = zeroth_steps(architecture, {"budget": 77}, HiZOO, "paired")
    held = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
    assert sum(value.numel() for value in held if value.ndim) == 77
    subject = tiny.prompted(architecture, "causal" if architecture == "llama" else "masked")
    model = APET(budget=77).apply(subject.model, 3)
    adam = torch.optim.Adam(trained(model))
    loss_of(subject)().backward()
    adam.step()
    sizes = [value.numel() for state in adam.state.values() for value in state.values() if value.ndim]
    assert sum(sizes) <= 2 * 77


def zeroth_steps(architecture: str, table: dict[str, Any], make: Any, engine: str) -> tuple[Any, list[Tensor]]:
    kind = "masked" if architecture in tiny.MASKED else "causal"
    subject = tiny.prompted(architecture, kind, dtype=torch.float64)
    model = APET.model_validate(table).apply(subject.model, 3)
    named = [(name, param) for name, param in model.named_parameters() if param.requires_grad]
    optimizer = make(named, lr=1e-2, eps=1e-3, engine=engine)
    objective = OBJECTIVES.get("cross-entropy")
    batch = subject.collate(tiny.encoded(subject, 4))
    closure = PerExample(lambda part: objective.losses(subject, part), [batch])
    for _ in range(3):
        optimizer.step(closure)
    optimizer.finalize()
    return optimizer, [param for _, param in named]


def added(layer: torch.nn.Module) -> Delta:
    (found,) = deltas(layer)
    return found[2]
