"""Tasks with text forms, for the tests of them."""

from __future__ import annotations

from typing import Any

from shoestring.data.example import Example
from shoestring.prompts.build import build_encoder
from shoestring.prompts.encoding import EncodedPrompt
from shoestring.prompts.pool import Pool
from shoestring.prompts.settings import PromptSettings
from shoestring.prompts.text import TextEncoder
from shoestring.tasks.spec import Task

FORM = {"prompt": "{{ text }} It was", "calibration": "It was"}
PET = {
    "prompt": "Input: {{ text }} Output: ",
    "answer": "{{ candidate }}",
    "demonstration": "{{ text[:5] }}\n{{ candidate }}",
    "separator": "\n\n\n",
    "strip": False,
    "end": True,
}
LABELS = [{"name": "0", "word": "bad"}, {"name": "1", "word": "good"}]


def a_task(form: dict[str, Any] | None = None, **changes: Any) -> Task:
    """Return a task of one text; `form` is its text form."""
    table: dict[str, Any] = {
        "name": "toy",
        "sentences": ["text"],
        "labels": LABELS,
        "templates": {"only": {"text": form or FORM}},
        "limits": {"max_tokens": 200},
    }
    if changes.get("kind", "classification") != "classification":
        table["labels"] = []
    return Task.model_validate(table | changes)


def encoder_of(
    task: Task, tokenizer, kind: Any = "causal", pool: Any = (), own: Any = None, **settings: Any
) -> TextEncoder:
    found = build_encoder(
        task, tokenizer, kind, PromptSettings.model_validate(settings), None, Pool(tuple(pool), 7, own or {})
    )
    assert isinstance(found, TextEncoder)
    return found


def examples(count: int, start: int = 0) -> list[Example]:
    return [Example(f"train:{n}", (f"a film {n}",), str(n % 2)) for n in range(start, start + count)]


UNEVEN = [{"name": "0", "word": "bad and dull"}, {"name": "1", "word": "good"}]
QUERY = Example("test:0", ("a film",), "1")


def sequences(prompt: EncodedPrompt) -> list[list[int]]:
    return [[*prompt.ids, *option] for option in prompt.options]
