"""What every method owes its caller, for every family of models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from shoestring.methods.base import METHODS, Given
from shoestring.methods.zeroth import ZerothMethod
from shoestring.models.prompted import PromptedModel
from shoestring.progress import Silent
from shoestring.tuning.base import TUNINGS
from tuning.subjects import tuning as settings_of

pytestmark = pytest.mark.usefixtures("frozen_imports")
FAMILIES = {"masked": "roberta", "causal": "llama", "head": "roberta"}
# Zeroth-order methods are one and the same but for the optimizer, which has a contract of its own.
ALIKE = {name for name, method in METHODS.items() if issubclass(method, ZerothMethod)} - {"mezo"}
CASES = [(name, kind) for name in METHODS.names() for kind in FAMILIES if kind == "masked" or name not in ALIKE]
TRAINED = [
    (name, tuning)
    for name, method in METHODS.items()
    for tuning in TUNINGS.names()
    if method.trains and (tuning == "lora" or name not in ALIKE)
]


def traces(model: torch.nn.Module) -> dict[str, Any]:
    """Return everything about a model that a method must leave as it was, except the values of its weights."""
    found: dict[str, Any] = {}
    for name, module in model.named_modules():
        skipped = {"_parameters", "_buffers", "_modules"}
        found |= {f"{name}.{key}": repr(value) for key, value in vars(module).items() if key not in skipped}
    found["requires_grad"] = {name: param.requires_grad for name, param in model.named_parameters()}
    found["grads"] = [name for name, param in model.named_parameters() if param.grad is not None]
    return found


def fit(subject: PromptedModel, name: str, folder: Path) -> Any:
    prompts, dev = tiny.encoded(subject, 8), tiny.encoded(subject, 8, seed=6)
    return tiny.short(name).fit(
        Given(subject, prompts, dev, 13, folder, lambda line: None, Silent(), tiny.Unmeasured(), 32)
    )


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_a_method_leaves_nothing_on_the_model_but_its_weights(name: str, kind: str, tmp_path: Path) -> None:
    subject = tiny.prompted(FAMILIES[kind], kind)
    tiny.save(subject.model, tiny.bpe_tokenizer(), tmp_path)  # notes class and dtype in the config, as loading does
    before, start = traces(subject.model), tiny.weights(subject.model)
    outcome = fit(subject, name, tmp_path)
    assert traces(subject.model) == before
    assert METHODS.get(name).trains == (not tiny.equal(tiny.weights(subject.model), start))
    prompts = tiny.encoded(subject, 5)
    scores = outcome.predictor.predict(prompts, 2)
    assert scores.shape == (5, 2)
    assert bool(torch.isfinite(scores).all())
    assert outcome.seconds >= 0


@pytest.mark.parametrize("name", METHODS.names())
def test_a_method_declares_whether_it_passes_backward(name: str, tmp_path: Path) -> None:
    subject = tiny.prompted("roberta", "masked")
    fit(subject, name, tmp_path)
    assert (subject.passes.backward > 0) == METHODS.get(name).needs_backward


@pytest.mark.parametrize(("name", "tuning"), TRAINED)
def test_a_method_moves_only_the_weights_its_tuning_trains(name: str, tuning: str, tmp_path: Path) -> None:
    subject = tiny.prompted("roberta", "masked")
    settings_of(tuning).apply(subject.model, 3)
    trained = {name for name, param in subject.model.named_parameters() if param.requires_grad}
    start = tiny.weights(subject.model)
    fit(subject, name, tmp_path)
    end = tiny.weights(subject.model)
    moved = {name for name, value in end.items() if not torch.equal(value, start[name])}
    assert moved
    assert moved <= trained
    assert {name for name, param in subject.model.named_parameters() if param.requires_grad} == trained
