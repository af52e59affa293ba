from __future__ import annotations

import pytest
import torch

import tiny
from shoestring.errors import NonFiniteScoreError
from shoestring.models.evaluation import evaluate
from shoestring.models.prompted import Passes, evaluating, predictions

pytestmark = pytest.mark.usefixtures("frozen_imports")
FAMILIES = [("roberta", "masked"), ("bert", "masked"), ("llama", "causal"), ("roberta", "head")]


class Counting:
    def __init__(self) -> None:
        self.done = 0

    def advance(self, steps: int = 1) -> None:
        self.done += steps

    def note(self, text: str) -> None:
        raise AssertionError(text)


@pytest.mark.parametrize(("architecture", "kind"), FAMILIES)
@pytest.mark.parametrize("size", [1, 3, 64])
def test_predictions_come_in_the_order_of_the_prompts_whatever_the_batch_size(
    architecture: str, kind: str, size: int
) -> None:
    subject = tiny.prompted(architecture, kind, dtype=torch.float64)
    prompts = tiny.encoded(subject, 8)
    one_by_one = torch.cat([subject.predict([prompt], 1) for prompt in prompts])
    torch.testing.assert_close(subject.predict(prompts, size), one_by_one)


def test_passes_and_progress_are_counted() -> None:
    subject, bar = tiny.prompted("roberta", "masked"), Counting()
    subject.predict(tiny.encoded(subject, 8), 3, bar)
    assert subject.passes == Passes(forward=3, forward_examples=8)
    assert bar.done == 8


def test_prediction_switches_dropout_off_and_puts_every_module_back_into_its_own_mode() -> None:
    subject = tiny.prompted("roberta", "masked", hidden_dropout_prob=0.5)
    prompts = tiny.encoded(subject, 4)
    wanted = subject.predict(prompts, 4)
    subject.model.train()
    first = next(subject.model.children())
    first.eval()
    modes = [module.training for module in subject.model.modules()]
    assert torch.equal(subject.predict(prompts, 4), wanted)
    assert [module.training for module in subject.model.modules()] == modes
    assert any(modes)
    assert not all(modes)


def test_modes_are_put_back_after_an_error_too() -> None:
    model = torch.nn.Linear(1, 1)
    with pytest.raises(RuntimeError, match="mat1 and mat2"), evaluating(model):
        model(torch.zeros(2, 2))
    assert model.training


def test_prediction_makes_no_graph() -> None:
    subject = tiny.prompted("roberta", "masked")
    assert not subject.predict(tiny.encoded(subject, 2), 2).requires_grad


def test_the_first_of_equally_likely_labels_is_predicted() -> None:
    assert predictions(tiny.task_of(), torch.tensor([[1.0, 1.0], [0.0, 1.0]])).tolist() == [0, 1]


def test_two_poles_predict_a_value_between_them() -> None:
    task = tiny.task_of(**tiny.REGRESSION)
    scores = torch.tensor([[0.0, 0.0], [0.0, 1.0], [50.0, 0.0]])
    high = 5 / (1 + torch.exp(torch.tensor(-1.0)))
    torch.testing.assert_close(predictions(task, scores), torch.tensor([2.5, float(high), 0.0]))


def test_one_output_predicts_itself() -> None:
    task = tiny.task_of(**tiny.REGRESSION)
    assert predictions(task, torch.tensor([[1.5], [7.0]])).tolist() == [1.5, 7.0]


def test_evaluation_gives_metrics_and_the_mean_cross_entropy() -> None:
    subject = tiny.prompted("roberta", "masked")
    prompts = tiny.encoded(subject, 4)
    scores = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.0, 3.0], [0.0, 0.0]])
    found = evaluate(subject.task, prompts, scores)
    assert [prompt.label for prompt in prompts] == [0, 1, 0, 1]
    wanted = -sum(float(row.log_softmax(-1)[label]) for row, label in zip(scores, (0, 1, 0, 1), strict=True)) / 4
    assert found == {"accuracy": 0.5, "loss": pytest.approx(wanted)}


def test_evaluation_of_regression_gives_the_squared_error_of_values() -> None:
    task = tiny.task_of(**tiny.REGRESSION)
    subject = tiny.prompted("roberta", "masked", task=task)
    prompts = tiny.encoded(subject, 3)
    found = evaluate(task, prompts, torch.tensor([[0.5], [1.0], [-1.0]]))
    assert [prompt.label for prompt in prompts] == [0.0, 1.0, 0.0]
    assert found["loss"] == pytest.approx((0.25 + 0 + 1) / 3)
    assert set(found) == {"pearson", "loss"}


def test_scores_that_are_not_finite_name_their_examples() -> None:
    subject = tiny.prompted("roberta", "masked")
    prompts = tiny.encoded(subject, 3)
    scores = torch.tensor([[0.0, 1.0], [float("nan"), 0.0], [0.0, float("-inf")]])
    with pytest.raises(NonFiniteScoreError, match=r"scores of 2 examples are not finite \(train:1, train:2\)"):
        evaluate(subject.task, prompts, scores)
