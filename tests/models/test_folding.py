"""Several prompts in one row: nothing changes but the padding."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import RobertaConfig, RobertaForCausalLM

import tiny
from shoestring.errors import NonFiniteLossError
from shoestring.methods.catalog.adam import Adam
from shoestring.methods.catalog.mezo import MeZO
from shoestring.models.batch import Batch, collate
from shoestring.models.folding import (
    COUNTS,
    OWNERS,
    PLACES,
    THERE,
    Cost,
    examples_in,
    first_position,
    fold,
    folded,
    is_folded,
    longest_row,
    refolded,
    row_losses,
    unfolded,
)
from shoestring.models.packing import in_line, pack, stack
from shoestring.models.prefix import Prefix
from shoestring.models.prompted import Passes, PromptedModel
from shoestring.models.scoring import SCORERS
from shoestring.models.sharing import FOLDED, IN_LINE, Sharing
from shoestring.models.trees import log_probs, sees
from shoestring.prompts.encoding import EncodedPrompt
from shoestring.training.fit import train
from shoestring.training.objective import OBJECTIVES
from shoestring.training.objectives.cross_entropy import CrossEntropy
from shoestring.training.objectives.language_model import LanguageModel
from shoestring.tuning.base import TUNINGS
from shoestring.zeroth import MeZO as Optimizer
from shoestring.zeroth.closures import PerExample
from shoestring.zeroth.engines.base import ENGINES

pytestmark = pytest.mark.usefixtures("frozen_imports")
KINDS = [*((name, "masked") for name in tiny.MASKED), *((name, "causal") for name in tiny.CAUSAL)]
LENGTHS = (9, 20, 6, 13, 7, 7, 5)
PLAIN = {"bloom": "it takes no positions"}


def ragged(*lengths: int, masked: bool = False, width: int = 1) -> list[EncodedPrompt]:
    """Return prompts of random tokens, with two candidates."""
    stream = torch.Generator().manual_seed(len(lengths))
    prompts = []
    for number, length in enumerate(lengths):
        ids = tuple(torch.randint(5, 400, (length,), generator=stream).tolist())
        segments = tuple(int(place > length // 2) for place in range(length))
        options = tuple(tuple(range(start + number, start + number + width)) for start in (7, 90))
        position = length - 2 if masked else length - 1
        prompts.append(EncodedPrompt(f"train:{number}", ids, segments, position, options, number % 2, 0))
    return prompts


def double(architecture: str, kind: str, **changes: Any) -> PromptedModel:
    changes = ({"local_attention": 128} if architecture == "modernbert" else {}) | changes
    return tiny.prompted(architecture, kind, dtype=torch.float64, **changes)


def batch_of(kind: str = "causal", lengths: tuple[int, ...] = LENGTHS, **more: Any) -> Batch:
    return collate(ragged(*lengths, masked=kind == "masked", **more), pad_id=1)


def asked(subject: PromptedModel, kind: str = "causal", lengths: tuple[int, ...] = LENGTHS, **more: Any) -> Batch:
    """Return what a subject makes of the batch."""
    return subject.fold(batch_of(kind, lengths, **more), ragged(*lengths, masked=kind == "masked", **more))


@settings(max_examples=60, deadline=None)
@given(lengths=st.lists(st.integers(2, 40), min_size=1, max_size=24))
def test_a_folded_batch_has_every_prompt_once_and_little_padding(lengths: list[int]) -> None:
    batch = collate(ragged(*lengths), pad_id=1)
    found = fold(batch, pad_id=1)
    if found is None:
        return
    rows, size = found["input_ids"].shape
    assert rows * size <= 0.85 * len(lengths) * max(lengths)
    assert size <= 1.5 * max(lengths)
    assert found[COUNTS].tolist() == [[rows, len(lengths)]] * rows
    assert examples_in(found) == len(lengths)
    assert sorted(found["option_ids"][found[THERE] > 0][:, 0, 0].tolist()) == [7 + n for n in range(len(lengths))]
    for row in range(rows):
        for slot in range(found[THERE].shape[1]):
            number = int(found["option_ids"][row, slot, 0, 0]) - 7
            real = bool(found[THERE][row, slot])
            own = found[OWNERS][row] == (slot + 1 if real else 1)
            assert found["input_ids"][row][own].tolist() == batch["input_ids"][number, : lengths[number]].tolist()
            assert found[PLACES][row][own].tolist() == list(range(lengths[number]))
            read = found["position"][row, slot]
            assert (found[OWNERS][row, read] == 1 + slot) == real or not real
            assert found[PLACES][row, read] == lengths[number] - 1
            assert int(found["labels"][row, slot]) == number % 2
        padding = found[OWNERS][row] == 0
        assert bool((found["input_ids"][row][padding] == 1).all())
        assert found["attention_mask"][row].tolist() == (~padding).long().tolist()


def test_batches_that_gain_little_or_are_of_another_kind_stay_as_they_are() -> None:
    assert fold(batch_of(lengths=(9, 9, 9, 9)), 1) is None
    assert fold(batch_of(lengths=(9,)), 1) is None
    assert fold(batch_of(width=2), 1) is None
    assert fold(batch_of(width=2), 1, None, [pack([prompt]) for prompt in ragged(*LENGTHS, width=2)]) is not None
    head = {name: value for name, value in batch_of().items() if name not in ("position", "option_ids")}
    assert fold(head, 1) is None
    assert fold(batch_of(), 1) is not None


@pytest.mark.parametrize(("architecture", "kind"), KINDS)
@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("width", [1, 3])
def test_scores_are_those_of_the_batch(architecture: str, kind: str, relative: bool, width: int) -> None:
    if kind == "masked" and width > 1:
        pytest.skip("a mask is one token")
    subject, batch = double(architecture, kind), batch_of(kind, width=width)
    found = asked(subject, kind, width=width)
    assert is_folded(found) == (architecture not in PLAIN)
    assert examples_in(found) == examples_in(batch) == len(LENGTHS)
    if architecture in PLAIN:
        assert list(found) == list(batch)
        return
    flat = unfolded(found)
    numbers = flat["option_ids"][:, 0, 0] - 7
    with torch.no_grad():
        scores, plain = (subject.scores(one, relative=relative) for one in (flat, batch))
        # Gemma has its norms in float32, whatever it is in.
        close = 1e-7 if architecture.startswith("gemma") else 1e-10
        torch.testing.assert_close(scores, plain[numbers], rtol=close, atol=close)
        for name in ("cross-entropy", "accuracy"):
            losses = OBJECTIVES.get(name).losses(subject, flat)
            wanted = OBJECTIVES.get(name).loss(subject, batch)
            torch.testing.assert_close(refolded(losses, found).mean(), wanted, rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize(("architecture", "kind"), [("gpt2", "causal"), ("qwen3", "causal"), ("bert", "masked")])
@pytest.mark.parametrize("width", [1, 3])
def test_answers_score_what_they_do_among_other_candidates(architecture: str, kind: str, width: int) -> None:
    if kind == "masked" and width > 1:
        pytest.skip("a mask is one token")
    subject, objective = double(architecture, kind), OBJECTIVES.get("language-model")
    # Answers of different lengths, of which some tokens are not scored; the first of two prompts begin alike.
    prompts = ragged(*LENGTHS, masked=kind == "masked", width=width)
    shorter = prompts[2].options[0], prompts[2].options[1][:1]
    prompts[2] = replace(prompts[2], options=shorter, scored=tuple(map(len, shorter)), label=1)
    prompts[4] = replace(prompts[4], scored=(max(1, width - 1),) * 2)
    prompts[5] = replace(prompts[5], ids=(*prompts[4].ids[:4], *prompts[5].ids[4:]))
    narrow = objective.narrow(prompts)
    assert [prompt.options for prompt in narrow] == [(prompt.options[int(prompt.label)],) for prompt in prompts]
    found = subject.fold(objective.prepare(collate(narrow, 1), narrow), narrow)
    assert is_folded(found)
    with torch.no_grad():
        losses = refolded(objective.losses(subject, unfolded(found)), found)
        wanted = objective.loss(subject, collate(prompts, 1))
    torch.testing.assert_close(losses.mean(), wanted, rtol=1e-10, atol=1e-10)


def test_a_decoder_that_numbers_positions_behind_that_of_padding_is_given_them_in_every_layout() -> None:
    """RoBERTa as a causal model: position 2 is the first."""
    config = RobertaConfig(
        vocab_size=400, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=80, pad_token_id=1, is_decoder=True,
    )  # fmt: skip
    torch.manual_seed(3)
    subject = replace(double("llama", "causal"), model=RobertaForCausalLM(config).double().eval())
    prompt = ragged(9, width=3)[0]
    tokens = torch.tensor([pack([prompt]).targets])
    for behind in (0, 5):
        row = pack([prompt], behind)
        cache = Prefix().extended(subject.model, prompt.ids[:behind], 2).cache() if behind else None
        with torch.no_grad():
            found = log_probs(subject.model, stack([row], 1), torch.tensor([row.sources]), tokens, cache)
            plain = SCORERS.get("causal").scores(subject.model, collate([prompt], 1))
        torch.testing.assert_close(found.view(1, 2, 3).sum(-1), plain, rtol=1e-10, atol=1e-10)
    for width in (1, 3):
        batch, found = batch_of(width=width), asked(subject, width=width)
        assert is_folded(found)
        with torch.no_grad():
            losses = refolded(entropy(subject, unfolded(found)), found)
            torch.testing.assert_close(losses.mean(), entropy(subject, batch).mean(), rtol=1e-10, atol=1e-10)
    assert subject.sharing.found == {FOLDED: True, IN_LINE: True}


@pytest.mark.parametrize(
    ("lengths", "width", "folds"),
    [((100, 200, 300, 512), 256, True), ((500, 900, 1500, 2048), 4096, True), ((500, 900, 1500, 2048), 128, False)],
)
def test_long_rows_are_made_where_attention_takes_little(lengths: tuple[int, ...], width: int, folds: bool) -> None:
    batch = batch_of(lengths=lengths)
    assert fold(batch, 1) is not None
    found = fold(batch, 1, cost=Cost(width, causal=True))
    assert (found is not None) == folds
    assert Cost(width, causal=True).padded(4, 600) == 4 * (600 + 600**2 / (12 * width))
    assert Cost(width).padded(4, 600) == Cost(width).folded(4, 600) == 4 * (600 + 600**2 / (6 * width))


class Unlikely(LanguageModel):
    """A user's objective, which looks at the wrong candidates as well."""

    def losses(self, subject: PromptedModel, batch: Batch) -> Tensor:
        assert batch["option_ids"].shape[1] == 2
        return super().losses(subject, batch) + subject.scores(batch).logsumexp(1)


