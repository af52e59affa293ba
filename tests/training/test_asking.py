"""Training examples that are asked otherwise each time: with other demonstrations, or another template."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import tiny
from shoestring.methods.catalog.adam import Adam
from shoestring.methods.catalog.mezo import MeZO
from shoestring.models.prompted import PromptedModel
from shoestring.prompts import PromptSettings
from shoestring.prompts.build import build_encoder
from shoestring.prompts.encoding import EncodedPrompt
from shoestring.prompts.pool import Pool
from shoestring.training.asking import Asking
from shoestring.training.fit import train
from shoestring.training.trainer import PromptTrainer

pytestmark = pytest.mark.usefixtures("frozen_imports")
TRAIN = 10
TASK = tiny.task_of().model_copy(update={"limits": tiny.task_of().limits.model_copy(update={"max_tokens": 64})})
OTHER = "*cls*So*+sent_0*_It_is*mask*.*sep+*"
WAYS: dict[str, dict[str, Any]] = {
    "one a label": {"demonstrations": {"kind": "per-label", "samples": 2}},
    "any two": {"demonstrations": {"kind": "gpt3", "count": 2}},
    "templates": {"templates": ["first", OTHER]},
    "templates and demonstrations": {
        "templates": ["first", OTHER],
        "demonstrations": {"kind": "per-label", "samples": 1},
    },
}
SHORT: dict[str, Any] = {"steps": 11, "eval_every": 3, "log_every": 1, "lr": 1e-3, "select": "last"}


def subject_of(way: str, kind: str = "masked") -> PromptedModel:
    settings = PromptSettings.model_validate(WAYS[way])
    pool = Pool(tuple(tiny.examples(TRAIN)), seed=13)
    subject = tiny.prompted("roberta", kind, max_position_embeddings=200)
    encoder = build_encoder(TASK, tiny.bpe_tokenizer(), "masked", settings, 198, pool)
    return replace(subject, encoder=encoder, task=TASK, settings=settings)


def asked(patch: pytest.MonkeyPatch) -> list[tuple[EncodedPrompt, ...]]:
    """Note the prompts of every batch."""
    found: list[tuple[EncodedPrompt, ...]] = []
    original = Asking.prompts

    def watch(self: Asking, indices: list[int], step: int) -> list[EncodedPrompt]:
        prompts = original(self, indices, step)
        found.append(tuple(prompts))
        return prompts

    patch.setattr(Asking, "prompts", watch)
    return found


def fit(subject: PromptedModel, folder: Path, settings: Any) -> dict[str, Any]:
    train(tiny.job(subject, folder, settings, train=TRAIN), log=lambda line: None)
    return tiny.weights(subject.model)


@pytest.mark.parametrize("way", WAYS)
def test_every_use_of_an_example_is_another_draw_without_the_example_itself(way: str, tmp_path: Path) -> None:
    subject = subject_of(way)
    with pytest.MonkeyPatch.context() as patch:
        batches = asked(patch)
        fit(subject, tmp_path, MeZO(**SHORT | {"steps": 24}, batch_size=4))
    prompts = [prompt for batch in batches for prompt in batch]
    first = [prompt.ids for prompt in prompts if prompt.uid == "train:0"]
    assert len(first) >= 7
    assert len(set(first)) > (1 if way == "templates" else 3)
    known = {example.uid: example for example in tiny.examples(TRAIN)}
    tokenizer = tiny.bpe_tokenizer()
    for prompt in prompts:
        assert prompt.variants == ()
        text = "".join(tokenizer.convert_ids_to_tokens(list(prompt.ids))).replace("Ġ", " ")
        assert text.count(known[prompt.uid].sentences[0]) == 1


@pytest.mark.parametrize(
    ("way", "settings", "stop"),
    [
        ("one a label", MeZO(**SHORT, batch_size=4), 8),
        ("templates", MeZO(**SHORT, batch_size=4), 8),
        # Three batches an epoch, in steps of two and of one.
        ("any two", Adam(**SHORT, batch_size=4, accumulate=2), 5),
        ("templates and demonstrations", Adam(**SHORT, batch_size=4, accumulate=2), 11),
        ("one a label", MeZO(**SHORT, batch_size=3, accumulate=3), 5),
    ],
)
def test_a_training_that_was_resumed_asks_what_an_uninterrupted_one_asks(
    way: str, settings: Any, stop: int, tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        whole = asked(patch)
        wanted = fit(subject_of(way), tmp_path / "whole", settings)
    original = PromptTrainer.losses

    def interrupted(self: PromptTrainer, inputs: dict[str, Any]) -> Any:
        if self.state.global_step + 1 == stop:
            raise KeyboardInterrupt
        return original(self, inputs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PromptTrainer, "losses", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit(subject_of(way), tmp_path / "parts", settings)
    with pytest.MonkeyPatch.context() as patch:
        rest = asked(patch)
        weights = fit(subject_of(way), tmp_path / "parts", settings)
    assert 0 < len(rest) < len(whole)
    assert rest == whole[-len(rest) :]
    assert tiny.equal(weights, wanted)


def test_examples_of_a_plain_template_are_asked_as_they_were_encoded(tmp_path: Path) -> None:
    subject = tiny.prompted("roberta", "masked")
    job = tiny.job(subject, tmp_path, MeZO(**SHORT))
    assert Asking(job).prompts([3, 1], 0) == [job.train[3], job.train[1]]


def test_prediction_averages_over_all_draws(tmp_path: Path) -> None:
    subject = subject_of("templates and demonstrations")
    (prompt,) = tiny.encoded(subject, 1)
    assert len(prompt.variants) == 1
    alone = subject.predict([replace(prompt, variants=()), *prompt.variants], 1)
    assert not bool((alone[0] - alone[1]).abs().max() < 1e-3)
    assert bool((subject.predict([prompt], 4)[0] - alone.mean(0)).abs().max() < 1e-5)
