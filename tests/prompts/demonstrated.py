"""Pools of random examples, and encoders that draw demonstrations from them."""

from __future__ import annotations

import random

from shoestring.data.example import Example
from shoestring.prompts import PromptSettings
from shoestring.prompts.build import build_encoder
from shoestring.prompts.demonstrations.encoder import DemonstrationEncoder
from shoestring.prompts.pool import Pool
from shoestring.tasks.spec import Task

WORDS = ["film", "great", "terrible", "dull", "fine", "answer", "said", "good", "bad", "okay", "the", "man"]
LONGEST = 512  # what RoBERTa reads
SEED = 13


def examples_of(task: Task, count: int, split: str = "train", longest: int = 24) -> list[Example]:
    """Return examples with texts of random words, their labels in a random order."""
    stream = random.Random(f"{task.name} {split}")

    def text() -> str:
        return " ".join(stream.choices([*WORDS, "He", "ran", ",", "."], k=stream.randint(1, longest)))

    def label() -> str | float:
        return stream.choice((1.0, 2.5, 4.0)) if task.range is not None else stream.choice(task.label_names)

    return [Example(f"{split}:{row}", tuple(text() for _ in task.sentences), label()) for row in range(count)]


def known_words(task: Task) -> dict[str, str]:
    """Return label words that every tokenizer here has as one token."""
    return dict(zip(task.label_names, WORDS, strict=False))


def settings_of(task: Task, **demonstrations: object) -> PromptSettings:
    return PromptSettings.model_validate({"label_words": known_words(task), "demonstrations": demonstrations})


def drawing(tokenizer, task: Task, pool: Pool, **demonstrations: object) -> DemonstrationEncoder:
    """Return the encoder of a masked model, which draws demonstrations."""
    found = build_encoder(task, tokenizer, "masked", settings_of(task, **demonstrations), LONGEST, pool)
    assert isinstance(found, DemonstrationEncoder)
    return found
