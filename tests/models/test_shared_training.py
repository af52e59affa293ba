"""Training on rows that hold each prompt once: gradients, slopes and steps are those of repeated prompts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import tiny
from shoestring.models.batch import Batch, collate
from shoestring.models.packing import IDS
from shoestring.models.prompted import PromptedModel
from shoestring.prompts.encoding import EncodedPrompt
from shoestring.training.objective import OBJECTIVES
from shoestring.zeroth import ForwardGradient, MeZO
from shoestring.zeroth.closures import PerExample
from shoestring.zeroth.engines.base import ENGINES
from shoestring.zeroth.engines.paired import PairedEngine

pytestmark = pytest.mark.usefixtures("frozen_imports")
SHARING = ("opt", "llama", "gpt2", "gemma", "qwen3", "mistral")
# The others normalise in single precision whatever their weights are.
EXACT = ("opt", "gpt2")
CANDIDATES = (((7, 8, 9), (7, 8), (6, 5)), ((12, 13), (14, 15)))
LOSSES = OBJECTIVES.get("cross-entropy")


def prompts() -> list[EncodedPrompt]:
    """Examples with candidates of their own, of different numbers and lengths; of some only the end is scored."""
    stream = torch.Generator().manual_seed(3)
    found = []
    for number, length in enumerate((9, 4, 12, 6)):
        ids = tuple(torch.randint(20, 400, (length,), generator=stream).tolist())
        scored = (1, 1) if number == 3 else ()
        options = CANDIDATES[number % 2]
        found.append(EncodedPrompt(f"train:{number}", ids, (0,) * length, length - 1, options, number % 2, 0, scored))
    return found


def batches(subject: PromptedModel) -> tuple[Batch, Batch]:
    """The same batch with rows that are shared, and with prompts to be repeated."""
    shared, repeated = subject.collate(prompts()), collate(prompts(), subject.pad_id)
    assert IDS in shared
    assert IDS not in repeated
    return shared, repeated


@pytest.mark.parametrize("architecture", [*SHARING, "gemma2"])
def test_gradients_are_those_of_repeated_prompts(architecture: str) -> None:
    subject = tiny.prompted(architecture, "causal", dtype=torch.float64)
    found: list[dict[str, Tensor | None]] = []
    for batch in batches(subject):
        subject.model.zero_grad()
        LOSSES.loss(subject, batch).backward()
        found.append({name: param.grad for name, param in subject.model.named_parameters()})
    for name, grad in found[0].items():
        tolerance = 1e-12 if architecture in EXACT else 1e-6
        torch.testing.assert_close(grad, found[1][name], rtol=tolerance, atol=tolerance, msg=name)


@contextmanager
def kept(subject: PromptedModel) -> Iterator[None]:
    before = tiny.weights(subject.model)
    yield
    for name, param in subject.model.named_parameters():
        param.data.copy_(before[name])


def losses(subject: PromptedModel) -> Callable[[Batch], Tensor]:
    return lambda batch: LOSSES.losses(subject, batch)


def steps(subject: PromptedModel, batch: Batch, engine: Any) -> tuple[list[float], MeZO]:
    grads = []
    with kept(subject):
        optimizer = MeZO(subject.model.named_parameters(), lr=1e-3, eps=1e-3, seed=1, engine=engine, samples=2)
        for _ in range(2):
            optimizer.step(PerExample(losses(subject), [batch]))
            grads += optimizer.last_projected_grads
        optimizer.finalize()
    return grads, optimizer


@pytest.mark.parametrize("architecture", SHARING)
def test_every_engine_makes_the_steps_of_repeated_prompts(architecture: str) -> None:
    subject = tiny.prompted(architecture, "causal", dtype=torch.float64)
    shared, repeated = batches(subject)
    wanted, _ = steps(subject, repeated, "replay")
    others = (*ENGINES.names(), {"kind": "paired", "small": 0, "tile": 100, "max_rows": 3, "defer": True})
    for engine in others if architecture in ("opt", "llama") else ("paired",):
        found, optimizer = steps(subject, shared, engine)
        tolerance = 1e-8 if architecture in EXACT else 1e-4
        assert found == pytest.approx(wanted, rel=tolerance, abs=tolerance), engine
        if isinstance(optimizer.engine, PairedEngine):
            assert optimizer.engine.repeats


def test_the_paired_engine_repeats_prompts_too_where_rows_are_not_shared() -> None:
    subject = tiny.prompted("opt", "causal", dtype=torch.float64)
    _, repeated = batches(subject)
    wanted, _ = steps(subject, repeated, "replay")
    found, optimizer = steps(subject, repeated, "paired")
    assert found == pytest.approx(wanted, rel=1e-8, abs=1e-8)
    assert isinstance(optimizer.engine, PairedEngine)
    assert optimizer.engine.repeats


def test_forward_gradients_are_taken_through_shared_rows() -> None:
    subject = tiny.prompted("opt", "causal", dtype=torch.float64)
    slopes = []
    for batch in batches(subject):
        with kept(subject):
            optimizer = ForwardGradient(subject.model.named_parameters(), lr=1e-3, seed=1)
            optimizer.step(lambda batch=batch: LOSSES.loss(subject, batch))
            slopes.append(optimizer.last_projected_grads)
    assert slopes[0] == pytest.approx(slopes[1], rel=1e-9)


def test_the_comparison_is_made_once_and_leaves_modes_gradients_and_counts_alone() -> None:
    subject = tiny.prompted("opt", "causal", dtype=torch.float64, dropout=0.5)
    subject.model.train()
    calls: list[int] = []
    subject.model.register_forward_pre_hook(lambda *_: calls.append(subject.model.training))
    subject.collate(prompts())
    assert calls == [False, False]
    subject.collate(prompts())
    assert calls == [False, False]
    assert subject.model.training
    assert all(param.grad is None for param in subject.model.parameters())
    assert subject.passes.forward == 0


def test_with_one_candidate_or_candidates_of_one_token_nothing_is_shared() -> None:
    subject = tiny.prompted("opt", "causal")
    one_token = [replace(one, options=((7,), (9,)), scored=()) for one in prompts()]
    one_candidate = [replace(one, options=((7, 9),), scored=(), label=0) for one in prompts()]
    for these in (one_token, one_candidate):
        assert IDS not in subject.collate(these)
    assert subject.sharing.found == {}


def test_what_is_taught_is_what_shared_rows_hold() -> None:
    subject = tiny.prompted("opt", "causal")
    first, *others = prompts()
    batch = subject.collate([replace(others[0], taught=first), *others])
    assert batch[IDS][0, :9].tolist() == list(first.ids)


@pytest.mark.parametrize("kind", ["masked", "head"])
def test_other_families_of_models_share_nothing(kind: str) -> None:
    subject = tiny.prompted("roberta", kind)
    assert IDS not in subject.collate(tiny.encoded(subject, 3))
    assert not subject.may_share("anything")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_half_precision_scores_of_shared_rows_are_float32_and_near(dtype: torch.dtype) -> None:
    subject = tiny.prompted("llama", "causal", dtype=dtype)
    shared, repeated = batches(subject)
    with torch.no_grad():
        found, wanted = subject.scores(shared), subject.scores(repeated)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wanted, rtol=3e-2, atol=3e-2)


def test_only_outputs_that_are_read_meet_the_output_embedding() -> None:
    subject = tiny.prompted("opt", "causal")
    shared, _ = batches(subject)
    seen: list[tuple[int, ...]] = []
    subject.model.lm_head.register_forward_hook(lambda *made: seen.append(tuple(made[-1].shape)))
    subject.scores(shared)
    assert seen == [(4, 4, 400)]
