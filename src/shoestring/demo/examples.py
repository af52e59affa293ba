"""Labelled examples of the three demo tasks: no text of theirs stands in the corpus, no test text in the train pool."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import PositiveInt

from shoestring.config import Settings
from shoestring.demo.language import Style, pair, question, remark
from shoestring.errors import DataError
from shoestring.seeds import numpy_stream

TRIES = 1000
LEAD_IN = 2
SENTENCE_END = re.compile(r"(?<=[.?]) ")


class ExampleSettings(Settings):
    """How many examples each task has, and how hard they are."""

    seed: int = 0
    train_per_label: PositiveInt = 600
    test: PositiveInt = 600
    """Test examples of each task (a multiple of its number of labels, rounded down)."""
    style: Style = Style(contrast=0.1, negation=0.1, faint=0.2, plain=0.25, choice=0.25, hint=0.7)


@dataclass(frozen=True, slots=True)
class Row:
    """One labelled example: its texts and the name of its label."""

    sentences: tuple[str, ...]
    label: str


@dataclass(frozen=True, slots=True)
class DemoTask:
    """What examples of a task look like; the position of a label is the class of the language."""

    columns: tuple[str, ...]
    labels: tuple[str, ...]
    make: Callable[[np.random.Generator, int, Style], tuple[str, ...]]


TASKS: Mapping[str, DemoTask] = {
    "demo-sentiment": DemoTask(
        ("sentence",), ("negative", "positive"), lambda rng, label, style: (remark(rng, bool(label), style),)
    ),
    "demo-question": DemoTask(
        ("question",), ("person", "place", "number", "time"), lambda rng, label, style: (question(rng, label, style),)
    ),
    "demo-entailment": DemoTask(("premise", "hypothesis"), ("contradiction", "entailment", "neutral"), pair),
}


class Texts:
    """Knows whether a document holds given sentences, side by side or apart."""

    def __init__(self, documents: Sequence[str]) -> None:
        self._documents: dict[str, list[str]] = defaultdict(list)
        for document in documents:
            folded = document.casefold()
            for sentence in SENTENCE_END.split(document):
                # A sentence may follow a lead-in of a few words: "Tell me who ..." holds "who ...".
                rest = _bare(sentence)
                for _ in range(LEAD_IN + 1):
                    self._documents[rest].append(folded)
                    _, _, rest = rest.partition(" ")

    def hold(self, sentences: Sequence[str]) -> bool:
        """Return whether one document holds the first sentence as a sentence and the others anywhere."""
        first, *others = (_bare(sentence) for sentence in sentences)
        return any(all(other in document for other in others) for document in self._documents.get(first, ()))


def draw(task: str, settings: ExampleSettings, corpus: Texts) -> dict[str, list[Row]]:
    """Return the `train` and `test` rows of a task: balanced labels, random order, no text twice, none in the corpus.

    Raises:
        DataError: if the language has too few texts for so many rows.
    """
    kind = TASKS[task]
    rng = numpy_stream(settings.seed, "demo", task)
    seen: set[tuple[str, ...]] = set()
    splits: dict[str, list[Row]] = {}
    for split, per_label in (("test", settings.test // len(kind.labels)), ("train", settings.train_per_label)):
        rows: list[Row] = []
        for label, name in enumerate(kind.labels):
            for _ in range(per_label):
                sentences = _unseen(kind, rng, label, settings.style, lambda texts: texts in seen or corpus.hold(texts))
                seen.add(sentences)
                rows.append(Row(sentences, name))
        splits[split] = [rows[i] for i in rng.permutation(len(rows)).tolist()]
    return splits


def _unseen(
    kind: DemoTask, rng: np.random.Generator, label: int, style: Style, known: Callable[[tuple[str, ...]], bool]
) -> tuple[str, ...]:
    for _ in range(TRIES):
        sentences = kind.make(rng, label, style)
        if not known(sentences):
            return sentences
    raise DataError(
        "demo examples", f"the language has too few {kind.labels[label]} texts; ask for fewer examples or documents"
    )


def _bare(sentence: str) -> str:
    return sentence.rstrip(".?").casefold()
