"""What prompt settings ask for in vain is said before any data are read."""

from __future__ import annotations

from typing import Any

import pytest

from prompts.texts import a_task
from shoestring.prompts.problems import prompt_problems
from shoestring.prompts.settings import PromptSettings
from shoestring.tasks.load import load_task
from shoestring.tasks.spec import Task

WRITTEN = a_task({"prompt": "{{ text }}"}, kind="generation", metrics=["exact-match"])
SHOWN = {"kind": "in-context"}


def problems(task: Task, kind: Any, **settings: Any) -> list[str]:
    return prompt_problems(task, kind, PromptSettings.model_validate(settings))


def test_what_goes_together_is_no_problem():
    assert problems(a_task(), "causal") == []
    assert problems(a_task(), "causal", demonstrations=SHOWN, calibration="surface-form", begin="<s>") == []
    assert problems(a_task(), "seq2seq", truncate="tail", label_words={"0": "dull"}) == []
    assert problems(load_task("SST-2"), "masked", demonstrations={"kind": "per-label"}) == []
    assert problems(WRITTEN, "causal", demonstrations=SHOWN) == []
    assert problems(a_task(), "head", max_tokens=20, truncate="tail") == []


@pytest.mark.parametrize(
    ("task", "kind", "settings", "message"),
    [
        (
            a_task(),
            "head",
            {"calibration": "contextual"},
            "prompt.calibration has no effect: a model with a classification",
        ),
        (
            a_task(),
            "head",
            {"demonstrations": SHOWN},
            "prompt.demonstrations has no effect: a model with a classification",
        ),
        (a_task(), "causal", {"template": "only", "templates": ["only"]}, "are both given; one is enough"),
        (
            a_task(),
            "causal",
            {"templates": ["only", "olny"]},
            "prompt: task toy: unknown template 'olny'; did you mean",
        ),
        (a_task(), "causal", {"calibration_demonstrations": False}, "has no effect without prompt.calibration and"),
        (a_task(), "causal", {"label_words": {"2": "x"}}, "prompt.label_words: unknown label '2'. Allowed: 0, 1"),
        (a_task(), "causal", {"label_words": {"0": "good"}}, "its word 'good' is the same label word"),
        (a_task(), "causal", {"template": "{{ txt }}"}, "'txt' is no text of the task; did you mean 'text'"),
        (a_task(), "causal", {"truncate": "sentence"}, "prompt.truncate=sentence cuts sentences"),
        (a_task(), "causal", {"demonstrations": {"kind": "gpt3"}}, "prompt.demonstrations of kind 'gpt3' are not for"),
        (a_task(), "masked", {}, "template 'only' has no masked form"),
        (
            a_task({"prompt": "x"}),
            "causal",
            {"calibration": "surface-form"},
            "template 'only' of task toy has no text.cal",
        ),
        (
            load_task("SST-2"),
            "causal",
            {"begin": "<s>"},
            "prompt.begin has no effect: it is for text forms, and template",
        ),
        (
            load_task("SST-2"),
            "causal",
            {"demonstrations": SHOWN},
            "of kind 'in-context' are for templates with a text form",
        ),
        (load_task("SST-2"), "masked", {"calibration": "surface-form"}, "calibration"),
        (WRITTEN, "causal", {"score": "sum"}, "prompt.score has no effect: answers of toy are written"),
        (
            WRITTEN,
            "causal",
            {"calibration": "contextual"},
            "prompt.calibration has no effect: answers of toy are written",
        ),
        (
            WRITTEN,
            "causal",
            {"demonstrations": SHOWN | {"samples": 2}},
            "prompt.demonstrations.samples averages scores",
        ),
        (WRITTEN, "causal", {"label_words": {"0": "x"}}, "prompt.label_words: unknown label '0'"),
    ],
)
def test_what_is_asked_for_in_vain_is_named(task, kind, settings, message):
    found = problems(task, kind, **settings)
    assert any(message in text for text in found), found
