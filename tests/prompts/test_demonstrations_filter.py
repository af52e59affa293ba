"""Demonstrations filtered by similarity are those that a loop over sorted pairs leaves."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from prompts.demonstrated import LONGEST, SEED, drawing, examples_of
from reference import demonstrations_twin
from shoestring.data.example import Example
from shoestring.prompts.pool import Pool
from shoestring.seeds import numpy_stream
from shoestring.tasks.load import load_task
from shoestring.tasks.spec import Task


class Hashed:
    """Embeds a text as a direction made of its hash, and notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        self.asked.append(list(texts))
        return np.stack([embedding(text) for text in texts])


def embedding(text: str) -> np.ndarray:
    vector = np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8).astype(float) - 127.5
    return vector / np.linalg.norm(vector)


def joined(example: Example) -> str:
    return " ".join(example.sentences)


def number_of(task: Task, example: Example) -> int:
    if task.range is not None:
        return demonstrations_twin.polarity(float(example.label), task.range.threshold)
    return task.label_names.index(str(example.label))


@pytest.mark.parametrize("name", ["SST-2", "MNLI", "STS-B", "trec"])
@pytest.mark.parametrize("rate", [0.3, 0.5, 1.0])
@pytest.mark.parametrize("kind", ["per-label", "gpt3"])
def test_the_nearest_of_each_label_are_drawn_from(toy_bpe, name, rate, kind):
    task = load_task(name)
    pool, count = examples_of(task, 60), len(task.labels)
    shown = {"kind": kind, "samples": 3, "filter": {"model": "hashed", "rate": rate}}
    if kind == "gpt3":
        shown["count"] = 3
    encoder = drawing(toy_bpe, task, Pool(tuple(pool), SEED, embed=Hashed()), **shown)
    for query in [*examples_of(task, 3, "test"), pool[7]]:
        candidates = [example for example in pool if example.uid != query.uid]
        labels = [number_of(task, example) for example in candidates]
        vectors = [embedding(joined(example)) for example in candidates]
        kept = demonstrations_twin.similar(vectors, embedding(joined(query)), labels, count, rate)
        assert rate == 1.0 or len(kept) < len(candidates)
        for draw, found in enumerate(encoder.draws(query)):
            order = numpy_stream(SEED, "demonstrations", query.uid, draw).permutation(len(kept)).tolist()
            if kind == "gpt3":
                rows = order[:3]
            else:
                rows = demonstrations_twin.select_per_label([labels[row] for row in kept], order, count)
            assert [example.uid for example in found] == [candidates[kept[row]].uid for row in rows]


def test_texts_are_embedded_once_and_all_at_once(toy_bpe):
    task = load_task("MNLI")
    pool, queries, embed = examples_of(task, 30), examples_of(task, 5, "test"), Hashed()
    encoder = drawing(
        toy_bpe, task, Pool(tuple(pool), SEED, embed=embed), kind="per-label", samples=2, filter={"model": "hashed"}
    )
    encoder.encode_all([*queries, *pool])
    assert embed.asked == [[joined(example) for example in [*pool, *queries]]]
    assert encoder.encode(queries[0]) == encoder.encode_all(queries)[0]
    assert len(embed.asked) == 1


def test_of_equally_similar_examples_the_first_are_kept(toy_bpe):
    task = load_task("SST-2")
    pool = [Example(f"train:{row}", (f"text {row}",), str(row % 2)) for row in range(8)]
    same = Pool(tuple(pool), SEED, embed=lambda texts: np.ones((len(texts), 1)))
    encoder = drawing(toy_bpe, task, same, kind="per-label", samples=50, filter={"model": "same"})
    shown = {example.uid for draw in encoder.draws(Example("test:0", ("q",), "0")) for example in draw}
    assert shown == {"train:0", "train:1", "train:2", "train:3"}


def test_an_example_with_a_training_set_of_its_own_is_shown_that(toy_bpe):
    task = load_task("SST-2")
    pool, queries = examples_of(task, 20), examples_of(task, 2, "test")
    own = {query.uid: tuple(examples_of(task, 12, f"own {query.uid}")) for query in queries}
    both = Pool(tuple(pool), SEED, own)
    for shown in ({"kind": "per-label", "samples": 5}, {"kind": "gpt3", "count": 4, "samples": 5}):
        encoder = drawing(toy_bpe, task, both, **shown)
        for query in queries:
            drawn = {example.uid for draw in encoder.draws(query) for example in draw}
            assert drawn <= {example.uid for example in own[query.uid]}
        drawn = {example.uid for draw in encoder.draws(Example("test:9", ("q",), "0")) for example in draw}
        assert drawn <= {example.uid for example in pool}
        assert len(encoder.encode(queries[0]).ids) <= LONGEST
    alone = drawing(toy_bpe, task, replace(both, examples=()), kind="gpt3", count=4)
    assert alone.encode(queries[0]).ids == drawing(toy_bpe, task, both, kind="gpt3", count=4).encode(queries[0]).ids
