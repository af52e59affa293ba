"""Runs taken up again: they answer their own test examples, and new texts, as they did."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from shoestring import load_run
from shoestring.data.splits import draw
from shoestring.errors import DataError, RunFolderError
from shoestring.runs.config import RunConfig
from shoestring.runs.loaded import Answer
from shoestring.runs.run import run

pytestmark = pytest.mark.usefixtures("frozen_imports")

STEPS = {"steps": 3, "batch_size": 4, "eval_every": 3, "select": "last"}
ADAM, MEZO = {"kind": "adam", "lr": 3e-2, **STEPS}, {"kind": "mezo", "lr": 1e-3, **STEPS}
SHOWN = {"demonstrations": {"kind": "per-label", "samples": 2}}
LEARNT: dict[str, dict[str, Any]] = {
    "zero-shot": {"method": {"kind": "zero-shot"}},
    "adam, kept": {"method": ADAM, "keep": True},
    "lora, kept": {"method": ADAM, "tuning": {"kind": "lora", "r": 2}, "keep": True},
    "mezo, from its log": {"method": MEZO},
    "in-context": {"method": {"kind": "in-context"}, "prompt": SHOWN},
    "linear probe": {"method": {"kind": "linear-probe"}},
    "kernel": {"method": {"kind": "kernel"}},
}


def made(model: Path, data: Path, place: Path, *, keep: bool = False, **sections: Any) -> RunConfig:
    """Make a run and return its config."""
    config = tiny.config(model, data, place, output={"folder": str(place), "keep_model": keep}, **sections)
    run(config)
    return config


def rows(config: RunConfig) -> list[dict[str, Any]]:
    """Return the rows of a run's test predictions."""
    lines = (config.folder / "predictions.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["split"] == "test"]


@pytest.mark.parametrize("name", LEARNT)
def test_a_run_answers_its_test_set_again(
    tiny_masked_folder: Path, tiny_original: Path, tmp_path: Path, name: str
) -> None:
    config = made(tiny_masked_folder, tiny_original, tmp_path, **LEARNT[name])
    test = draw(config.task, config.data, config.seed).tests["test"]
    found = list(load_run(config.folder).answers(test, batch_size=3))
    wanted = rows(config)
    assert [answer.prediction for answer in found] == [row["prediction"] for row in wanted]
    scores = torch.tensor([list((answer.scores or {}).values()) for answer in found])
    torch.testing.assert_close(scores, torch.tensor([row["scores"] for row in wanted]), rtol=1e-4, atol=1e-4)


@pytest.fixture
def zero_shot(tiny_masked_folder: Path, tiny_original: Path, tmp_path: Path) -> RunConfig:
    return made(tiny_masked_folder, tiny_original, tmp_path, method={"kind": "zero-shot"})


def test_rows_are_texts_or_named_texts(zero_shot: RunConfig) -> None:
    loaded = load_run(zero_shot.folder)
    test = draw(zero_shot.task, zero_shot.data, zero_shot.seed).tests["test"][:2]
    (name,) = loaded.task.sentences
    plain = loaded.predict([example.sentences[0] for example in test])
    assert plain == loaded.predict([{name: example.sentences[0], "id": 7} for example in test])
    assert [answer.prediction for answer in plain] == [row["prediction"] for row in rows(zero_shot)[:2]]
    first = plain[0]
    assert first.scores is not None
    shares = torch.tensor(list(first.scores.values())).softmax(-1)
    assert first.probability == pytest.approx(float(shares.max()))
    assert max(first.scores, key=first.scores.__getitem__) == first.prediction
    with pytest.raises(DataError, match=r"rows, line 2: the text 'sentence' is missing; did you mean 'sentense'\?"):
        loaded.predict(["fine", {"sentense": "fine"}])


def test_a_run_that_learnt_in_its_weights_needs_its_data_no_more(
    tiny_masked_folder: Path, tiny_original: Path, tmp_path: Path
) -> None:
    data = shutil.copytree(tiny_original, tmp_path / "data")
    config = made(tiny_masked_folder, data, tmp_path, method=MEZO)
    before = load_run(config.folder).predict(["a fine film"])
    shutil.rmtree(data)
    assert load_run(config.folder).predict(["a fine film"]) == before


def test_a_probe_whose_data_changed_is_refused(tiny_masked_folder: Path, tiny_original: Path, tmp_path: Path) -> None:
    data = shutil.copytree(tiny_original, tmp_path / "data")
    config = made(tiny_masked_folder, data, tmp_path, method={"kind": "linear-probe"})
    for path in data.rglob("train.tsv"):
        path.write_text(path.read_text().replace("a", "e"))
    with pytest.raises(RunFolderError, match="the data that it learnt from has changed since"):
        load_run(config.folder)


def test_another_base_model_is_refused(zero_shot: RunConfig, tiny_bert_folder: Path) -> None:
    with pytest.raises(RunFolderError, match="was made with other weights than those of"):
        load_run(zero_shot.folder, model=str(tiny_bert_folder))


def test_a_run_by_gradients_that_kept_nothing_is_refused(
    tiny_masked_folder: Path, tiny_original: Path, tmp_path: Path
) -> None:
    config = made(tiny_masked_folder, tiny_original, tmp_path, method=ADAM)
    with pytest.raises(RunFolderError, match=r"did not keep its model, .* run it again with output\.keep_model=true"):
        load_run(config.folder)


def test_an_answer_has_a_title_only_where_its_label_has_one() -> None:
    assert Answer("positive", title="").row() == {"prediction": "positive"}
    assert Answer("1", title="positive").row() == {"prediction": "1", "title": "positive"}
