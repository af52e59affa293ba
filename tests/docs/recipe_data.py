"""Tiny originals of the tasks that recipes begin with, and tiny models of the kinds that they name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tiny

# What the name of a recipe's model says of its architecture.
ARCHITECTURES = {"opt": "opt", "bloom": "bloom", "t5": "t5", "bert-": "bert", "roberta": "roberta"}
FEW = 24


def write_originals(root: Path) -> Path:
    """Write a folder of every first task of a recipe's variant, and return the root."""
    tiny.write_original(root, train=40, test=4)
    _tsv(root / "SST2", ("train", "dev"), "sentence\tlabel\n")
    _tsv(root / "glue-sst2", ("glue-sst2_train", "glue-sst2_dev", "glue-sst2_test"), "", ("negative", "positive"))
    words = ("entailment", "contradiction", "neutral")
    _jsonl(root / "CB", lambda n: {"premise": f"it rained {n}.", "hypothesis": "it rained", "label": words[n % 3]})
    _jsonl(
        root / "COPA",
        lambda n: {
            "premise": f"The film ended {n}.",
            "question": "effect",
            "choice1": "I left.",
            "choice2": "They stayed.",
            "label": n % 2,
        },
    )
    target = {"span1_text": "the film", "span1_index": 0, "span2_text": "it", "span2_index": 4}
    _jsonl(
        root / "WSC",
        lambda n: {"text": "the film ended and it was good", "target": target, "label": bool(n % 2), "idx": n},
    )
    question = {"question": "What ended?", "answers": [{"text": "the film"}]}
    for name, split in (("train-v1.1", 0), ("dev-v1.1", 1)):
        asked = [{"context": f"the film {split} {n} ended", "qas": [question]} for n in range(FEW)]
        _write(root / "squad" / f"{name}.json", json.dumps({"data": [{"title": "film", "paragraphs": asked}]}))
    return root


def write_models(root: Path) -> dict[str, Path]:
    """Write a tiny model of each architecture and return the folders by architecture."""
    tokenizer = tiny.bpe_tokenizer()
    kinds = {"opt": "causal", "bloom": "causal", "t5": "seq2seq", "bert": "masked", "roberta": "masked"}
    return {name: tiny.save(tiny.build_model(name, kind), tokenizer, root / name) for name, kind in kinds.items()}


def architecture_of(model: str) -> str:
    """Return which tiny model stands for a model of this name."""
    last = model.rpartition("/")[2]
    return next(found for start, found in ARCHITECTURES.items() if last.startswith(start))


def _tsv(folder: Path, names: tuple[str, ...], head: str, labels: tuple[str, str] = ("0", "1")) -> None:
    for seed, name in enumerate(names):
        lines = "".join(f"{text}\t{labels[int(label)]}\n" for text, label in tiny.rows(FEW, seed))
        _write(folder / f"{name}.tsv", head + lines)


def _jsonl(folder: Path, row: Any) -> None:
    for start, name in ((0, "train"), (100, "val")):
        _write(folder / f"{name}.jsonl", "".join(json.dumps(row(start + n)) + "\n" for n in range(FEW)))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
