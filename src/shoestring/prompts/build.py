"""The encoder that a task, a kind of model and the prompt settings ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shoestring.prompts.encoding import Encoder, PromptEncoder
from shoestring.prompts.pool import Pool

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from shoestring.prompts.settings import Kind, PromptSettings
    from shoestring.tasks.spec import Task


def build_encoder(
    task: Task,
    tokenizer: PreTrainedTokenizerBase,
    kind: Kind,
    settings: PromptSettings,
    model_max_tokens: int | None = None,
    pool: Pool | None = None,
) -> Encoder:
    """Return the encoder of a run.

    Args:
        task: the task.
        tokenizer: a transformers tokenizer.
        kind: family of the model.
        settings: template, label words, limits, demonstrations, calibration.
        model_max_tokens: longest input of the model, where the tokenizer does not know it.
        pool: what demonstrations are drawn from; none, where there are no labelled examples.

    Raises:
        ShoestringError: a subclass names each mistake.
    """
    return PromptEncoder(task, tokenizer, kind, settings, model_max_tokens)
