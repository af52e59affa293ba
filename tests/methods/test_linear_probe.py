"""Linear probing against a plain loop: features one prompt at a time, classifiers by plain descent, folds by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import tiny
from shoestring.errors import ConfigError, DataError
from shoestring.methods.base import Given, Outcome
from shoestring.methods.catalog.linear_probe import LinearProbe
from shoestring.methods.probing import Data, best, choose, features_of, fit_linear
from shoestring.models.evaluation import evaluate
from shoestring.models.prompted import PromptedModel
from shoestring.progress import Silent
from shoestring.prompts.encoding import EncodedPrompt
from shoestring.runs.config import load_config
from shoestring.runs.run import run

pytestmark = pytest.mark.usefixtures("frozen_imports", "global_random_states")
FAMILIES = {"masked": "roberta", "causal": "llama", "seq2seq": "t5", "head": "roberta"}
WORDS = ("terrible", "great", "fine")
EXACT: dict[str, Any] = {"strengths": (0.01, 1.0), "tolerance": 1e-10}


@pytest.fixture(scope="module")
def doubles() -> dict[str, PromptedModel]:
    task = tiny.task_of(WORDS)
    return {
        kind: tiny.prompted(name, kind, task=task, dtype=torch.float64, labels=3) for kind, name in FAMILIES.items()
    }


def prompts_of(subject: PromptedModel, count: int = 12, seed: int = 5) -> list[EncodedPrompt]:
    """Return prompts of three labels."""
    return [replace(prompt, label=number % 3) for number, prompt in enumerate(tiny.encoded(subject, count, seed))]


def fit(method: LinearProbe, subject: PromptedModel, folder: Path, train: list[EncodedPrompt], **more: Any) -> Outcome:
    lines = more.pop("lines", [])
    dev = more.pop("dev", [])
    return method.fit(Given(subject, train, dev, 13, folder, lines.append, Silent(), tiny.Unmeasured(), 4))


def slow_fit(x: Tensor, y: Tensor, c: float, classes: int | None) -> tuple[Tensor, Tensor]:
    """Return W and b by descending the equation in the docstring of `fit_linear`, from zero."""
    rows = 1 if classes in (None, 2) else classes
    weight = torch.zeros(rows, x.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(rows, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=2000, tolerance_grad=1e-11, tolerance_change=1e-16, line_search_fn="strong_wolfe"
    )

    def spread(z: Tensor) -> Tensor:
        return torch.cat([-z / 2, z / 2], 1) if classes == 2 else z

    def closure() -> Tensor:
        optimizer.zero_grad()
        z = spread(x @ weight.T + bias)
        if classes is None:
            loss = c * ((z[:, 0] - y) ** 2).sum() + (weight**2).sum()
        else:
            loss = c * torch.nn.functional.cross_entropy(z, y, reduction="sum") + (weight**2).sum() / 2
        loss.backward()
        return loss

    optimizer.step(closure)
    return spread(weight.detach().T).T, spread(bias.detach()[None])[0]


@pytest.mark.parametrize("classes", [None, 2, 3])
@pytest.mark.parametrize("standardise", [False, True])
def test_a_fit_is_the_minimum_of_its_equation(classes: int | None, standardise: bool) -> None:
    stream = torch.Generator().manual_seed(3)
    x = torch.randn(20, 4, generator=stream, dtype=torch.float64) * torch.tensor([1.0, 2.0, 0.5, 0.0]) + 1
    y = torch.arange(20) % (classes or 20)
    prompts = [EncodedPrompt(f"train:{n}", (1,), (0,), 0, (), label, 0) for n, label in enumerate(y.tolist())]
    settings = LinearProbe(standardise=standardise, tolerance=1e-10)
    made = fit_linear(settings, Data(prompts, x.numpy()), 0.5, classes=classes is not None)
    spread = x.std(0, correction=0)
    scaled = (x - x.mean(0)) / torch.where(spread > 0, spread, 1.0) if standardise else x
    weight, bias = slow_fit(scaled, y, 0.5, classes)
    z = scaled @ weight.T + bias
    wanted = z if classes is None else z.log_softmax(-1)
    np.testing.assert_allclose(made.scores(x.numpy()), wanted.numpy(), atol=1e-6)
    assert made.converged


@pytest.mark.parametrize("kind", FAMILIES)
def test_scores_are_those_of_a_plain_loop(doubles: dict[str, PromptedModel], kind: str, tmp_path: Path) -> None:
    subject = doubles[kind]
    train, test = prompts_of(subject), prompts_of(subject, 5, seed=6)
    done = fit(LinearProbe(**EXACT), subject, tmp_path, train)
    rows = [features_of(subject, "label-word", [prompt], 1)[0] for prompt in (*train, *test)]
    x, y = torch.stack(rows[:12]), torch.tensor([prompt.label for prompt in train])
    weight, bias = slow_fit(x, y, done.facts["c"], 3)
    wanted = (torch.stack(rows[12:]) @ weight.T + bias).log_softmax(-1)
    told: dict[int, Tensor] = {}
    scores = done.predictor.predict(test, 2, None, told.__setitem__)
    torch.testing.assert_close(scores, wanted, atol=1e-5, rtol=1e-5)
    assert all(torch.equal(told[number], row) for number, row in enumerate(scores))
    assert len(told) == 5
    assert done.facts["features"] == 32


def test_the_strength_is_the_best_of_models_that_did_not_see_what_they_score(
    doubles: dict[str, PromptedModel], tmp_path: Path
) -> None:
    subject = doubles["masked"]
    train, lines = prompts_of(subject, 18), list[dict[str, Any]]()
    settings = LinearProbe(**EXACT, folds=3, select="loss")
    done = fit(settings, subject, tmp_path, train, lines=lines)
    x, y = features_of(subject, "label-word", train, 64), torch.tensor([prompt.label for prompt in train])
    from sklearn.model_selection import StratifiedKFold

    from shoestring.seeds import MASK_32, derive

    folds = StratifiedKFold(3, shuffle=True, random_state=derive(13, "folds") & MASK_32)
    losses = []
    for c in settings.strengths:
        scores = torch.empty(18, 3, dtype=torch.float64)
        for rest, held in folds.split(x, y):
            assert sorted(y[held].tolist()) == [0, 0, 1, 1, 2, 2]
            weight, bias = slow_fit(x[rest], y[rest], c, 3)
            scores[held] = (x[held] @ weight.T + bias).log_softmax(-1)
        losses.append(evaluate(subject.task, train, scores))
    assert [line["c"] for line in lines] == [0.01, 1.0]
    for line, wanted in zip(lines, losses, strict=True):
        assert line["loss"] == pytest.approx(wanted["loss"], rel=1e-5)
        assert line["accuracy"] == wanted["accuracy"]
    chosen = min(range(2), key=lambda number: losses[number]["loss"])
    assert done.facts["c"] == settings.strengths[chosen]
    assert done.facts["cross_validated_loss"] == pytest.approx(losses[chosen]["loss"], rel=1e-5)
    assert done.facts["folds"] == 3


def test_dev_chooses_where_it_is_asked_to(doubles: dict[str, PromptedModel], tmp_path: Path) -> None:
    subject = doubles["masked"]
    train, dev = prompts_of(subject), prompts_of(subject, 6, seed=6)
    settings = LinearProbe(**EXACT, choose_on="dev", select="loss")
    done = fit(settings, subject, tmp_path, train, dev=dev)
    sets = [Data(some, features_of(subject, "label-word", some, 64).numpy()) for some in (train, dev)]
    losses = {
        c: evaluate(subject.task, dev, torch.from_numpy(fit_linear(settings, sets[0], c, classes=True).scores(
            sets[1].features)))["loss"]
        for c in settings.strengths
    }  # fmt: skip
    assert done.facts["c"] == min(losses, key=lambda c: losses[c])
    assert done.facts["dev_loss"] == pytest.approx(losses[done.facts["c"]])
    assert "folds" not in done.facts
    assert "cross_validated_loss" not in done.facts


def test_of_equals_the_smallest_strength_is_chosen_and_no_number_is_worst() -> None:
    from shoestring.methods.probing import Chosen

    task = tiny.task_of()
    measured = [Chosen(c, {"accuracy": value, "loss": 1 - c}, 5) for c, value in ((1.0, 0.5), (0.1, 0.5), (9.0, 0.4))]
    assert best(LinearProbe(), task, measured).c == 0.1
    assert best(LinearProbe(select="loss"), task, measured).c == 9.0
    lost = [Chosen(0.1, {"accuracy": float("nan"), "loss": 0.0}, 5), *measured[2:]]
    assert best(LinearProbe(), task, lost).c == 9.0


@pytest.mark.parametrize("kind", ["scores", "log-probabilities", "probabilities"])
def test_scores_of_candidates_can_be_features(doubles: dict[str, PromptedModel], kind: Any, tmp_path: Path) -> None:
    subject = doubles["causal"]
    train = prompts_of(subject)
    scores = subject.predict(train, 64)
    wanted = {"scores": scores, "log-probabilities": scores.log_softmax(-1), "probabilities": scores.softmax(-1)}[kind]
    told: dict[int, Tensor] = {}
    found = features_of(subject, kind, train, 4, on_row=told.__setitem__)
    torch.testing.assert_close(found, wanted, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(torch.stack([told[number] for number in range(12)]), wanted, atol=1e-9, rtol=1e-9)
    assert fit(LinearProbe(features=kind), subject, tmp_path, train).facts["features"] == 3


def test_features_of_a_prompt_asked_in_several_ways_are_their_mean(doubles: dict[str, PromptedModel]) -> None:
    subject = doubles["masked"]
    one, two, three = prompts_of(subject, 3)
    plain = features_of(subject, "label-word", [one, two, three], 64)
    found = features_of(subject, "label-word", [replace(one, variants=(two, three)), three], 2)
    torch.testing.assert_close(found, torch.stack([plain.mean(0), plain[2]]), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("kind", ["masked", "head"])
def test_values_are_predicted_by_ridge_regression(kind: str, tmp_path: Path) -> None:
    task = tiny.task_of(**tiny.REGRESSION)
    subject = tiny.prompted("roberta", kind, task=task, dtype=torch.float64, labels=1)
    train = [replace(p, label=float(n % 6)) for n, p in enumerate(tiny.encoded(tiny.prompted("roberta", kind), 12))]
    done = fit(LinearProbe(strengths=(0.1,), folds=4), subject, tmp_path, train)
    scores = done.predictor.predict(train, 3)
    x, y = features_of(subject, "label-word", train, 64), torch.tensor([prompt.label for prompt in train])
    weight, bias = slow_fit(x, y.double(), 0.1, None)
    torch.testing.assert_close(scores, x @ weight.T + bias, atol=1e-6, rtol=1e-6)
    assert "cross_validated_pearson" in done.facts


def test_training_sets_that_do_not_suffice_are_refused(doubles: dict[str, PromptedModel], tmp_path: Path) -> None:
    subject = doubles["masked"]
    train = prompts_of(subject)
    with pytest.raises(DataError, match=r"train: method\.kind='linear-probe': no training example is of label 2"):
        fit(LinearProbe(), subject, tmp_path, [prompt for prompt in train if prompt.label != 2])
    with pytest.raises(DataError, match=r"needs two training examples at least, and there are 1"):
        fit(LinearProbe(), subject, tmp_path, train[:1])
    with pytest.raises(DataError, match=r"a label has one training example, .* method\.choose_on='dev'"):
        fit(LinearProbe(), subject, tmp_path, train[:4])
    with pytest.raises(DataError, match=r"no dev examples to choose on; use method\.choose_on='train'"):
        list(choose(LinearProbe(), subject.task, Data(train, np.zeros((12, 1))), Data([], np.zeros((0, 1))), 3))
    stopped = fit(LinearProbe(max_iterations=1), subject, tmp_path, train)
    assert stopped.facts["converged"] is False


SUBSET = {"mode": "subset", "num_train": 8}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "nothing to fit": ({"data": SUBSET | {"num_train": 0}}, r"data\.num_train=0 leaves method\.kind='linear-probe'"),
    "no dev": ({"data": SUBSET, "method": {"choose_on": "dev"}}, r"method\.choose_on='dev' needs data\.num_dev"),
    "folds": ({"method": {"choose_on": "dev", "folds": 3}}, r"method\.folds has no effect with method\.choose_on"),
    "calibration": ({"prompt": {"calibration": "contextual"}}, r"prompt\.calibration has no effect: .*are no scores"),
    "score": ({"prompt": {"score": "sum"}}, r"prompt\.score has no effect: method\.features='label-word' are no"),
    "first token": (
        {"model": {"kind": "causal"}, "method": {"features": "first-token"}},
        r"of a causal model it has read nothing else; use 'mean'",
    ),
    "tuning": ({"tuning": {"kind": "lora"}}, r"tuning\.kind='lora' has no effect: .* trains nothing"),
    "head of values": (
        {"task": "STS-B", "model": {"kind": "head"}, "method": {"features": "probabilities"}},
        r"a head has one output for values, and no probabilities",
    ),
    "own answers": ({"task": "mezo/COPA", "model": {"kind": "causal"}}, r"tells labels apart, .* answers of their own"),
    "written": ({"task": "mezo/SQuAD", "model": {"kind": "causal"}}, r"writes no answers, which"),
    "per example": (
        {
            "data": SUBSET | {"per_example": True},
            "model": {"kind": "causal"},
            "prompt": {"demonstrations": {"kind": "gpt3"}},
        },
        r"data\.per_example is for in-context learning; method\.kind='linear-probe' is fitted to one training set",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_makes_no_sense_with_a_probe_is_refused(case: str) -> None:
    sections, message = REFUSED[case]
    method = {"kind": "linear-probe"} | sections.get("method", {})
    model = {"kind": "masked", "name": "x"} | sections.get("model", {})
    table = {"task": "SST-2", **sections, "method": method, "model": model}
    with pytest.raises(ConfigError, match=message):
        load_config(None, table=table)


def test_a_run_of_a_probe_has_its_facts_in_the_record(
    tiny_masked_folder: Path, tiny_original: Path, tmp_path: Path
) -> None:
    method = {"kind": "linear-probe", "standardise": True, "strengths": [0.01, 1.0]}
    record = run(tiny.config(tiny_masked_folder, tiny_original, tmp_path, method=method))
    assert record.status == "ok"
    assert record.facts["c"] in (0.01, 1.0)
    assert record.facts["features"] == 32
    assert 0 <= record.facts["cross_validated_accuracy"] <= 1
    assert record.facts["folds"] == 4
    assert record.passes is not None
    assert record.weights is not None
    assert record.weights.trained == 0
    assert (record.passes.forward_examples, record.passes.backward) == (8, 0)
    assert set(record.metrics) == {"dev", "test"}
