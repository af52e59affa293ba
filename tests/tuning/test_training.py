"""Tunings in the Trainer's loop: checkpoints hold what is trained, whatever the precision of the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from shoestring.methods.catalog.adam import Adam
from shoestring.methods.catalog.mezo import MeZO
from shoestring.training.fit import train
from shoestring.tuning.base import TUNINGS
from tuning.subjects import batch, logits, losses, model_of, possible, tuning

pytestmark = pytest.mark.usefixtures("frozen_imports")
SHORT: dict[str, Any] = {"steps": 4, "eval_every": 2, "batch_size": 4, "lr": 1e-2}
SUBJECTS = {
    "untied": ("roberta", "masked", tuning("full", embeddings="untied")),
    "drawn anew": ("roberta", "masked", tuning("bitfit", reinit=r"layer\.1\.")),
    "biases added": ("llama", "causal", tuning("bitfit", add=True)),
    "prefix": ("llama", "causal", tuning("prefix")),
    "prefix of T5": ("t5", "seq2seq", tuning("prefix", reparametrise=True, hidden=8)),
    "prompt": ("roberta", "masked", tuning("prompt-tuning")),
    "prompt of a classifier": ("bert", "head", tuning("prompt-tuning")),
    "parallel adapters": ("gpt2", "causal", tuning("adapter", style="parallel")),
    "dora": ("opt", "causal", tuning("lora", dora=True, also="norm")),
}


@pytest.mark.parametrize("method", [Adam(**SHORT), MeZO(**SHORT, eps=1e-2)], ids=["adam", "mezo"])
@pytest.mark.parametrize("case", SUBJECTS)
def test_a_training_that_was_over_is_taken_up_from_its_checkpoint(case: str, method: Any, tmp_path: Path) -> None:
    architecture, kind, settings = SUBJECTS[case]

    def fitted() -> tuple[Any, dict[str, torch.Tensor], torch.Tensor]:
        subject = tiny.prompted(architecture, kind)
        settings.apply(subject.model, seed=3)
        train(tiny.job(subject, tmp_path, method), log=lambda line: None)
        return subject, tiny.weights(subject.model), subject.predict(tiny.encoded(subject, 6), 6)

    first, wanted, scores = fitted()
    assert first.passes.forward > 0
    again, found, same = fitted()
    assert again.passes == first.passes
    assert tiny.equal(found, wanted)
    assert torch.equal(same, scores)
    untrained = tiny.prompted(architecture, kind)
    settings.apply(untrained.model, seed=3)
    assert not tiny.equal(tiny.weights(untrained.model), wanted)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("architecture", ["roberta", "llama", "t5"])
@pytest.mark.parametrize("name", TUNINGS.names())
def test_tunings_work_in_half_precision(name: str, architecture: str, dtype: torch.dtype) -> None:
    if not possible(name, architecture):
        pytest.skip("has no biases")
    model, full = model_of(architecture, dtype=dtype), model_of(architecture)
    tuning(name).apply(model, seed=3)
    tuning(name).apply(full, seed=3)
    alike = torch.corrcoef(torch.stack([logits(model).float().flatten(), logits(full).flatten()]))
    assert alike[0, 1] > 0.99
    losses(model, batch(model)).sum().backward()
    assert any(param.grad is not None and param.grad.isfinite().all() for param in model.parameters())
