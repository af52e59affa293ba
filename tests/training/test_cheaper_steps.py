"""Gradient checkpointing, mixed precision and signs of gradients against plain loops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from shoestring.errors import ConfigError, ModelError
from shoestring.methods.base import METHODS, Given
from shoestring.models.prompted import PromptedModel
from shoestring.progress import Silent
from shoestring.runs.config import load_config
from shoestring.training.fit import train
from shoestring.training.signgd import SignDescent
from shoestring.tuning.catalog.lora import LoRA
from training.conftest import Seen

pytestmark = pytest.mark.usefixtures("frozen_imports", "global_random_states")
SHORT: dict[str, Any] = {"steps": 3, "batch_size": 4, "eval_every": 1, "select": "last", "schedule": "constant"}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
FAMILIES = {"masked": "roberta", "causal": "llama", "seq2seq": "t5"}


def subject_of(kind: str, dtype: torch.dtype = torch.float64, architecture: str | None = None) -> PromptedModel:
    changes: dict[str, Any] = NO_DROPOUT if kind == "masked" else {"dropout_rate": 0.0} if kind == "seq2seq" else {}
    return tiny.prompted(architecture or FAMILIES[kind], kind, dtype=dtype, **changes)


def fit(subject: PromptedModel, folder: Path, kind: str = "adam", **changes: Any) -> dict[str, torch.Tensor]:
    method = METHODS.get(kind)(**{"lr": 1e-2, **SHORT, **changes})
    prompts, dev = tiny.encoded(subject, 8), tiny.encoded(subject, 8, seed=6)
    method.fit(Given(subject, prompts, dev, 13, folder, lambda line: None, Silent(), tiny.Unmeasured(), 32))
    return tiny.weights(subject.model)


@pytest.mark.parametrize("tuning", ["full", "lora"])
@pytest.mark.parametrize("kind", FAMILIES)
def test_checkpointed_steps_are_the_steps(kind: str, tuning: str, tmp_path: Path) -> None:
    found = []
    passes = []
    for name, checkpointing in (("plain", False), ("checkpointed", True)):
        subject, calls = subject_of(kind), [0]
        if tuning == "lora":
            LoRA(r=2).apply(subject.model, seed=0)
        inner = next(module for module in subject.model.modules() if isinstance(module, torch.nn.Linear))

        def count(*_: Any, calls: list[int] = calls) -> None:
            calls[0] += 1

        inner.register_forward_pre_hook(count)
        found.append(fit(subject, tmp_path / name, gradient_checkpointing=checkpointing))
        passes.append(calls[0])
        assert not any(getattr(module, "gradient_checkpointing", False) for module in subject.model.modules())
    assert found[0].keys() == found[1].keys()
    for name, value in found[0].items():
        # T5's decoder reads one token: a query of its has gradients of rounding alone, by which Adam divides.
        alone = kind == "seq2seq" and "decoder" in name and ".SelfAttention.q." in name
        torch.testing.assert_close(found[1][name], value, atol=1e-8 if alone else 1e-12, rtol=1e-12)
    assert passes[1] == passes[0] + 3  # what is inside a layer is computed again in each of three steps


def test_mixed_steps_are_those_of_a_loop_under_autocast(tmp_path: Path, seen: list[Seen]) -> None:
    subject, twin = subject_of("masked", torch.float32), subject_of("masked", torch.float32)
    found = fit(subject, tmp_path, "sgd", mixed_precision="bfloat16", max_grad_norm=0.0, lr=0.1)
    prompts, parameters = tiny.encoded(twin, 8), list(twin.model.parameters())
    start = tiny.weights(twin.model)
    twin.model.train()
    for step in seen:
        with torch.autocast("cpu", torch.bfloat16):
            logits = twin.scores(twin.collate([prompts[index] for index in step.indices]))
        labels = torch.tensor([prompts[index].label for index in step.indices])
        grads = torch.autograd.grad(torch.nn.functional.cross_entropy(logits.float(), labels), parameters)
        for param, grad in zip(parameters, grads, strict=True):
            param.data -= 0.1 * grad
    end = tiny.weights(twin.model)
    moved = max(float((end[name] - start[name]).abs().max()) for name in end)
    assert moved > 0.01
    for name, value in end.items():
        assert found[name].dtype == torch.float32
        torch.testing.assert_close(found[name], value, atol=1e-2 * moved, rtol=0)
    exact = fit(subject_of("masked", torch.float32), tmp_path / "exact", "sgd", max_grad_norm=0.0, lr=0.1)
    assert not tiny.equal(found, exact)


def test_dev_is_predicted_in_the_weights_own_precision_and_nothing_is_left_on_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject, lines = subject_of("masked", torch.float32), list[dict[str, Any]]()
    dev = tiny.encoded(subject, 8, seed=6)
    method = METHODS.get("sgd")(**SHORT | {"lr": 0.1, "steps": 1}, mixed_precision="bfloat16")
    prompts = tiny.encoded(subject, 8)
    given = Given(subject, prompts, dev, 13, tmp_path, lines.append, Silent(), tiny.Unmeasured(), 32)
    scores = method.fit(given).predictor.predict(dev, 32)
    loss = torch.nn.functional.cross_entropy(scores, torch.tensor([prompt.label for prompt in dev]))
    assert [line["eval_loss"] for line in lines if "eval_loss" in line] == [pytest.approx(float(loss), rel=1e-6)]
    assert not {"forward", "_original_forward"} & vars(subject.model).keys()


def test_what_the_model_or_the_machine_cannot_do_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"mixed_precision='float16' needs a CUDA device, .* on cpu; use 'bfloat16'"):
        fit(subject_of("masked", torch.float32), tmp_path, mixed_precision="float16")
    subject = subject_of("masked")
    subject.model.supports_gradient_checkpointing = False
    with pytest.raises(ModelError, match=r"gradient_checkpointing: RobertaForMaskedLM has no such thing"):
        fit(subject, tmp_path, gradient_checkpointing=True)
    table = {"task": "SST-2", "model": {"kind": "masked", "name": "roberta", "dtype": "bfloat16"}}
    with pytest.raises(ConfigError, match=r"mixed_precision='bfloat16' is for weights of float32"):
        load_config(None, table={**table, "method": {"kind": "adam", "mixed_precision": "bfloat16"}})


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_steps_of_signgd_are_those_of_a_plain_loop(
    momentum: float, decay: float, tmp_path: Path, seen: list[Seen]
) -> None:
    subject, twin = subject_of("masked"), subject_of("masked")
    settings = METHODS.get("signgd")(**SHORT | {"lr": 1e-3, "steps": 5}, momentum=momentum, weight_decay=decay)
    train(tiny.job(subject, tmp_path, settings), log=lambda line: None)
    prompts = tiny.encoded(twin, 16)
    means = {name: torch.zeros_like(param) for name, param in twin.model.named_parameters()}
    assert len(seen) == 5
    for step in seen:
        assert tiny.equal(step.weights, tiny.weights(twin.model))
        twin.model.zero_grad()
        scores = twin.scores(twin.collate([prompts[index] for index in step.indices]))
        labels = torch.tensor([prompts[index].label for index in step.indices])
        torch.nn.functional.cross_entropy(scores, labels).backward()
        grads = {name: param.grad for name, param in twin.model.named_parameters() if param.grad is not None}
        norm = torch.stack([grad.norm() for grad in grads.values()]).norm()
        assert len(grads) == len(means)
        for name, param in twin.model.named_parameters():
            grad = grads[name] * min(1.0, 1.0 / (float(norm) + 1e-6))
            means[name] = momentum * means[name] + (1 - momentum) * grad if momentum else grad
            shrunk = param.data * (1 - 1e-3 * decay) if param.ndim > 1 else param.data
            param.data = shrunk - 1e-3 * torch.sign(means[name])


def test_the_optimizer_takes_a_closure_and_leaves_weights_without_gradients() -> None:
    weight, other = (torch.nn.Parameter(torch.tensor([1.0, -2.0, 0.0])) for _ in range(2))
    optimizer = SignDescent([weight, other], lr=0.5)

    def closure() -> Any:
        optimizer.zero_grad()
        loss = (weight**2).sum()
        loss.backward()
        return loss.detach()

    assert optimizer.step(closure) == pytest.approx(5.0)
    assert weight.tolist() == [0.5, -1.5, 0.0]
    assert other.tolist() == [1.0, -2.0, 0.0]
