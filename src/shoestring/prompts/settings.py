"""What a recipe may say about prompts."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt

from shoestring.config import Settings

Kind = Literal["masked", "causal", "head"]
Truncate = Literal["tail", "sentence", "error"]


class PromptSettings(Settings):
    """How examples become model inputs. The defaults are the task file's own template, words and limits."""

    template: str | None = None
    """Name of one of the task's templates; or a template's text, such as `*cls**sent_0*_It_was*mask*.*sep+*` (whatever
    has a star in it is a text). Without it, the task's first template."""
    answer: str | None = None
    """How the label word continues a causal prompt, such as ` {word}`. Without it, the template's own."""
    label_words: dict[str, str] = Field(default_factory=dict)
    """Label words by label name, where they differ from the template's and the task's own."""
    max_tokens: PositiveInt | None = None
    """Longest whole input. Without it, the task's `limits.max_tokens`; never more than the model can read."""
    truncate: Truncate | None = None
    """What happens to a longer input. `tail`, as published: its end is cut off, which is an error where the mask or,
    for causal models, the end of the template would go. `sentence`: the longest sentence loses tokens at its end, and
    the template stays whole. `error`: nothing is cut. By default `sentence` for causal models, whose template ends
    with the question, and `tail` for the others. Records count the examples that were cut."""
