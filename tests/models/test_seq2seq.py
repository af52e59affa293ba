"""Sequence-to-sequence models: candidates in the decoder, the encoder once an example."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny
from reference import scoring_twin
from shoestring.errors import ModelError
from shoestring.models.batch import Batch
from shoestring.models.loading import load_model
from shoestring.models.prompted import PromptedModel
from shoestring.models.settings import CausalModel, MaskedModel, Seq2SeqModel
from shoestring.prompts.encoding import EncodedPrompt
from shoestring.prompts.settings import PromptSettings
from shoestring.training.objective import OBJECTIVES
from shoestring.tuning.base import TUNINGS
from shoestring.tuning.catalog.lora import LoRA
from shoestring.zeroth import MeZO
from shoestring.zeroth.closures import PerExample

pytestmark = pytest.mark.usefixtures("frozen_imports")
ONE, MORE = ((7,), (9,), (11,)), ((7,), (9, 10, 11), (12, 13))


def ragged(*lengths: int, options: tuple[tuple[int, ...], ...] = ONE, seed: int = 0) -> list[EncodedPrompt]:
    """Prompts of random tokens, the last with one candidate fewer."""
    stream = torch.Generator().manual_seed(seed)
    prompts = []
    for number, length in enumerate(lengths):
        ids = tuple(torch.randint(5, 400, (length,), generator=stream).tolist())
        own = options[:-1] if number == len(lengths) - 1 else options
        prompts.append(EncodedPrompt(f"train:{number}", ids, (0,) * length, None, own, number % len(own), 0))
    return prompts


@pytest.fixture(scope="module")
def doubles() -> dict[str, PromptedModel]:
    """T5 has relative positions and no biases, BART absolute ones, biases, and a token every answer begins with."""
    return {name: tiny.prompted(name, "seq2seq", dtype=torch.float64) for name in tiny.SEQ2SEQ}


def wanted(subject: PromptedModel, prompts: list[EncodedPrompt]) -> torch.Tensor:
    rows = scoring_twin.seq2seq_scores(subject.model, prompts)
    width = max(map(len, rows))
    return torch.tensor([[*row, *[-torch.inf] * (width - len(row))] for row in rows], dtype=torch.float64)


@pytest.mark.parametrize("name", tiny.SEQ2SEQ)
@pytest.mark.parametrize("options", [ONE, MORE], ids=["one", "more"])
def test_scores_are_those_of_one_candidate_at_a_time(
    doubles: dict[str, PromptedModel], name: str, options: tuple[tuple[int, ...], ...]
) -> None:
    prompts = ragged(9, 30, 1, 14, options=options)
    torch.testing.assert_close(doubles[name].predict(prompts, batch_size=3), wanted(doubles[name], prompts))


lengths = st.lists(st.integers(1, 24), min_size=1, max_size=5)
answers = st.lists(st.lists(st.integers(5, 399), min_size=1, max_size=4), min_size=2, max_size=4)


@settings(max_examples=20)
@given(st.sampled_from(tiny.SEQ2SEQ), lengths, answers, st.integers(1, 5), st.integers(0, 99))
def test_scores_do_not_depend_on_batches_or_padding(
    doubles: dict[str, PromptedModel], name: str, lengths: list[int], options: list[list[int]], size: int, seed: int
) -> None:
    prompts = ragged(*lengths, options=tuple(map(tuple, options)), seed=seed)
    torch.testing.assert_close(doubles[name].predict(prompts, batch_size=size), wanted(doubles[name], prompts))


@pytest.mark.parametrize("name", tiny.SEQ2SEQ)
def test_answers_are_the_sums_over_their_scored_tokens(doubles: dict[str, PromptedModel], name: str) -> None:
    subject = doubles[name]
    prompts = ragged(9, 4, 7, options=MORE)
    parted = EncodedPrompt("train:9", (5, 6), (0, 0), None, ((7, 8), (9, 10, 11)), 1, 0, scored=(1, 2))
    with torch.no_grad():
        log_probs, tokens = subject.answer_log_probs(subject.collate([*prompts, parted]))
    found = [
        scoring_twin.decoded_log_probs(subject.model, one, one.options[int(one.label)]) for one in [*prompts, parted]
    ]
    found[-1] = found[-1][-2:]
    torch.testing.assert_close(log_probs, torch.tensor([sum(row) for row in found], dtype=torch.float64))
    assert tokens.tolist() == [len(row) for row in found]


@pytest.mark.parametrize("name", tiny.SEQ2SEQ)
@pytest.mark.parametrize("options", [ONE, MORE], ids=["one", "more"])
def test_gradients_are_those_of_one_candidate_at_a_time(name: str, options: tuple[tuple[int, ...], ...]) -> None:
    subject = tiny.prompted(name, "seq2seq", dtype=torch.float64)
    prompts = ragged(9, 4, options=options)[:1] + ragged(4, 3, options=options, seed=3)[:1]
    (subject.scores(subject.collate(prompts)) * torch.tensor([[1.0, -2.0, 0.5], [0.3, 2.0, -1.0]])).sum().backward()
    found = {name: param.grad for name, param in subject.model.named_parameters()}
    subject.model.zero_grad()
    for prompt, row in zip(prompts, ([1.0, -2.0, 0.5], [0.3, 2.0, -1.0]), strict=True):
        for option, weight in zip(prompt.options, row, strict=True):
            one = EncodedPrompt("x", prompt.ids, prompt.segment_ids, None, (option,), 0, 0)
            (weight * subject.scores(subject.collate([one])).sum()).backward()
    for key, param in subject.model.named_parameters():
        torch.testing.assert_close(found[key], param.grad, msg=key)


def test_the_encoder_runs_once_an_example_and_logits_are_made_only_where_they_are_read() -> None:
    subject = tiny.prompted("t5", "seq2seq")
    encoded: list[tuple[int, ...]] = []
    made: list[tuple[int, ...]] = []
    model: Any = subject.model
    model.get_encoder().register_forward_hook(lambda *called: encoded.append(called[-1].last_hidden_state.shape))
    model.lm_head.register_forward_hook(lambda *called: made.append(called[-1].shape))
    subject.predict(ragged(9, 9, options=ONE), 2)
    assert (encoded, made) == ([(2, 9, 32)], [(2, 1, 400)])
    subject.predict(ragged(9, 9, options=MORE), 2)
    # The first token of every candidate from one position; of the others, those that predict a token.
    assert (encoded[1:], made[1:]) == ([(2, 9, 32)], [(2, 1, 400), (6, 2, 400)])


def test_an_adapted_model_is_scored_like_any_other() -> None:
    subject = tiny.prompted("t5", "seq2seq", dtype=torch.float64)
    prompts = ragged(9, 4, 7, options=MORE)
    before = subject.predict(prompts, 3)
    tuned = replace(subject, model=LoRA(r=2, targets=("q", "v")).apply(subject.model, 0).double())
    for number, param in enumerate(tuned.model.parameters()):
        if param.requires_grad:  # One of the two factors begins at zero.
            torch.nn.init.normal_(param, generator=torch.Generator().manual_seed(number))
    assert not torch.allclose(tuned.predict(prompts, 3)[:, 0], before[:, 0])
    torch.testing.assert_close(tuned.predict(prompts, 3), wanted(tuned, prompts))


@pytest.mark.parametrize("tuning", ["prefix", "prompt-tuning"])
@pytest.mark.parametrize("name", tiny.SEQ2SEQ)
def test_virtual_tokens_are_read_by_all_candidates(name: str, tuning: str) -> None:
    subject = tiny.prompted(name, "seq2seq", dtype=torch.float64)
    prompts = ragged(9, 4, 7, options=MORE)
    before = subject.predict(prompts, 3)
    tuned = replace(subject, model=TUNINGS.get(tuning)().apply(subject.model, 0).double())
    for number, param in enumerate(tuned.model.parameters()):
        if param.requires_grad:
            torch.nn.init.normal_(param, generator=torch.Generator().manual_seed(number))
    assert not torch.allclose(tuned.predict(prompts, 3)[:, 0], before[:, 0])
    torch.testing.assert_close(tuned.predict(prompts, 3), wanted(tuned, prompts))


def save(folder: Path, name: str, kind: str = "seq2seq", **changes: Any) -> Path:
    return tiny.save(tiny.build_model(name, kind, **changes), tiny.bpe_tokenizer(), folder / name)


@pytest.mark.parametrize("name", tiny.SEQ2SEQ)
def test_a_model_is_loaded_with_what_its_decoder_begins_with(name: str, tmp_path: Path) -> None:
    folder = save(tmp_path, name)
    loaded = load_model(Seq2SeqModel(name=str(folder)), labels=2, seed=0)
    original = tiny.build_model(name, "seq2seq")
    for key, param in loaded.model.named_parameters():
        assert torch.equal(param, original.get_parameter(key)), key
    assert loaded.model.generation_config.decoder_start_token_id == {"t5": 1, "bart": 2}[name]
    assert loaded.max_tokens == {"t5": None, "bart": 66}[name]


def test_barts_begin_token_is_put_before_answers_where_the_checkpoint_does_not_say_so(tmp_path: Path) -> None:
    folder = save(tmp_path, "bart")
    (folder / "generation_config.json").unlink()
    loaded = load_model(Seq2SeqModel(name=str(folder)), labels=2, seed=0)
    assert loaded.model.generation_config.forced_bos_token_id == 0


def test_a_model_that_does_not_say_how_its_decoder_begins_is_refused(tmp_path: Path) -> None:
    folder = save(tmp_path, "t5")
    for path in (folder / "generation_config.json", folder / "config.json"):
        text = path.read_text()
        path.write_text(text.replace('"decoder_start_token_id": 1,', ""))
    with pytest.raises(
        ModelError, match="does not say which token its decoder begins with; put decoder_start_token_id"
    ):
        load_model(Seq2SeqModel(name=str(folder)), labels=2, seed=0)


def test_the_kind_that_an_architecture_has_is_named(tmp_path: Path, tiny_masked_folder: Path) -> None:
    folder = save(tmp_path, "t5")
    for kind in (MaskedModel, CausalModel):
        with pytest.raises(ModelError, match=r"no such form of its architecture; is model\.kind='seq2seq' meant\?"):
            load_model(kind(name=str(folder)), labels=2, seed=0)
    with pytest.raises(ModelError, match=r"cannot be loaded as a seq2seq model.*is model\.kind='masked' meant\?"):
        load_model(Seq2SeqModel(name=str(tiny_masked_folder)), labels=2, seed=0)


def test_sums_and_means_differ_by_the_number_of_scored_tokens(doubles: dict[str, PromptedModel]) -> None:
    subject = doubles["t5"]
    sums = PromptedModel(
        subject.model, subject.task, subject.encoder, subject.scorer, 1, settings=PromptSettings(score="sum")
    )
    prompts = ragged(9, 4, options=MORE)[:1]
    torch.testing.assert_close(sums.predict(prompts, 1), subject.predict(prompts, 1) * torch.tensor([1.0, 3.0, 2.0]))


def trained(subject: PromptedModel, losses: Any, batch: Batch, engine: Any, **settings: Any) -> tuple[list[float], Any]:
    """Return the projected gradients of three steps, and whether batches were repeated; put the weights back."""
    before = tiny.weights(subject.model)
    optimizer = MeZO(subject.model.named_parameters(), engine=engine, lr=1e-3, eps=1e-3, seed=1, **settings)
    grads: list[float] = []
    for _ in range(3):
        optimizer.step(PerExample(losses, [batch]))
        grads += optimizer.last_projected_grads
    for name, param in subject.model.named_parameters():
        param.data.copy_(before[name])
    return grads, getattr(optimizer.engine, "repeats", None)


@pytest.mark.parametrize("engine", ["fused", "paired", {"kind": "paired", "small": 0, "tile": 100}], ids=str)
@pytest.mark.parametrize("options", [ONE, MORE], ids=["one", "more"])
@pytest.mark.parametrize("name", tiny.SEQ2SEQ)
def test_zeroth_order_steps_are_those_of_replay_whatever_the_engine(
    doubles: dict[str, PromptedModel], name: str, options: tuple[tuple[int, ...], ...], engine: Any
) -> None:
    subject = doubles[name]
    batch = subject.collate(ragged(9, 4, 7, options=options))
    for objective in ("cross-entropy", "language-model"):
        losses = partial(OBJECTIVES.get(objective).losses, subject)
        prepared = OBJECTIVES.get(objective).prepare(batch, ())
        wanted, _ = trained(subject, losses, prepared, "replay")
        found, repeated = trained(subject, losses, prepared, engine)
        assert found == pytest.approx(wanted, rel=1e-7, abs=1e-7)
        assert repeated is (None if engine == "fused" else True)
