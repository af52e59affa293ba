"""An example and the splits made of examples."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled text, pair of texts, or any number of named texts.

    Attributes:
        uid: where it comes from, e.g. `train:17` (0-based row of the source split); unique within a run.
        sentences: the texts, in the order of `Task.sentences`.
        label: label name for classification, number for regression; otherwise the first of `golds`.
        candidates: the candidate answers, where each example brings its own (multiple choice).
        golds: all right answers, of multiple choice and of generation.
    """

    uid: str
    sentences: tuple[str, ...]
    label: str | float
    candidates: tuple[str, ...] = ()
    golds: tuple[str, ...] = ()


@dataclass(frozen=True)
class Splits:
    """What a run trains, selects and is tested on.

    Attributes:
        train: training examples.
        dev: examples to select on.
        tests: maps `test`, `test-mismatched`, ... to examples.
        own: the training set of each test example (by its uid) that has one of its own, for in-context learning.
        digest: hash of all of it.
    """

    train: tuple[Example, ...]
    dev: tuple[Example, ...]
    tests: Mapping[str, tuple[Example, ...]]
    own: Mapping[str, tuple[Example, ...]] = field(default_factory=dict[str, tuple[Example, ...]])
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        """Hash every uid, text and label of every split, in order."""
        sha = hashlib.sha256()
        for name, examples in (*self.named.items(), *self.own.items()):
            sha.update(f"[{name}]".encode())
            for example in examples:
                sha.update("\x1f".join((example.uid, *example.sentences, str(example.label))).encode())
                if example.golds:
                    sha.update("\x1f".join(("", *example.candidates, "", *example.golds)).encode())
                sha.update(b"\x1e")
        object.__setattr__(self, "digest", sha.hexdigest()[:16])

    @property
    def named(self) -> dict[str, tuple[Example, ...]]:
        """Every split by its name: `train`, `dev`, then the test sets."""
        return {"train": self.train, "dev": self.dev, **self.tests}
