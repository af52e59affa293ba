"""Features of frozen models against one prompt at a time, without padding."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tiny
from shoestring.errors import ModelError
from shoestring.models.budget import Budget
from shoestring.models.features import Place, answer_activations, feed_forwards, over_batches, states
from shoestring.models.prompted import PromptedModel
from shoestring.models.scorers.seq2seq import decoder_start
from shoestring.prompts.encoding import EncodedPrompt

pytestmark = pytest.mark.usefixtures("frozen_imports")
CASES = {
    "roberta": "masked", "bert": "masked", "albert": "masked", "modernbert": "masked", "llama": "causal",
    "gpt2": "causal", "opt": "causal", "bloom": "causal", "t5": "seq2seq", "bart": "seq2seq",
}  # fmt: skip
HEADS = ("roberta", "distilbert", "llama")


def subject_of(name: str, kind: str) -> PromptedModel:
    return tiny.prompted(name, kind, dtype=torch.float64)


@pytest.fixture(scope="module")
def doubles() -> dict[str, PromptedModel]:
    return {name: subject_of(name, kind) for name, kind in CASES.items()}


def features(subject: PromptedModel, prompts: list[EncodedPrompt], place: Place, size: int = 5) -> Tensor:
    found = dict(states(subject, prompts, place, size))
    return torch.stack([found[number] for number in range(len(prompts))])


def outputs(subject: PromptedModel, prompt: EncodedPrompt) -> Any:
    """Return what the model makes of one prompt, with all hidden states."""
    inputs = {"input_ids": torch.tensor([prompt.ids])}
    if getattr(subject.model.config, "type_vocab_size", 0) > 1:
        inputs["token_type_ids"] = torch.tensor([prompt.segment_ids])
    if subject.model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = torch.tensor([decoder_start(subject.model)])
    with torch.no_grad():
        return subject.model(**inputs, output_hidden_states=True)


def answer(subject: PromptedModel, prompt: EncodedPrompt) -> int:
    """Return the place of the state that the answer is scored from: a decoder's last, before there is an answer."""
    assert prompt.position is not None
    return -1 if subject.model.config.is_encoder_decoder else prompt.position


@pytest.mark.parametrize("name", CASES)
def test_the_output_layer_makes_the_models_logits_of_the_label_word_features(
    doubles: dict[str, PromptedModel], name: str
) -> None:
    subject = doubles[name]
    prompts, layer = tiny.encoded(subject, 7), subject.model.get_output_embeddings()
    assert layer is not None
    made = nn.functional.linear(features(subject, prompts, "label-word"), layer.weight, layer.bias)
    bias = getattr(subject.model, "final_logits_bias", 0.0)
    wanted = torch.stack([outputs(subject, prompt).logits[0, answer(subject, prompt)] for prompt in prompts])
    assert len({len(prompt.ids) for prompt in prompts}) > 1
    torch.testing.assert_close(made + bias, wanted, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("name", HEADS)
def test_the_last_layer_of_a_head_makes_its_logits_of_the_features(name: str) -> None:
    subject = subject_of(name, "head")
    prompts = tiny.encoded(subject, 7)
    last = [module for module in subject.model.modules() if isinstance(module, nn.Linear)][-1]
    wanted = torch.cat([outputs(subject, prompt).logits for prompt in prompts])
    torch.testing.assert_close(last(features(subject, prompts, "label-word")), wanted, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("place", ["first-token", "mean"])
@pytest.mark.parametrize("name", CASES)
def test_pooled_features_are_of_the_last_hidden_states_of_one_prompt_alone(
    doubles: dict[str, PromptedModel], name: str, place: Place
) -> None:
    subject = doubles[name]
    prompts = tiny.encoded(subject, 5)
    rows = []
    for prompt in prompts:
        found = outputs(subject, prompt)
        hidden = found.encoder_last_hidden_state if subject.model.config.is_encoder_decoder else found.hidden_states[-1]
        rows.append(hidden[0, 0] if place == "first-token" else hidden[0].mean(0))
    torch.testing.assert_close(features(subject, prompts, place), torch.stack(rows), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("name", [*CASES, "distilbert", "gemma2"])
def test_activations_are_those_behind_the_nonlinearity_at_the_answer(
    doubles: dict[str, PromptedModel], name: str
) -> None:
    kind = {**CASES, "distilbert": "masked", "gemma2": "causal"}[name]
    subject = doubles.get(name) or subject_of(name, kind)
    prompts = tiny.encoded(subject, 5)
    batch = subject.collate(prompts)
    with torch.no_grad():
        last, layers = answer_activations(subject, batch)
    torch.testing.assert_close(last, features(subject, prompts, "label-word"), atol=1e-9, rtol=1e-9)
    assert [tuple(layer.shape) for layer in layers] == [(5, 128 if name in ("gpt2", "bloom") else 48)] * 2
    seen: list[Tensor] = []
    handles = [
        module.register_forward_hook(lambda module, args, output: seen.append(args[0].reshape(-1, args[0].shape[-1])))
        for _, module in feed_forwards(subject.model)
    ]
    for number, prompt in enumerate(prompts):
        seen.clear()
        outputs(subject, prompt)
        for layer, wanted in zip(layers, seen, strict=True):
            torch.testing.assert_close(layer[number], wanted[answer(subject, prompt)], atol=1e-9, rtol=1e-9)
    for handle in handles:
        handle.remove()


def test_features_do_not_depend_on_batches_and_passes_are_counted(doubles: dict[str, PromptedModel]) -> None:
    subject = replace(doubles["roberta"], passes=type(doubles["roberta"].passes)())
    prompts = tiny.encoded(subject, 9)
    alone = features(subject, prompts, "label-word", 1)
    assert (subject.passes.forward, subject.passes.forward_examples, subject.passes.backward) == (9, 9, 0)
    torch.testing.assert_close(features(subject, prompts, "label-word", 64), alone, atol=1e-9, rtol=1e-9)
    assert subject.passes.forward_examples == 18


def test_when_memory_runs_out_batches_become_smaller(doubles: dict[str, PromptedModel]) -> None:
    subject = replace(doubles["roberta"], budget=Budget(4096))
    prompts = tiny.encoded(subject, 8)
    sizes = []

    def read(batch: dict[str, Tensor]) -> Tensor:
        sizes.append(len(batch["input_ids"]))
        if sizes[-1] > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return batch["labels"]

    found = {number: int(value) for some, values in over_batches(subject, prompts, 64, read)
             for number, value in zip(some, values, strict=True)}  # fmt: skip
    assert found == {number: prompt.label for number, prompt in enumerate(prompts)}
    assert sizes[0] == 8
    assert max(sizes[2:]) <= 3

    def full(_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(ModelError, match=r"memory does not suffice for a single input of \d+ tokens \(train:"):
        list(over_batches(subject, prompts, 64, full))


def test_a_head_has_no_answer_token_and_unknown_feed_forwards_are_named() -> None:
    subject = subject_of("roberta", "head")
    with pytest.raises(ModelError, match="classification head has no token that stands for the answer"):
        answer_activations(subject, subject.collate(tiny.encoded(subject, 2)))
    bare: Any = nn.Module()
    bare.query, bare.config = nn.Linear(2, 2), subject.model.config
    with pytest.raises(ModelError, match=r"Module has no feed-forward layers .*; its linear layers end in query"):
        feed_forwards(bare)
    subject.model.config.num_labels = 3
    with pytest.raises(ModelError, match=r"last linear layer has 2 outputs where there are 3 labels"):
        features(subject, tiny.encoded(subject, 2), "label-word")
