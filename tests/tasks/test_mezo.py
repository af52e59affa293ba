"""The eleven tasks of the large-model experiments: how their files, and those of the hub, are read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from shoestring.data.settings import DataSettings
from shoestring.data.splits import draw
from shoestring.tasks.load import load_task, task_names

if TYPE_CHECKING:
    from pathlib import Path

    from shoestring.data.example import Splits

# Label words in the order of the candidates, templates by name (the first is the default), metric.
PUBLISHED: dict[str, tuple[dict[str, str], list[str], str]] = {
    "SST2": ({"negative": "terrible", "positive": "great"}, ["mezo"], "accuracy"),
    "RTE": ({"entailment": "Yes", "not_entailment": "No"}, ["mezo"], "accuracy"),
    "CB": ({"entailment": "Yes", "contradiction": "No", "neutral": "Maybe"}, ["mezo"], "accuracy"),
    "BoolQ": ({"true": "Yes", "false": "No"}, ["v2", "v0", "v1"], "accuracy"),
    "WSC": ({"false": "No", "true": "Yes"}, ["mezo"], "accuracy"),
    "WIC": ({"false": "No", "true": "Yes"}, ["mezo"], "accuracy"),
    "MultiRC": ({"false": "No", "true": "Yes"}, ["mezo"], "accuracy"),
    "Copa": ({}, ["mezo"], "accuracy"),
    "ReCoRD": ({}, ["gpt3", "question"], "accuracy"),
    "SQuAD": ({}, ["mezo"], "token-f1"),
    "DROP": ({}, ["mezo"], "token-f1"),
}
KINDS = {"Copa": "multiple-choice", "ReCoRD": "multiple-choice", "SQuAD": "generation", "DROP": "generation"}


def test_the_suite_is_that_of_the_paper() -> None:
    assert {*task_names("mezo")} == {f"mezo/{name}" for name in PUBLISHED}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_task_has_the_published_words_limits_and_templates(name: str) -> None:
    task = load_task(f"mezo/{name}")
    words, templates, metric = PUBLISHED[name]
    assert task.name == f"mezo/{name}"
    assert dict(zip(task.label_names, task.label_words(task.template()), strict=True)) == words
    assert list(task.templates) == templates
    assert (task.metric, task.kind) == (metric, KINDS.get(name, "classification"))
    assert task.limits.max_tokens == 2048
    for template in task.templates.values():
        assert template.text is not None
        assert (template.masked, template.causal) == (None, None)
        assert (template.text.separator, template.text.strip, template.text.end) == ("\n\n", True, False)
        assert (template.text.calibration is None) == (task.kind == "generation")
    assert (task.generation is not None) == (task.kind == "generation")
    assert {golden.template or templates[0] for golden in task.golden} == {*templates}
    assert task.sources.files is not None
    assert task.sources.hub is not None


def test_answers_are_generated_as_published() -> None:
    for name in ("SQuAD", "DROP"):
        generation = load_task(name).generation
        assert generation is not None
        assert (generation.max_new_tokens, generation.stop) == (50, "\n")


def drawn(name: str, source: Path, **changes: object) -> Splits:
    given = {"source": str(source), "mode": "subset", "num_train": 1000, "num_dev": 500, "num_eval": 1000} | changes
    return draw(load_task(f"mezo/{name}"), DataSettings.model_validate(given), 0)


@pytest.mark.parametrize(
    ("name", "num_dev", "sizes"),
    [
        ("RTE", 500, (1000, 500, 277)),
        ("CB", 100, (150, 100, 56)),
        ("WSC", 500, (54, 500, 104)),
        ("WIC", 500, (1000, 500, 638)),
        ("MultiRC", 500, (1000, 500, 1000)),
        ("Copa", 100, (300, 100, 100)),
    ],
)
def test_superglues_own_files_give_the_published_sizes(
    name: str, num_dev: int, sizes: tuple[int, int, int], shared: Path
) -> None:
    splits = drawn(name, shared / "superglue", num_dev=num_dev)
    assert (len(splits.train), len(splits.dev), len(splits.tests["test"])) == sizes
    everything = (*splits.train, *splits.dev, *splits.tests["test"])
    assert {example.label for example in everything} >= {*load_task(f"mezo/{name}").label_names}


def test_sst2_is_read_from_lm_bffs_file(shared: Path) -> None:
    splits = drawn("SST2", shared / "lm-bff")
    assert (len(splits.train), len(splits.dev), len(splits.tests["test"])) == (1000, 500, 872)
    line = (shared / "lm-bff" / "SST-2" / "original" / "train.tsv").read_text().splitlines()
    text, label = line[1 + int(splits.train[0].uid.partition(":")[2])].split("\t")
    assert (splits.train[0].sentences, splits.train[0].label) == ((text,), ("negative", "positive")[int(label)])


def test_boolq_is_evaluated_without_a_training_file(shared: Path) -> None:
    splits = drawn("BoolQ", shared / "superglue", num_train=0, num_dev=None)
    assert (splits.train, splits.dev, len(splits.tests["test"])) == ((), (), 1000)
    rows = [json.loads(line) for line in (shared / "superglue" / "BoolQ" / "val.jsonl").read_text().splitlines()]
    for example in splits.tests["test"]:
        row = rows[int(example.uid.partition(":")[2])]
        assert example.sentences == (row["passage"], row["question"])
        assert example.label == str(row["label"]).lower()


def rows_of(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_multirc_has_a_row_for_each_answer(shared: Path) -> None:
    tests = drawn("MultiRC", shared / "superglue", num_train=0, num_dev=None, num_eval=None).tests["test"]
    wanted = [
        ((row["passage"]["text"], question["question"], answer["text"]), ("false", "true")[answer["label"]])
        for row in rows_of(shared / "superglue" / "MultiRC" / "val.jsonl")
        for question in row["passage"]["questions"]
        for answer in question["answers"]
    ]
    assert [(example.sentences, example.label) for example in tests] == wanted
    assert len(tests) == 4848  # as on the hub


def test_wsc_has_its_spans_in_the_capitals_of_the_text(shared: Path) -> None:
    rows = rows_of(shared / "superglue" / "WSC" / "train.jsonl")
    splits = drawn("WSC", shared / "superglue")
    changed = 0
    for example in (*splits.train, *splits.dev):
        row = rows[int(example.uid.partition(":")[2])]
        text, *spans = example.sentences
        given = [row["target"]["span1_text"], row["target"]["span2_text"]]
        assert text == row["text"]
        assert all(span in text or span == own for span, own in zip(spans, given, strict=True))
        changed += spans != given
    assert changed == 88


def test_copa_has_two_choices_and_the_right_one(shared: Path) -> None:
    rows = rows_of(shared / "superglue" / "COPA" / "val.jsonl")
    for example in drawn("Copa", shared / "superglue", num_train=0, num_dev=None).tests["test"]:
        row = rows[int(example.uid.partition(":")[2])]
        assert example.sentences == (row["premise"], row["question"])
        assert example.candidates == (row["choice1"], row["choice2"])
        assert example.golds == (row[f"choice{row['label'] + 1}"],)


def test_record_has_each_entity_once(shared: Path) -> None:
    path = shared / "superglue" / "fewglue32" / "ReCoRD" / "train.jsonl"
    tests = drawn("ReCoRD", path, num_train=0, num_dev=None, num_eval=None).tests["test"]
    queries = [(row["passage"], query) for row in rows_of(path) for query in row["qas"]]
    assert len(tests) == len(queries)
    for example, (passage, query) in zip(tests, queries, strict=True):
        assert example.sentences == (passage["text"], query["query"])
        spans = {passage["text"][span["start"] : span["end"] + 1] for span in passage["entities"]}
        assert example.candidates == tuple(sorted(spans))
        assert example.golds == tuple(sorted({answer["text"] for answer in query["answers"]}))


def test_squad_and_drop_are_read_from_one_file_each(shared: Path) -> None:
    squad = drawn("SQuAD", shared / "squad" / "xquad.en.json", num_train=0, num_dev=None, num_eval=None).tests["test"]
    assert len(squad) == 1190
    assert squad[0].sentences[0] == "Super_Bowl_50"
    assert squad[0].sentences[2] == "How many points did the Panthers defense surrender?"
    assert squad[0].golds == ("308",)
    drop = drawn("DROP", shared / "drop" / "drop_contrast_sets_test.json", num_train=16, num_dev=None)
    assert (len(drop.train), len(drop.tests["test"])) == (16, 926)  # 5 of 947 have two kinds of answers
    assert all(example.golds[0] for example in (*drop.train, *drop.tests["test"]))
