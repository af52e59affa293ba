"""Which examples demonstrate: candidates, the most similar of them, draws."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from shoestring.errors import DataError, ModelError
from shoestring.prompts.demonstrations.base import but
from shoestring.prompts.demonstrations.templated import Filter, Templated, label_number

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from shoestring.data.example import Example
    from shoestring.prompts.pool import Embed, Pool
    from shoestring.tasks.spec import Task

WHERE = "prompt.demonstrations"
_DIGITS = 6
"""Cosines are compared to so many decimals, so that rounding in batches does not decide which text is nearer."""


class Drawer:
    """Draws demonstrations for one example at a time.

    Args:
        settings: the rules.
        task: the task.
        pool: what is drawn from.

    Raises:
        DataError: if there is nothing to draw from, or too little for any example.
        ModelError: if examples are to be filtered and the pool has no embedding function.

    Source: princeton-nlp/LM-BFF src/dataset.py, `select_context` and the filter in front of it.
    """

    def __init__(self, settings: Templated, task: Task, pool: Pool) -> None:
        self.settings, self.task, self.pool = settings, task, pool
        self._uids = {example.uid for example in pool.examples}
        self._labels = {example.uid: label_number(task, example) for example in pool.examples}
        rule = settings.filter
        self._similarity = None if rule is None else Similarity(rule, len(task.labels), pool.embed)
        if not pool.examples and not pool.own:
            raise DataError(WHERE, f"task {task.name} has no training examples to draw them from")
        if not pool.own:
            self._check(pool.examples, "")

    def drawn(self, query: Example, streams: Iterable[np.random.Generator]) -> list[tuple[Example, ...]]:
        """Return the demonstrations of each draw for `query`, in the order of their numbers in the template.

        Raises:
            DataError: if there are too few candidates.
        """
        candidates = self._candidates(query)
        labels = self._labels_of(candidates)
        rows = range(len(candidates))
        orders = (stream.permutation(len(rows)).tolist() for stream in streams)
        return [tuple(candidates[row] for row in self.settings.chosen(labels, order, self.task)) for order in orders]

    def look_at(self, queries: Sequence[Example]) -> None:
        """Prepare what `drawn` needs of examples, all at once."""
        if self._similarity is not None:
            self._similarity.look_at([*self.pool.examples, *queries])

    def _candidates(self, query: Example) -> tuple[Example, ...]:
        own = self.pool.own.get(query.uid)
        candidates = self.pool.examples if own is None else own
        if own is not None or query.uid in self._uids:
            candidates = but(candidates, query)
            self._check(candidates, f" for example {query.uid}, which is not shown to itself")
        if self._similarity is None:
            return candidates
        kept = self._similarity.nearest(query, candidates, self._labels_of(candidates))
        rate = self._similarity.settings.rate
        self._check(kept, f" for example {query.uid} after filtering with rate {rate:g}")
        return kept

    def _labels_of(self, examples: Sequence[Example]) -> list[int]:
        return [
            label_number(self.task, example) if (known := self._labels.get(example.uid)) is None else known
            for example in examples
        ]

    def _check(self, candidates: Sequence[Example], why: str) -> None:
        lacking = self.settings.lacking(self._labels_of(candidates), self.task)
        if lacking:
            raise DataError(WHERE, f"of the training examples of task {self.task.name}{why}, {lacking}")


class Similarity:
    """Keeps the candidates whose texts are most like the query's.

    Args:
        settings: how many are kept.
        labels: number of labels.
        embed: texts to embeddings of length 1, [N, D].

    Raises:
        ModelError: if there is no embedding function.
    """

    def __init__(self, settings: Filter, labels: int, embed: Embed | None) -> None:
        if embed is None:
            raise ModelError(
                f"{WHERE}.filter compares texts by the embeddings of {settings.model!r}, and none are given; "
                "pass Pool(..., embed=...), such as shoestring.models.embedding.load_embedder(...)"
            )
        self.settings, self._count, self._embed = settings, labels, embed
        self._known: dict[str, np.ndarray] = {}

    def look_at(self, examples: Sequence[Example]) -> None:
        """Embed the texts that are not known yet, all at once."""
        texts = dict.fromkeys(text for example in examples if (text := _text(example)) not in self._known)
        if texts:
            self._known.update(zip(texts, self._embed(list(texts)), strict=True))

    def nearest(self, query: Example, candidates: Sequence[Example], labels: Sequence[int]) -> tuple[Example, ...]:
        """Return, nearest first, the floor(floor(n / C) * rate) candidates of each label most like the query."""
        self.look_at([*candidates, query])
        if not candidates:
            return ()
        vectors = np.stack([self._known[_text(example)] for example in candidates])
        cosines = np.round(vectors @ self._known[_text(query)], _DIGITS)
        most = int(len(candidates) // self._count * self.settings.rate)
        left = dict.fromkeys(range(self._count), most)
        kept: list[Example] = []
        for row in np.argsort(-cosines, kind="stable").tolist():
            if left[labels[row]] > 0:
                left[labels[row]] -= 1
                kept.append(candidates[row])
        return tuple(kept)


def _text(example: Example) -> str:
    return " ".join(example.sentences)
