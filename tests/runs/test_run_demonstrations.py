"""Runs that show demonstrations, ask in several ways, or calibrate, from config to record."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import tiny
from shoestring.errors import ConfigError, DataError, ModelError
from shoestring.runs.run import run

pytestmark = pytest.mark.usefixtures("frozen_imports")
OTHER = "*cls*So*+sent_0*_It_is*mask*.*sep+*"
PER_LABEL: dict[str, Any] = {"kind": "per-label", "samples": 2}
IN_CONTEXT: dict[str, Any] = {"kind": "in-context"}


def scores(folder: Path) -> list[list[float]]:
    lines = (folder / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["scores"] for line in lines]


@pytest.mark.parametrize(
    "prompt",
    [
        {"demonstrations": PER_LABEL},
        {"demonstrations": {"kind": "gpt3", "count": 2}},
        {"demonstrations": PER_LABEL, "templates": ["lm-bff", OTHER]},
        {"demonstrations": PER_LABEL, "calibration": "contextual"},
    ],
    ids=["per label", "gpt3", "templates", "calibrated"],
)
def test_a_run_in_context_scores_without_training(
    prompt: dict[str, Any], tiny_masked_folder: Path, tiny_original: Path, tmp_path: Path
) -> None:
    # Answers are in the middle of longer inputs: all of them fit.
    prompt = prompt | {"max_tokens": 64, "truncate": "sentence"}
    made = tiny.config(tiny_masked_folder, tiny_original, tmp_path / "runs", method=IN_CONTEXT, prompt=prompt)
    record = run(made)
    assert record.status == "ok"
    assert record.passes is not None
    assert record.passes.forward == 0
    assert record.weights is not None
    found = scores(made.folder)
    plain = tiny.config(tiny_masked_folder, tiny_original, tmp_path / "runs", method={"kind": "zero-shot"})
    run(plain)
    assert len(found) == len(scores(plain.folder))
    assert found != scores(plain.folder)
    again = run(made, force=True)
    assert again.metrics == record.metrics
    assert scores(made.folder) == found


def test_one_example_a_label_is_enough_to_be_shown_and_too_few_to_train_with(
    tiny_masked_folder: Path, tiny_original: Path, tmp_path: Path
) -> None:
    sections: dict[str, Any] = {"data": {"k": 1}, "prompt": {"demonstrations": PER_LABEL, "truncate": "sentence"}}
    sections["prompt"]["max_tokens"] = 64
    assert run(tiny.config(tiny_masked_folder, tiny_original, tmp_path, method=IN_CONTEXT, **sections)).status == "ok"
    with pytest.raises(DataError, match=r"which is not shown to itself, there is none of label '[01]'; raise data\.k"):
        run(tiny.config(tiny_masked_folder, tiny_original, tmp_path, **sections))


def test_a_training_with_demonstrations_ends_with_other_weights_than_one_without(
    tiny_masked_folder: Path, tiny_original: Path, tmp_path: Path
) -> None:
    prompt = {"demonstrations": PER_LABEL, "max_tokens": 64, "truncate": "sentence"}
    shown = tiny.config(tiny_masked_folder, tiny_original, tmp_path, prompt=prompt)
    found = run(shown)
    plain = run(tiny.config(tiny_masked_folder, tiny_original, tmp_path))
    assert found.status == plain.status == "ok"
    assert found.passes == plain.passes
    assert found.metrics["dev"]["loss"] != plain.metrics["dev"]["loss"]


def test_demonstrations_most_like_the_query_are_found_with_an_encoder(
    tiny_masked_folder: Path, tiny_bert_folder: Path, tiny_original: Path, tmp_path: Path
) -> None:
    def made(**rule: Any) -> Any:
        demonstrations = {"kind": "per-label", "samples": 4} | ({"filter": rule} if rule else {})
        prompt = {"demonstrations": demonstrations, "max_tokens": 64, "truncate": "sentence"}
        return tiny.config(tiny_masked_folder, tiny_original, tmp_path, method=IN_CONTEXT, prompt=prompt)

    near = made(model=str(tiny_bert_folder), rate=0.25)
    run(near)
    run(made())
    assert scores(near.folder) != scores(made().folder)
    with pytest.raises(ModelError, match=r"prompt\.demonstrations\.filter: model\.name='\./none'"):
        run(made(model="./none"))


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"method": IN_CONTEXT},
            "method.kind='in-context' needs prompt.demonstrations, such as { kind = 'per-label' }",
        ),
        (
            {"method": IN_CONTEXT, "task": "mezo/SST2", "model": {"kind": "causal", "name": "x"}},
            "method.kind='in-context' needs prompt.demonstrations, such as { kind = 'in-context' }",
        ),
        (
            {"method": {"kind": "zero-shot"}, "prompt": {"demonstrations": PER_LABEL}},
            "method.kind='zero-shot' shows no demonstrations; prompt.demonstrations is for 'in-context'",
        ),
        (
            {"prompt": {"template": "*cls*_It_was*mask*.*sep+*"}},
            "template 'given in the settings' (masked) shows no text, so every prompt is the same; write *sent_0*",
        ),
        (
            {"prompt": {"template": "lm-bff", "templates": ["lm-bff"]}},
            "prompt.template and prompt.templates are both given; one is enough",
        ),
        (
            {"model": {"kind": "head", "name": "x"}, "prompt": {"demonstrations": PER_LABEL}},
            "prompt.demonstrations has no effect: a model with a classification head takes no prompt",
        ),
        (
            {"prompt": {"demonstrations": PER_LABEL | {"as_published": True}}},
            "prompt.demonstrations as_published is about regression, and task SST-2 is of kind classification",
        ),
        (
            {"prompt": {"calibration": "surface-form"}},
            "template 'lm-bff' (masked) has no calibration prompt, which prompt.calibration=surface-form needs",
        ),
        ({"prompt": {"demonstrations": {"kind": "per-lable"}}}, "there is no 'per-lable'; did you mean 'per-label'?"),
    ],
)
def test_what_cannot_be_asked_that_way_is_refused_with_the_config(sections: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        tiny.config(Path("model"), Path("data"), Path("runs"), **sections)