def test_an_objective_made_of_another_one_sees_all_candidates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OBJECTIVES._entries, "language-model", Unlikely())
    method = Adam(**SMALL, objective="language-model")
    train(job(double("llama", "causal"), tmp_path, method), log=lambda *_: None)


def test_rows_in_line_see_themselves_alone() -> None:
    prompts = ragged(5, 3, width=3)
    rows = [pack([prompt]) for prompt in prompts]
    line = in_line(rows)
    assert line.ids == rows[0].ids + rows[1].ids
    assert line.positions == rows[0].positions + rows[1].positions
    assert line.targets == rows[0].targets + rows[1].targets
    seen = sees(torch.tensor([line.ends]))[0]
    count = len(rows[0].ids)
    for first, row in ((0, rows[0]), (count, rows[1])):
        own = slice(first, first + len(row.ids))
        assert torch.equal(seen[own, own], sees(torch.tensor([row.ends]))[0])
    assert not bool(seen[count:, :count].any() or seen[:count, count:].any())
    places = [line.reads[source] for source in line.sources]
    own = [[row.reads[source] for source in row.sources] for row in rows]
    assert places == own[0] + [count + place for place in own[1]]


@pytest.mark.parametrize(("architecture", "kind"), [("bert", "masked"), ("roberta", "masked"), ("gpt2", "causal")])
def test_rows_are_no_longer_than_the_tables_of_a_model(architecture: str, kind: str) -> None:
    limit = {"n_positions": 20} if architecture == "gpt2" else {"max_position_embeddings": 22}
    subject, batch = double(architecture, kind, **limit), batch_of(kind)
    found = asked(subject, kind)
    longer = fold(batch, 1)
    assert longer is not None
    assert longer["input_ids"].shape[1] > 22
    assert found["input_ids"].shape[1] <= (22 if architecture == "bert" else 20)
    with torch.no_grad():
        losses = refolded(entropy(subject, unfolded(found)), found)
        torch.testing.assert_close(losses.mean(), entropy(subject, batch).mean(), rtol=1e-10, atol=1e-10)


