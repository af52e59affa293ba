"""Predictions that compute what inputs share once: the scores of one candidate at a time, in fewer tokens."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

import tiny
from reference import scoring_twin
from shoestring.errors import ModelError
from shoestring.models import prediction
from shoestring.models.budget import DEFAULTS, Budget, out_of_memory
from shoestring.models.prompted import PromptedModel, predictions
from shoestring.models.sharing import CACHED, ROWS, Sharing, refusal, window_of
from shoestring.prompts.encoding import EncodedPrompt
from shoestring.prompts.settings import PromptSettings

pytestmark = pytest.mark.usefixtures("frozen_imports")
SHARING = ("opt", "llama", "gpt2", "gemma", "qwen3", "mistral")
ONE, LONG = ((7,), (9,), (11,)), ((7, 8, 9), (7, 8), (6,), (12, 13, 14, 15))
PARTED = ((30, 31, 7), (32, 8, 9))


def draw(count: int, seed: int) -> tuple[int, ...]:
    return tuple(torch.randint(40, 400, (count,), generator=torch.Generator().manual_seed(seed)).tolist())


def prompt(number: int, ids: tuple[int, ...], options: tuple[tuple[int, ...], ...] = ONE, **more: Any) -> EncodedPrompt:
    return EncodedPrompt(f"test:{number}", ids, (0,) * len(ids), len(ids) - 1, options, 0, 0, **more)


def _common(options: tuple[tuple[int, ...], ...]) -> list[EncodedPrompt]:
    """The same demonstrations for all; some questions are equal."""
    demos = draw(22, 1)
    return [prompt(n, (*demos, *draw(1 + n % 5, 2 + n % 9), 5), options) for n in range(14)]


def _own(options: tuple[tuple[int, ...], ...]) -> list[EncodedPrompt]:
    return [prompt(n, draw(6 + 2 * (n % 5), n), options) for n in range(8)]


def _passages(options: tuple[tuple[int, ...], ...]) -> list[EncodedPrompt]:
    """Demonstrations, passages of several questions each, and questions with candidates of their own."""
    demos = draw(18, 1)
    found = []
    for passage in range(3):
        text = (*demos, *draw(18, 50 + passage))
        found += [prompt(n, (*text, *draw(2, 60 + n)), options if n % 2 else ((8, 9), (4,))) for n in range(6)]
    return found


SETS = {"common": _common, "own": _own, "passages": _passages}


def subject_of(architecture: str, dtype: torch.dtype = torch.float64, tokens: int | None = None, **changes: Any):
    """A model, with a budget of few tokens where beginnings are to be kept rather than packed."""
    if architecture == "mistral":
        changes = {"sliding_window": 60} | changes
    return replace(tiny.prompted(architecture, "causal", dtype=dtype, **changes), budget=Budget(tokens))


@dataclass
class Looked:
    """Tokens of every forward pass, and what they stood behind."""

    tokens: list[int]
    behind: list[int]

    @classmethod
    def at(cls, model: Any) -> Looked:
        found = cls([], [])

        def note(_: Any, args: Any, kwargs: Any) -> None:
            cache = kwargs.get("past_key_values")
            found.tokens.append(kwargs["input_ids"].numel())
            found.behind.append(0 if cache is None else cache.get_seq_length())

        model.register_forward_pre_hook(note, with_kwargs=True)
        return found


MANNERS = {"packed": (LONG, None), "kept": (LONG, 40), "packed, one token": (ONE, None), "kept, one token": (ONE, 40)}
CASES = [("opt", manner) for manner in MANNERS] + [(name, manner) for name in SHARING[1:] for manner in [*MANNERS][1:3]]


@pytest.mark.parametrize("which", SETS)
@pytest.mark.parametrize(("architecture", "manner"), CASES)
def test_scores_are_those_of_one_candidate_at_a_time(architecture: str, which: str, manner: str) -> None:
    options, tokens = MANNERS[manner]
    subject, prompts = subject_of(architecture, tokens=tokens), SETS[which](options)
    found = subject.predict(prompts, batch_size=64)
    wanted = scoring_twin.causal_scores(subject.model, prompts)
    for row, own in zip(found, wanted, strict=True):
        torch.testing.assert_close(row[: len(own)], torch.tensor(own, dtype=torch.float64), rtol=0, atol=1e-12)
        assert (row[len(own) :] == -torch.inf).all()
    tried = set() if which == "own" and options == ONE else {ROWS, CACHED}
    assert {way for way, exact in subject.sharing.found.items() if exact} <= tried
    assert all(subject.sharing.found.values())
    if tried and which != "own":
        assert (CACHED if tokens else ROWS) in subject.sharing.found


@pytest.mark.parametrize("architecture", [*SHARING, "gemma2"])
def test_in_single_precision_they_are_so_to_five_digits(architecture: str) -> None:
    for tokens in (None, 40):
        subject, prompts = subject_of(architecture, torch.float32, tokens), _passages(LONG)
        found = subject.predict(prompts, batch_size=64)
        for row, own in zip(found, scoring_twin.causal_scores(subject.model, prompts), strict=True):
            torch.testing.assert_close(row[: len(own)], torch.tensor(own), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_every_attention_that_models_are_loaded_with_takes_the_masks(attention: str) -> None:
    subject, prompts = subject_of("llama"), _passages(LONG)
    subject.model.set_attn_implementation(attention)
    wanted = scoring_twin.causal_scores(subject.model, prompts)
    found = subject.predict(prompts, batch_size=64)
    torch.testing.assert_close(found[1], torch.tensor(wanted[1], dtype=torch.float64))
    assert subject.sharing.found == {ROWS: True}


@pytest.mark.parametrize("score", ["mean", "sum"])
@pytest.mark.parametrize("tokens", [None, 30])
def test_only_scored_tokens_count_in_sums_and_means(score: str, tokens: int | None) -> None:
    settings = PromptSettings.model_validate({"score": score})
    subject = replace(subject_of("opt", tokens=tokens), settings=settings)
    prompts = [replace(one, scored=(1, 2)) for one in _common(PARTED)]
    found = subject.predict(prompts, batch_size=64)
    assert all(subject.sharing.found.values())
    for row, one in zip(found, prompts, strict=True):
        parts = [
            scoring_twin.answer_log_probs(subject.model, one, option)[-count:]
            for option, count in zip(PARTED, (1, 2), strict=True)
        ]
        wanted = [sum(part) / (len(part) if score == "mean" else 1) for part in parts]
        torch.testing.assert_close(row, torch.tensor(wanted, dtype=torch.float64))


def test_demonstrations_common_to_all_are_computed_once() -> None:
    subject, demos = subject_of("opt", tokens=60), draw(40, 1)
    prompts = [prompt(n, (*demos, 200 + n, 5, 6, 7)) for n in range(30)]
    subject.predict(prompts, 64)  # Finds out what the model does.
    seen = Looked.at(subject.model)
    subject.predict(prompts, 64)
    assert seen.tokens[0] == 40
    assert set(seen.behind) == {0, 40}
    assert sum(seen.tokens) == 40 + 30 * 4
    assert subject.passes.forward_examples == 2 * 30


def test_a_passage_and_its_questions_are_one_row() -> None:
    subject = subject_of("llama")
    prompts = _passages(LONG)
    subject.predict(prompts, 64)
    seen = Looked.at(subject.model)
    subject.predict(prompts, 64)
    nodes = {(*one.ids, *option[:-1])[:end] for one in prompts for option in one.options for end in range(1, 50)}
    assert len(seen.tokens) == 1
    assert sum(seen.tokens) == len(nodes)


def test_inputs_that_are_the_same_are_scored_once_and_counted_in_the_bar_each() -> None:
    subject = subject_of("opt", max_position_embeddings=66)
    nothing = prompt(99, draw(4, 4))
    prompts = [replace(prompt(n, draw(9, n % 3)), calibrations=(nothing,)) for n in range(9)]
    subject = replace(subject, settings=PromptSettings(calibration="contextual"))
    done: list[int] = []

    class Bar:
        def advance(self, steps: int = 1) -> None:
            done.append(steps)

        def note(self, text: str) -> None:
            raise AssertionError(text)

    found = subject.predict(prompts, 64, Bar())
    assert subject.passes.forward_examples == 4
    assert sum(done) == 18
    assert len({tuple(row) for row in found.tolist()}) == 3


def test_scores_are_told_as_soon_as_they_are_complete_each_once() -> None:
    subject = replace(subject_of("opt", tokens=20), settings=PromptSettings(calibration="surface-form"))
    prompts = [replace(one, calibrations=(prompt(99, draw(4, 4)),)) for one in _own(ONE)]
    told: dict[int, torch.Tensor] = {}
    passes: list[int] = []

    def on_scores(number: int, row: torch.Tensor) -> None:
        assert number not in told
        told[number] = row
        passes.append(subject.passes.forward)

    found = subject.predict(prompts, 64, on_scores=on_scores)
    assert sorted(told) == list(range(8))
    for number, row in told.items():
        assert torch.equal(row, found[number])
    assert passes[0] < subject.passes.forward


def test_prompts_that_are_asked_in_several_ways_are_finished_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction, "_BLOCK", 2)
    subject = subject_of("opt")
    prompts = [replace(one, variants=(prompt(99, draw(4, number)),)) for number, one in enumerate(_own(ONE))]
    told: list[int] = []
    found = subject.predict(prompts, 64, on_scores=lambda number, row: told.append(number))
    assert [{*told[start : start + 2]} for start in range(0, 8, 2)] == [{0, 1}, {2, 3}, {4, 5}, {6, 7}]
    for row, one in zip(found, prompts, strict=True):
        wanted = torch.tensor(scoring_twin.causal_scores(subject.model, [one, *one.variants]), dtype=torch.float64)
        torch.testing.assert_close(row, wanted.mean(0))


def test_of_poles_asked_in_several_ways_the_value_is_averaged() -> None:
    task = tiny.task_of(**tiny.REGRESSION)
    subject = replace(subject_of("opt"), task=task)
    prompts = [
        replace(one, variants=(prompt(99, draw(4, number), ONE[:2]),)) for number, one in enumerate(_own(ONE[:2]))
    ]
    values = predictions(task, subject.predict(prompts, 64))
    for value, one in zip(values, prompts, strict=True):
        ways = predictions(task, torch.tensor(scoring_twin.causal_scores(subject.model, [one, *one.variants])))
        torch.testing.assert_close(value, ways.double().mean(), rtol=1e-6, atol=1e-6)


def test_no_prompts_have_no_scores() -> None:
    assert subject_of("opt").predict([], 4).shape == (0, 0)


def test_passes_hold_no_more_tokens_than_they_may() -> None:
    for which, options in (("common", LONG), ("own", ONE), ("passages", LONG)):
        subject = subject_of("opt", tokens=64)
        seen = Looked.at(subject.model)
        subject.predict(SETS[which](options), 64)
        assert max(seen.tokens) <= 64


def test_the_budget_of_a_device_is_only_asked_for_when_there_is_something_to_predict() -> None:
    subject = subject_of("opt")
    subject.predict(_own(ONE), 64)
    assert subject.budget.tokens == DEFAULTS["cpu"]


class Small:
    """Makes a model raise as an allocator does, above a number of tokens."""

    def __init__(self, model: Any, most: int, error: Exception) -> None:
        self.tried: list[int] = []

        def refuse(_: Any, args: Any, kwargs: Any) -> None:
            self.tried.append(kwargs["input_ids"].numel())
            if self.tried[-1] > most:
                raise error

        model.register_forward_pre_hook(refuse, with_kwargs=True)


ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory: you tried ..."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] data. DefaultCPUAllocator: not enough memory: you tried ..."),
    MemoryError(),
]


@pytest.mark.parametrize("error", ERRORS, ids=["cuda", "linux", "windows", "python"])
@pytest.mark.parametrize("which", SETS)
def test_passes_are_halved_until_memory_suffices_and_nothing_is_scored_twice(
    which: str, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    subject, prompts = subject_of("opt", tokens=400), SETS[which](ONE)
    wanted = subject.predict(prompts, 64)
    told: list[int] = []
    most = 30 if which == "own" else 48
    small = Small(subject.model, most, error)
    with caplog.at_level(logging.WARNING):
        found = subject.predict(prompts, 64, on_scores=lambda number, row: told.append(number))
    torch.testing.assert_close(found, wanted)
    assert sorted(told) == list(range(len(prompts)))
    halvings = [record.message for record in caplog.records if "memory ran out" in record.message]
    assert 1 <= len(halvings) <= 4
    assert f"output.eval_tokens={subject.budget.tokens}" in halvings[-1]
    before = len(small.tried)
    subject.predict(prompts, 64)
    assert max(small.tried[before:]) <= most


def test_where_memory_does_not_suffice_for_one_input_that_is_said() -> None:
    subject = subject_of("opt")
    Small(subject.model, 9, torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(ModelError, match=r"not suffice for a single input of \d+ tokens \(test:4\); a smaller prompt"):
        subject.predict(_own(ONE), 64)


def test_where_it_does_not_suffice_for_one_token_that_is_kept_that_is_said_too() -> None:
    subject = subject_of("opt", tokens=40)
    subject.predict(_common(ONE), 64)
    Small(subject.model, 0, torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(ModelError, match="memory does not suffice"):
        subject.predict(_common(ONE), 64)


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    assert not out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not out_of_memory(ValueError("not enough memory"))
    subject = subject_of("opt")
    Small(subject.model, 0, RuntimeError("shapes differ"))
    with pytest.raises(RuntimeError, match="shapes differ"):
        subject.predict(_own(ONE), 64)


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records]


def check(subject: PromptedModel, prompts: Sequence[EncodedPrompt]) -> None:
    found = subject.predict(prompts, 64)
    for row, own in zip(found, scoring_twin.causal_scores(subject.model, prompts), strict=True):
        torch.testing.assert_close(row[: len(own)], torch.tensor(own, dtype=torch.float64))


def test_a_model_without_positions_is_scored_without_sharing_and_that_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    subject = subject_of("bloom")
    for which in SETS.values():
        check(subject, which(LONG))
    assert "tree_ids" not in subject.collate(_own(LONG))
    assert len(messages(caplog)) == 1
    assert "BloomForCausalLM does not compute several continuations in one row as it does one alone" in caplog.text
    assert "(it takes no positions)" in caplog.text


def test_inputs_longer_than_a_window_are_scored_without_sharing_and_that_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    subject = subject_of("mistral", sliding_window=24)
    assert window_of(subject.model) == 24
    for which in SETS.values():
        check(subject, which(LONG))
    assert len(messages(caplog)) == 1
    assert "MistralForCausalLM looks back 24 tokens and inputs have up to 31" in caplog.text
    assert subject.sharing.found.get(CACHED) is None
    mixed = [prompt(n, (*draw(12, 1), *draw(2, n)), LONG) for n in range(4)] + [prompt(9, draw(30, 9), LONG)]
    check(subject, mixed)
    assert subject.sharing.found == {ROWS: True}
    assert "tree_ids" in subject.collate([prompt(0, draw(21, 0), LONG)])
    assert "tree_ids" not in subject.collate([prompt(0, draw(22, 0), LONG)])


@pytest.mark.parametrize("only_cached", [True, False])
def test_a_model_that_does_otherwise_with_masks_is_found_out_at_its_first_batch(
    only_cached: bool, caplog: pytest.LogCaptureFixture
) -> None:
    subject = subject_of("opt", tokens=40)

    def leak(_: Any, args: Any, kwargs: Any) -> Any:
        mask, cached = kwargs.get("attention_mask"), kwargs.get("past_key_values") is not None
        if mask is not None and mask.ndim == 4 and (cached or not only_cached):
            kwargs["attention_mask"] = torch.zeros_like(mask)
        return args, kwargs

    subject.model.register_forward_pre_hook(leak, with_kwargs=True)
    check(subject, _common(LONG))
    assert subject.sharing.found[CACHED if only_cached else ROWS] is False
    assert caplog.text.count("scores differ by a share of") == len(messages(caplog)) >= 1
    before = len(messages(caplog))
    check(subject, _passages(LONG))
    assert len(messages(caplog)) <= before + 1
    assert ("tree_ids" in subject.collate(_own(LONG))) == only_cached


def test_a_model_that_fails_with_a_cache_is_scored_without_one(caplog: pytest.LogCaptureFixture) -> None:
    subject = subject_of("opt", tokens=40)

    def refuse(_: Any, args: Any, kwargs: Any) -> None:
        if kwargs.get("past_key_values") is not None:
            raise ValueError("no caches here")

    subject.model.register_forward_pre_hook(refuse, with_kwargs=True)
    check(subject, _common(ONE))
    assert "(ValueError: no caches here)" in caplog.text
    assert subject.sharing.found[CACHED] is False


def test_nothing_is_found_out_from_scores_that_are_not_finite() -> None:
    subject = subject_of("opt", tokens=40)
    with torch.no_grad():
        subject.model.lm_head.weight.fill_(torch.nan)
    assert subject.predict(_common(LONG), 64).isnan().any()
    assert subject.sharing.found == {}


def test_virtual_tokens_and_biases_by_distance_are_reasons_not_to_share() -> None:
    model = tiny.build_model("llama", "causal")
    assert refusal(model) is None
    model.config.alibi = True
    assert refusal(model) == "distances in the row are part of its attention"
    model.model.layers[0].virtual_tokens = 5
    assert refusal(model) == "it reads 5 virtual tokens before its input"


def test_comparing_lets_a_lack_of_memory_through() -> None:
    def fail() -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    sharing, model = Sharing(), tiny.build_model("opt", "causal")
    with pytest.raises(torch.OutOfMemoryError):
        sharing.compare(model, ROWS, fail, torch.zeros(2))
    assert not sharing.settled(ROWS)


def test_what_was_found_out_of_one_model_is_not_believed_of_another() -> None:
    subject = subject_of("opt")
    subject.collate(_own(LONG))
    assert subject.sharing.found == {ROWS: True}
    other = replace(subject, model=tiny.build_model("bloom", "causal").double())
    assert "tree_ids" not in other.collate(_own(LONG))
    assert other.sharing.found == {ROWS: False}
