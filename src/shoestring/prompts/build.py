"""The encoder that a task, a kind of model and the prompt settings ask for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from shoestring.errors import TemplateError
from shoestring.prompts.choose import choose
from shoestring.prompts.demonstrations.drawing import Drawer
from shoestring.prompts.demonstrations.encoder import DemonstrationEncoder
from shoestring.prompts.demonstrations.templated import Templated
from shoestring.prompts.encoding import Encoder, PromptEncoder
from shoestring.prompts.ensemble import Ensemble
from shoestring.prompts.pool import Pool
from shoestring.seeds import derive

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

    def one(asked: PromptSettings, pool: Pool) -> Encoder:
        """Return the encoder of one template."""
        shown = asked.demonstrations
        if kind != "head" and not isinstance(shown, Templated) and choose(task, kind, asked).form == "text":
            from shoestring.prompts.text import TextEncoder

            return TextEncoder(task, tokenizer, kind, asked, model_max_tokens, pool)
        encoder = PromptEncoder(task, tokenizer, kind, asked, model_max_tokens)
        return DemonstrationEncoder(encoder, Drawer(shown, task, pool)) if isinstance(shown, Templated) else encoder

    pool = Pool() if pool is None else pool
    if not settings.templates or kind == "head":
        return one(settings, pool)
    if settings.template is not None:
        raise TemplateError(f"task {task.name}: prompt.template and prompt.templates are both given; one is enough")
    ways: list[Encoder] = []
    for number, name in enumerate(settings.templates):
        # Each template has draws of its own.
        own = pool if number == 0 else replace(pool, seed=derive(pool.seed, "template", number))
        ways.append(one(settings.model_copy(update={"template": name, "templates": ()}), own))
    return Ensemble(ways)
