"""Every tuning on every architecture with gradients and without: a new tuning is tested here without writing a test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from shoestring.models.quiet import quiet
from shoestring.seeds import isolated
from shoestring.tuning.base import TUNINGS, count_trained
from shoestring.tuning.load import load_tuned
from shoestring.zeroth import MeZO
from shoestring.zeroth.optimizers.hizoo import HiZOO
from tuning.subjects import ARCHITECTURES, batch, closure, disturb, logits, losses, model_of, possible, trained, tuning

pytestmark = pytest.mark.usefixtures("frozen_imports")
SUBJECTS = [(architecture, None) for architecture in ARCHITECTURES] + [("roberta", "head"), ("llama", "head")]
CASES = [
    pytest.param(name, architecture, kind, id=f"{name}-{architecture}{'-head' if kind else ''}")
    for name in TUNINGS.names()
    for architecture, kind in SUBJECTS
    if possible(name, architecture)
]


def adam(model: Any) -> None:
    optimizer = torch.optim.Adam([param for param in model.parameters() if param.requires_grad], lr=1e-2)
    for _ in range(2):  # LoRA's A has no gradient until B has moved
        optimizer.zero_grad()
        losses(model, batch(model)).mean().backward()
        optimizer.step()


def mezo(model: Any) -> None:
    optimizer = MeZO(model.named_parameters(), lr=1e-2, eps=1e-2, seed=2, engine="fused")
    optimizer.step(closure(model))
    optimizer.finalize()


def hizoo(model: Any) -> None:
    optimizer = HiZOO(model.named_parameters(), lr=1e-2, eps=1e-2, seed=2, engine="fused")
    optimizer.step(closure(model))
    optimizer.finalize()


@pytest.mark.parametrize("train", [adam, mezo, hizoo])
@pytest.mark.parametrize(("name", "architecture", "kind"), CASES)
def test_only_chosen_weights_move(
    name: str, architecture: str, kind: str | None, train: Callable[[Any], None], caplog: pytest.LogCaptureFixture
) -> None:
    model = tuning(name).apply(model_of(architecture, kind), seed=3)
    chosen, start, before = trained(model).keys(), tiny.weights(model), logits(model)
    train(model)
    moved = {name for name, value in tiny.weights(model).items() if not torch.equal(value, start[name])}
    assert moved
    assert moved == chosen if train is not adam else moved <= chosen
    assert not torch.equal(logits(model), before)
    assert not [record for record in caplog.records if "never reads" not in record.message]


@pytest.mark.parametrize("name", TUNINGS.names())
def test_gradients_lead_down(name: str) -> None:
    model = tuning(name).apply(model_of("roberta"), seed=3)
    before = losses(model, batch(model)).mean()
    for _ in range(4):
        adam(model)
    assert losses(model, batch(model)).mean() < before


@pytest.mark.parametrize(("name", "architecture", "kind"), CASES)
def test_outputs_stay_where_that_is_claimed_and_counts_are_those_declared(
    name: str, architecture: str, kind: str | None
) -> None:
    model, settings = model_of(architecture, kind), tuning(name)
    model.requires_grad_(False)  # or attention might be computed in another order with gradients than without
    start, before = tiny.weights(model), logits(model)
    declared = settings.count(model)
    assert tiny.equal(tiny.weights(model), start)
    assert torch.equal(logits(model), before)
    tuned = settings.apply(model, seed=3)
    assert tuned is model
    assert not model.training
    assert count_trained(model) == declared > 0
    if settings.identity:
        assert torch.equal(logits(model), before)
    base = {name.replace(".base_layer.", "."): value for name, value in tiny.weights(model).items()}
    assert all(torch.equal(base[name], value) for name, value in start.items())


@pytest.mark.parametrize(("name", "architecture", "kind"), CASES)
def test_what_is_saved_is_loaded_onto_the_base_model(
    name: str, architecture: str, kind: str | None, tmp_path: Path
) -> None:
    settings = tuning(name)
    model = settings.apply(model_of(architecture, kind), seed=3)
    disturb(model)
    with quiet():
        settings.save(model, tmp_path)
    again = load_tuned(model_of(architecture, kind), tmp_path)
    assert trained(again) == trained(model)
    assert tiny.equal(tiny.weights(again), tiny.weights(model))
    assert torch.equal(logits(again), logits(model))
    size = sum(file.stat().st_size for file in tmp_path.iterdir())
    each = 8 if name == "apet" else 4  # single weights are kept with their positions
    assert size < each * count_trained(model) + 16_000  # config files, and the fingerprint


@pytest.mark.parametrize("name", TUNINGS.names())
def test_a_tuning_depends_on_its_seed_and_not_on_the_global_generators(name: str, global_random_states: None) -> None:
    def weights(global_seed: int) -> dict[str, torch.Tensor]:
        with isolated(global_seed):
            return tiny.weights(tuning(name).apply(model_of("roberta"), seed=5))

    assert tiny.equal(weights(1), weights(2))
    tuning(name).apply(model_of("roberta"), seed=5)


@pytest.mark.parametrize("name", ["adapter", "lora", "prefix", "prompt-tuning"])
def test_draws_follow_the_seed(name: str) -> None:
    one, other = (tiny.weights(tuning(name).apply(model_of("roberta"), seed=seed)) for seed in (1, 2))
    assert not tiny.equal(one, other)


@pytest.mark.parametrize("architecture", ["roberta", "llama", "gpt2", "t5"])
@pytest.mark.parametrize("name", TUNINGS.names())
def test_every_engine_makes_the_same_step(name: str, architecture: str, caplog: pytest.LogCaptureFixture) -> None:
    if not possible(name, architecture):
        pytest.skip("has no biases")

    def step(engine: str) -> tuple[dict[str, torch.Tensor], Any]:
        model = tuning(name).apply(model_of(architecture, dtype=torch.float64), seed=3)
        optimizer = MeZO(model.named_parameters(), lr=1e-2, eps=1e-3, seed=2, engine=engine)
        optimizer.step(closure(model))
        optimizer.finalize()
        return tiny.weights(model), optimizer.engine

    wanted, _ = step("replay")
    for engine in ("fused", "paired"):
        found, made = step(engine)
        assert made.instead is None
        for key, value in wanted.items():
            torch.testing.assert_close(found[key], value, rtol=0, atol=1e-9)
    # Both points of a batch at once, weights never written: nothing of a tuning's stands in the way.
    assert made.repeats
    assert not [record for record in caplog.records if "never reads" not in record.message]
