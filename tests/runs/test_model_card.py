"""Model cards: what hubs read, and that every number is the record's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

import tiny
from shoestring.runs.config import RunConfig
from shoestring.runs.export import export_run
from shoestring.runs.model_card import model_card
from shoestring.runs.record import read_record
from shoestring.runs.run import run
from shoestring.tasks.wording import Template

pytestmark = pytest.mark.usefixtures("frozen_imports")
STEPS = {"steps": 2, "batch_size": 4, "eval_every": 2, "lr": 1e-3}


def exported(base: Path, data: Path, place: Path, /, **sections: Any) -> tuple[RunConfig, ModelCard, str]:
    """Make a run, export it, and return its config, its card as the hub's own reader has it, and the card's text."""
    output = {"folder": str(place / "runs"), "keep_model": True}
    config = tiny.config(base, data, place, output=output, **sections)
    run(config)
    export_run(config.folder, place / "out")
    card = place / "out" / "README.md"
    return config, ModelCard.load(card), card.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("sections", "library"),
    [
        ({"method": {"kind": "mezo", **STEPS}}, "transformers"),
        ({"method": {"kind": "adam", **STEPS}, "tuning": {"kind": "lora", "r": 2}}, "peft"),
    ],
    ids=["model", "adapter"],
)
def test_a_card_says_what_the_record_says(
    tiny_masked_folder: Path, tiny_original: Path, tmp_path: Path, sections: dict[str, Any], library: str
) -> None:
    config, card, text = exported(tiny_masked_folder, tiny_original, tmp_path, **sections)
    record = read_record(config.folder)
    assert record is not None
    assert record.split is not None
    assert record.weights is not None
    about = card.data.to_dict()
    assert about["library_name"] == library
    assert about["pipeline_tag"] == "fill-mask"
    assert about["tags"] == ["shoestring", config.method.kind, config.tuning.kind]
    assert "base_model" not in about  # a folder of somebody's machine
    results = card.data.eval_results  # pyright: ignore[reportAttributeAccessIssue]
    found = {one.metric_type: one.metric_value for one in results}
    assert found == pytest.approx(record.metrics["test"], abs=1e-6)
    assert f"{record.weights.trained:,} of {record.weights.total:,} weights were trained" in text
    accuracy = f"{100 * record.metrics['test']['accuracy']:.1f}"
    assert f"| test | {record.split.tests['test']} | {accuracy} |" in text
    assert str(config.task.template().masked) in text
    for label in config.task.labels:
        assert f"`{label.word}`" in text
    assert f"{record.split.train} training examples" in text
    assert record.run_id in text
    assert "selected on dev" in text
    assert str(tiny_original) not in text


def test_a_head_reads_bare_sentences_and_the_last_step_may_be_kept(
    tiny_masked_folder: Path, tiny_original: Path, tmp_path: Path
) -> None:
    method = {"kind": "adam", **STEPS, "select": "last"}
    model = {"kind": "head", "name": str(tiny_masked_folder)}
    config, card, text = exported(tiny_masked_folder, tiny_original, tmp_path, method=method, model=model)
    assert card.data.to_dict()["pipeline_tag"] == "text-classification"
    assert "The classification head reads the bare sentences." in text
    assert "those of the last step" in text
    assert f"`{config.task.labels[0].word}`" not in text


def test_a_hub_model_and_data_set_are_named(tiny_masked_folder: Path, tiny_original: Path, tmp_path: Path) -> None:
    config, _, _ = exported(tiny_masked_folder, tiny_original, tmp_path, method={"kind": "mezo", **STEPS})
    record = read_record(config.folder)
    assert record is not None
    model = config.model.model_copy(update={"name": "roberta-large"})
    data = config.data.model_copy(update={"source": None})
    prompt = config.prompt.model_copy(update={"template": "*cls**sent_0*_Well*mask*.*sep+*"})
    text = model_card(record, config.model_copy(update={"model": model, "data": data, "prompt": prompt}), "model")
    card = ModelCard(text)
    assert card.data.to_dict()["base_model"] == "roberta-large"
    assert card.data.to_dict()["datasets"] == ["nyu-mll/glue"]
    assert "*cls**sent_0*_Well*mask*.*sep+*" in text
    assert "Settings of the prompt" in text


def test_label_words_and_form_are_those_that_the_run_asked_with(
    tiny_masked_folder: Path, tiny_original: Path, tmp_path: Path
) -> None:
    config, _, _ = exported(tiny_masked_folder, tiny_original, tmp_path, method={"kind": "mezo", **STEPS})
    record = read_record(config.folder)
    assert record is not None
    first, second = config.task.label_names
    other = Template(masked="*cls**sent_0*_So*mask*.*sep+*", label_words={first: "dire", second: "fine"})
    task = config.task.model_copy(update={"templates": {**config.task.templates, "other": other}})

    def card(**prompt: Any) -> str:
        asked = config.prompt.model_copy(update=prompt)
        return model_card(record, config.model_copy(update={"task": task, "prompt": asked}), "model")

    named = card(template="other")
    assert "*_So*mask*" in named
    assert f"`{second}` (" in named
    assert ": `fine`" in named
    assert f"`{config.task.labels[1].word}`" not in named
    assert ": `superb`" in card(label_words={second: "superb"})
    both = card(templates=("other", next(iter(task.templates))))
    assert "`fine`" not in both
    assert "Labels: " in both