def test_segments_count_where_a_model_has_them() -> None:
    subject = double("bert", "masked")
    found = unfolded(asked(subject, "masked"))
    other = found | {"token_type_ids": 1 - found["token_type_ids"]}
    with torch.no_grad():
        assert not torch.allclose(subject.scores(found), subject.scores(other))


def test_positions_begin_behind_that_of_padding_where_a_model_has_one() -> None:
    firsts = {name: first_position(tiny.build_model(name, kind)) for name, kind in KINDS}
    assert {name for name, first in firsts.items() if first} == {"roberta"}
    assert firsts["roberta"] == 2


@pytest.mark.parametrize("architecture", PLAIN)
def test_why_a_model_is_not_asked_is_logged(architecture: str, caplog: pytest.LogCaptureFixture) -> None:
    kind = dict(KINDS)[architecture]
    with caplog.at_level(logging.INFO, "shoestring"):
        subject = double(architecture, kind)
        asked(subject, kind)
        asked(subject, kind)
    assert caplog.text.count("batches are padded to their longest prompt") == 1
    assert PLAIN[architecture] in caplog.text
    assert not any(record.levelno > logging.INFO for record in caplog.records)


def test_a_model_that_computes_it_otherwise_gets_padded_batches(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    subject = double("roberta", "masked")
    monkeypatch.setattr("shoestring.models.folding.first_position", lambda _: 3)
    with caplog.at_level(logging.INFO, "shoestring"):
        assert not is_folded(asked(subject, "masked"))
        assert not is_folded(asked(subject, "masked"))
    assert [record.levelno for record in caplog.records] == [logging.INFO]
    assert "RobertaForMaskedLM does not compute several prompts in one row as it does one alone" in caplog.text
    assert "scores differ by a share of" in caplog.text
    assert "batches are padded to their longest prompt, which costs time alone" in caplog.text


@pytest.mark.parametrize(
    ("architecture", "kind", "changes", "whole"),
    [
        ("mistral", "causal", {"sliding_window": 20}, True),
        ("mistral", "causal", {"sliding_window": 19}, False),
        ("modernbert", "masked", {"local_attention": 38}, True),
        ("modernbert", "masked", {"local_attention": 36}, False),
    ],
)
def test_prompts_that_a_layer_does_not_see_whole_are_not_folded(
    architecture: str, kind: str, changes: dict[str, int], whole: bool, caplog: pytest.LogCaptureFixture
) -> None:
    subject, batch = double(architecture, kind, **changes), batch_of(kind)
    with caplog.at_level(logging.INFO, "shoestring"):
        found = asked(subject, kind)
        asked(subject, kind)
    assert is_folded(found) == whole
    assert caplog.text.count("longer prompts are padded") == (not whole)
    assert is_folded(asked(subject, kind, (17, 4, 4, 4)))
    if whole:
        with torch.no_grad():
            losses = refolded(entropy(subject, unfolded(found)), found)
            torch.testing.assert_close(losses.mean(), entropy(subject, batch).mean(), rtol=1e-10, atol=1e-10)


def test_that_a_window_keeps_prompts_apart_hides_no_warning_of_it(caplog: pytest.LogCaptureFixture) -> None:
    subject = double("mistral", "causal", sliding_window=19)
    with caplog.at_level(logging.INFO, "shoestring"):
        asked(subject)
        assert not subject.sharing.fits(subject.model, 25)
    assert [record.levelno for record in caplog.records] == [logging.INFO, logging.WARNING]


class Leaking(torch.nn.Module):
    """Lets each token see a little of the one before it, whatever the mask says, as convolutions and recurrences do."""

    def __init__(self, inner: Any, share: float) -> None:
        super().__init__()
        self.inner, self.share = inner, share

    def forward(self, x: Tensor) -> Tensor:
        out = self.inner(x)
        return out + self.share * out.roll(1, 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("width", [1, 3])
def test_a_model_in_which_prompts_see_a_little_of_each_other_gets_padded_batches(
    dtype: torch.dtype, width: int, caplog: pytest.LogCaptureFixture
) -> None:
    subject = tiny.prompted("llama", "causal", dtype=dtype)
    assert is_folded(asked(replace(subject, sharing=Sharing()), width=width))
    layer = subject.model.model.layers[0]
    layer.mlp = Leaking(layer.mlp, 2e-4 if dtype == torch.float32 else 1e-2)
    with caplog.at_level(logging.INFO, "shoestring"):
        assert not is_folded(asked(subject, width=width))
        assert not is_folded(asked(subject, width=width))
    assert caplog.text.count("with another prompt in the row") == 1


@pytest.mark.parametrize("place", [0, 5])
def test_prompts_with_a_padding_token_inside_are_not_folded_where_positions_leave_it_out(place: int) -> None:
    prompts = ragged(*LENGTHS, masked=True)
    ids = list(prompts[place].ids)
    ids[2] = 1
    prompts[place] = replace(prompts[place], ids=tuple(ids))
    subject, batch = double("roberta", "masked"), collate(prompts, 1)
    assert subject.fold(batch, prompts) is batch
    assert is_folded(asked(subject, "masked"))
    assert is_folded(double("bert", "masked").fold(batch, prompts))


def test_what_is_not_the_prompts_own_is_not_folded() -> None:
    words: Any = ["a"] * len(LENGTHS)
    assert fold(batch_of() | {"words": words}, 1) is None
    assert fold(batch_of() | {"table": torch.zeros(3, 2)}, 1) is None


def test_rows_end_where_a_model_scales_what_stands_further_behind() -> None:
    config = double("llama", "causal", max_position_embeddings=90).model.config
    assert longest_row(config) == 90
    config.floor_scale, config.attn_temperature_tuning = 40, True
    assert longest_row(config) == 40
    config.attn_temperature_tuning = False
    assert longest_row(config) == 90


def test_virtual_tokens_and_other_scorers_are_not_folded() -> None:
    prefixed = double("opt", "causal")
    TUNINGS.get("prefix")().apply(prefixed.model, seed=1)
    assert not is_folded(asked(prefixed))
    assert not is_folded(asked(double("t5", "seq2seq")))
    assert not is_folded(asked(double("roberta", "head")))


def test_what_a_row_lacks_counts_nothing_even_if_it_is_not_finite() -> None:
    batch = fold(batch_of(), 1)
    assert batch is not None
    missing = batch[THERE] == 0
    losses = torch.where(missing.flatten(), torch.nan, 2.0)
    torch.testing.assert_close(refolded(losses, batch).mean(), torch.tensor(2.0))
    assert bool(missing.any())


@pytest.mark.parametrize(("architecture", "kind"), [pair for pair in KINDS if pair[0] not in PLAIN])
@pytest.mark.parametrize("width", [1, 3])
def test_gradients_are_those_of_the_batch(architecture: str, kind: str, width: int) -> None:
    if kind == "masked" and width > 1:
        pytest.skip("a mask is one token")
    subject, batch = double(architecture, kind), batch_of(kind, width=width)
    found, grads = asked(subject, kind, width=width), []
    if not is_folded(found):
        pytest.skip("this model gets padded batches")
    training(subject.model)
    for losses in (lambda: refolded(entropy(subject, unfolded(found)), found), lambda: entropy(subject, batch)):
        subject.model.zero_grad()
        losses().mean().backward()
        grads.append([param.grad.clone() for param in subject.model.parameters() if param.grad is not None])
    assert max(float(grad.abs().max()) for grad in grads[0]) > 1e-3
    for one, other in zip(*grads, strict=True):
        # Some models have their norms in float32, whatever they are in.
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


def training(model: torch.nn.Module) -> None:
    """Put a model in training mode, without dropout."""
    model.train()
    for module in model.modules():
        for name, value in vars(module).items():
            if "dropout" in name and isinstance(value, float):
                setattr(module, name, 0.0)
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0


def entropy(subject: PromptedModel, batch: Batch) -> Tensor:
    return OBJECTIVES.get("cross-entropy").losses(subject, batch)


@pytest.mark.parametrize(
    ("architecture", "kind", "width"),
    [("opt", "causal", 1), ("opt", "causal", 3), ("gpt2", "causal", 1), ("roberta", "masked", 1)],
)
@pytest.mark.parametrize("tuning", ["full", "lora"])
@pytest.mark.parametrize("engine", ENGINES.names())
@pytest.mark.parametrize("max_rows", [None, 3])
def test_every_engine_makes_the_same_steps(
    architecture: str, kind: str, width: int, tuning: str, engine: str, max_rows: int | None
) -> None:
    if max_rows is not None and engine not in ("paired", "virtual"):
        pytest.skip("this engine has no bound of rows")
    ends = []
    for folds in (True, False):
        subject = double(architecture, kind)
        subject = replace(subject, model=TUNINGS.get(tuning)().apply(subject.model, seed=1))
        batch = asked(subject, kind, width=width) if folds else batch_of(kind, width=width)
        assert is_folded(batch) == folds
        named = [(name, param) for name, param in subject.model.named_parameters() if param.requires_grad]
        directions = "low-rank" if engine == "virtual" else "gaussian"
        how = {"kind": engine} | ({} if max_rows is None else {"max_rows": max_rows})
        optimizer = Optimizer(named, lr=1e-2, eps=1e-3, engine=how, directions=directions)

        def losses(part: Batch, subject: PromptedModel = subject) -> Tensor:
            return row_losses(partial(entropy, subject), part)

        for _ in range(4):
            optimizer.step(PerExample(losses, [batch]))
        optimizer.finalize()
        assert engine != "paired" or optimizer.engine.repeats
        ends.append(tiny.weights(subject.model))
    for name, value in ends[0].items():
        torch.testing.assert_close(value, ends[1][name], rtol=1e-8, atol=1e-11, msg=name)


def job(subject: PromptedModel, folder: Path, method: Any, kind: str = "causal", width: int = 1) -> Any:
    stream = torch.Generator().manual_seed(8)
    lengths = tuple(torch.randint(5, 30, (16,), generator=stream).tolist())
    prompts = ragged(*lengths, masked=kind == "masked", width=width)
    return replace(tiny.job(subject, folder, method), train=prompts, dev=ragged(9, 9, masked=kind == "masked"))


SMALL: dict[str, Any] = {"steps": 4, "eval_every": 4, "batch_size": 8, "lr": 1e-2, "select": "last"}
ACCUMULATED: dict[str, Any] = {"batch_size": 4, "accumulate": 2}
TRAININGS: dict[str, Any] = {
    "mezo": MeZO(**SMALL),
    "mezo, accumulated": MeZO(**SMALL | ACCUMULATED),
    "mezo, few rows": MeZO(**SMALL, max_rows=3),
    "mezo, replay": MeZO(**SMALL, engine="replay"),
    "mezo, answers": MeZO(**SMALL, objective="language-model"),
    "adam": Adam(**SMALL),
    "adam, accumulated": Adam(**SMALL | ACCUMULATED),
    "adam, clipped": Adam(**SMALL, max_grad_norm=0.1),
    "adam, checkpointed": Adam(**SMALL, gradient_checkpointing=True),
    "adam, answers": Adam(**SMALL, objective="language-model"),
}


@pytest.mark.parametrize("case", TRAININGS)
@pytest.mark.parametrize(("architecture", "kind"), [("llama", "causal"), ("roberta", "masked")])
def test_a_training_is_the_same_with_fewer_rows(
    case: str, architecture: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = TRAININGS[case]
    passes, count = trained_both_ways(method, architecture, kind, tmp_path, monkeypatch), 4 * method.accumulate
    assert passes == (Passes(count, count, 32, 32) if method.needs_backward else Passes(2 * count, 0, 64, 0))


def trained_both_ways(
    method: Any, architecture: str, kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Passes:
    """Train with batches folded and padded, and see that all ends are the same; return the passes."""
    ends, rows, passes = [], [], []
    real = PromptedModel.fold
    for folds in (True, False):
        seen: list[int] = []

        def noted(subject: PromptedModel, batch: Batch, prompts: Any, folds: bool = folds, seen: Any = seen) -> Batch:
            found = real(subject, batch, prompts) if folds else batch
            seen.append(len(found["input_ids"]))
            return found

        monkeypatch.setattr(PromptedModel, "fold", noted)
        subject = double(architecture, kind)
        training(subject.model)
        width = 3 if method.objective == "language-model" and kind == "causal" else 1
        train(job(subject, folder / str(folds), method, kind, width), log=lambda *_: None)
        ends.append(tiny.weights(subject.model))
        passes.append(subject.passes)
        rows.append(sum(seen))
    assert rows[0] < (0.95 if width > 1 else 0.85) * rows[1]  # Of longer rows attention takes more.
    assert passes[0] == passes[1]
    for name, value in ends[0].items():
        torch.testing.assert_close(value, ends[1][name], rtol=1e-8, atol=1e-10, msg=name)
    return passes[0]


class Custom(CrossEntropy):
    """A user's objective, which may look at anything."""


@pytest.mark.parametrize("make", [MeZO, Adam])
@pytest.mark.parametrize("objective", ["whole-text", "accuracy", None])
def test_other_objectives_get_padded_batches(
    make: Any, objective: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if objective == "accuracy" and make is Adam:
        pytest.skip("it has no gradient")
    subject, method = double("llama", "causal"), make(**SMALL, objective=objective)
    if objective is None:
        monkeypatch.setitem(OBJECTIVES._entries, "cross-entropy", Custom())
    monkeypatch.setattr(PromptedModel, "fold", lambda *_: pytest.fail("was folded"))
    train(job(subject, tmp_path, method), log=lambda *_: None)
    assert FOLDED not in subject.sharing.found


def test_a_regression_is_folded(tmp_path: Path) -> None:
    task = tiny.task_of(**tiny.REGRESSION)
    subject = tiny.prompted("roberta", "masked", task=task, dtype=torch.float64)
    prompts = [replace(prompt, label=number / 3) for number, prompt in enumerate(ragged(*LENGTHS, masked=True))]
    batch = collate(prompts, 1)
    found = subject.fold(batch, prompts)
    assert is_folded(found)
    assert OBJECTIVES.get("regression").folds
    losses = OBJECTIVES.get("regression").losses(subject, unfolded(found))
    torch.testing.assert_close(refolded(losses, found).mean(), OBJECTIVES.get("regression").loss(subject, batch))


@pytest.mark.parametrize("make", [MeZO, Adam])
def test_a_loss_that_is_not_finite_is_named_by_its_examples(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = double("llama", "causal")
    real = SCORERS.get("causal").scores

    def broken(scorer: Any, model: Any, batch: Batch, *, relative: bool = False) -> Tensor:
        scores = real(model, batch, relative=relative)
        return scores.masked_fill((batch["option_ids"][:, :1, 0] - 7) % 8 == 3, torch.nan)

    monkeypatch.setattr(type(SCORERS.get("causal")), "scores", broken)
    with pytest.raises(NonFiniteLossError) as error:
        train(job(subject, tmp_path, make(**SMALL)), log=lambda *_: None)
    assert set(error.value.examples) <= {"train:3", "train:11"}
    assert error.value.examples


@pytest.mark.parametrize("make", [MeZO, Adam])
@pytest.mark.parametrize(("architecture", "kind"), [("llama", "causal"), ("roberta", "masked")])
def test_what_is_no_number_is_not_blamed_on_what_shares_its_row(
    make: Any, architecture: str, kind: str, tmp_path: Path
) -> None:
    subject = double(architecture, kind)
    given = job(subject, tmp_path, make(**SMALL), kind)
    # All but the third prompt are clean; it has a token whose embedding overflows.
    prompts = [replace(one, ids=tuple(5 if token == 399 else token for token in one.ids)) for one in given.train]
    prompts[3] = replace(prompts[3], ids=(*prompts[3].ids[:1], 399, *prompts[3].ids[2:]))
    with torch.no_grad():
        embeddings: Any = subject.model.get_input_embeddings()
        embeddings.weight[399] = torch.inf
    subject.sharing.recall(subject.model, {FOLDED: True})
    with pytest.raises(NonFiniteLossError) as error:
        train(replace(given, train=prompts), log=lambda *_: None)
    assert error.value.examples == ("train:3",)


@pytest.mark.parametrize("verdict", [True, False])
@pytest.mark.parametrize("make", [MeZO, Adam])
def test_a_training_that_goes_on_does_not_ask_the_model_again(
    verdict: bool, make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = make(**SMALL | {"steps": 8, "select": "last"})
    seen: list[bool] = []
    real = PromptedModel.fold

    def noted(subject: PromptedModel, batch: Batch, prompts: Any) -> Batch:
        found = real(subject, batch, prompts)
        seen.append(is_folded(found))
        if len(seen) > 5:
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(PromptedModel, "fold", noted)
    subject = double("llama", "causal")
    subject.sharing.recall(subject.model, {} if verdict else {FOLDED: False})
    with pytest.raises(KeyboardInterrupt):
        train(job(subject, tmp_path, method), log=lambda *_: None)
    seen[:] = []
    monkeypatch.setattr(PromptedModel, "_try_folding", lambda *_: pytest.fail("was asked again"))
    fitted = train(job(double("llama", "causal"), tmp_path, method), log=lambda *_: None)
    assert fitted.resumed_from == 4
    assert verdict == any(seen)
    assert len(seen) >= 4


def test_rows_that_are_given_are_taken() -> None:
    found = folded(batch_of(), [[1, 0], [2], [6, 5, 4, 3]], pad_id=1)
    assert found["input_ids"].shape == (3, 32)
    assert found["position"].tolist() == [[19, 28, 19, 19], [5, 5, 5, 5], [4, 11, 18, 31]]
    assert found[THERE].tolist() == [[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1]]
