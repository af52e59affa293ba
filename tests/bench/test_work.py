from __future__ import annotations

import pytest
import torch

from shoestring.bench.reference import ReferenceStep
from shoestring.bench.settings import Workload
from shoestring.bench.shapes import SHAPES, shape_named
from shoestring.bench.work import Work, check, prepare
from shoestring.errors import ModelError, UnknownNameError

CPU = torch.device("cpu")
SMALL = Workload(batch_size=3, tokens=8, candidates=2)
RAGGED = Workload(batch_size=5, tokens=20, shortest=4)
# As counted on the hub's models, tied weights once.
WEIGHTS = {
    "opt-125m": 125_239_296,
    "opt-1.3b": 1_315_758_080,
    "opt-13b": 12_853_473_280,
    "roberta-base": 124_697_433,
    "roberta-large": 355_412_057,
}


def work(name: str, dtype: str = "float64", workload: Workload = SMALL) -> Work:
    return prepare(shape_named(name), dtype, workload, CPU)


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_shape_has_as_many_weights_as_the_model_it_is_named_after(name: str) -> None:
    model = SHAPES[name].build(torch.float32, torch.device("meta"))
    assert sum(param.numel() for param in model.parameters()) == WEIGHTS[name]


@pytest.mark.parametrize("name", ["tiny", "tiny-masked"])
def test_weights_and_tokens_are_the_same_each_time_and_of_the_usual_size(name: str, global_random_states: None) -> None:
    one, other = work(name, "float32"), work(name, "float32")
    matrices = [param for param in one.model.parameters() if param.ndim == 2]
    assert all(torch.equal(a, b) for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True))
    assert all(torch.equal(value, other.batch[key]) for key, value in one.batch.items())
    assert all(abs(float(matrix.detach().std()) - 0.02) < 2e-3 for matrix in matrices if matrix.numel() > 4000)
    assert not one.model.training
    assert one.batch["input_ids"].shape == (3, 8)
    assert one.batch["option_ids"].shape == (3, 2, 1)


def test_the_size_of_the_weights_counts_tied_ones_once() -> None:
    assert work("tiny", "bfloat16").weights * 2 == work("tiny", "float32").weights
    assert work("tiny", "float32").weights == 4 * sum(p.numel() for p in work("tiny").model.parameters())


def test_an_unknown_shape_is_answered_with_the_nearest() -> None:
    with pytest.raises(
        UnknownNameError, match=r"unknown shape of a model 'opt-125'; did you mean 'opt-125m'\? Allowed"
    ):
        shape_named("opt-125")


def test_prompts_longer_than_the_model_reads_and_too_many_candidates_are_refused() -> None:
    check(SHAPES["opt-125m"], Workload(tokens=2047))
    check(SHAPES["roberta-base"], Workload(tokens=512))
    with pytest.raises(ModelError, match="tokens=2048: opt-125m reads prompts of at most 2047 tokens"):
        check(SHAPES["opt-125m"], Workload(tokens=2048))
    with pytest.raises(ModelError, match="tokens=513: roberta-base reads prompts of at most 512 tokens"):
        check(SHAPES["roberta-base"], Workload(tokens=513))
    with pytest.raises(ModelError, match="candidates=600: tiny has only 507 ordinary tokens"):
        check(SHAPES["tiny"], Workload(candidates=600))


def test_the_shortest_prompt_is_no_longer_than_the_others() -> None:
    check(SHAPES["tiny"], Workload(tokens=20, shortest=20))
    with pytest.raises(ModelError, match="shortest=21: no prompt has more than tokens=20"):
        check(SHAPES["tiny"], Workload(tokens=20, shortest=21))


@pytest.mark.parametrize("name", ["tiny", "tiny-masked"])
def test_prompts_of_different_lengths_share_rows_and_have_the_same_losses(name: str) -> None:
    subject = work(name, workload=RAGGED)
    assert subject.batch["attention_mask"].sum(1).tolist() == [20, 16, 12, 8, 4]
    assert subject.folded["input_ids"].shape == (3, 20)
    with torch.no_grad():
        losses, found = subject.losses(subject.batch), subject.losses(subject.folded)
    assert (losses.shape, found.shape) == ((5,), (3,))
    assert float(found.mean()) == pytest.approx(float(losses.mean()), abs=1e-12)
    alike = work(name)
    assert alike.folded is alike.batch


@pytest.mark.parametrize("workload", [SMALL, RAGGED])
@pytest.mark.parametrize("name", ["tiny", "tiny-masked"])
def test_the_reference_computes_the_same_loss_with_one_row_per_candidate(name: str, workload: Workload) -> None:
    subject = work(name, workload=workload)
    with torch.no_grad():
        assert float(ReferenceStep(subject, 1e-2, 1e-3).loss()) == pytest.approx(float(subject.loss()), abs=1e-12)


@pytest.mark.parametrize("name", ["tiny", "tiny-masked"])
def test_a_reference_step_is_the_step_of_the_paper(name: str, global_random_states: None) -> None:
    lr, eps = 0.1, 1e-3
    subject, expected = work(name), work(name)
    step = ReferenceStep(subject, lr, eps)
    for number in range(2):
        step.step()
        generator = torch.Generator().manual_seed(number)
        params = list(expected.model.parameters())
        with torch.no_grad():
            old = [param.clone() for param in params]
            zs = [torch.normal(0.0, 1.0, size=p.shape, generator=generator, dtype=p.dtype) for p in params]
            losses = []
            for sign in (1, -1):
                for param, weight, z in zip(params, old, zs, strict=True):
                    param.copy_(weight + sign * eps * z)
                losses.append(float(expected.loss()))
            grad = (losses[0] - losses[1]) / (2 * eps)
            for param, weight, z in zip(params, old, zs, strict=True):
                param.copy_(weight - lr * grad * z)
    for made, wanted in zip(subject.model.parameters(), expected.model.parameters(), strict=True):
        torch.testing.assert_close(made, wanted, rtol=0, atol=1e-9)
    assert step.forwards == 4
