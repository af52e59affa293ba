"""From scores and written answers to metrics."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from shoestring.errors import NonFiniteScoreError
from shoestring.models.prompted import PromptedModel, predictions
from shoestring.prompts.encoding import EncodedPrompt
from shoestring.tasks.metrics import compute, compute_texts
from shoestring.tasks.spec import Task


def evaluate(
    task: Task, prompts: Sequence[EncodedPrompt], scores: Tensor, texts: Sequence[str] | None = None
) -> dict[str, float]:
    """Return the task's metrics and the `loss`.

    The loss is the cross-entropy over the candidates (the first right one, of several), or for regression the mean
    squared error of the predicted value. Of a generation task the metrics are those of the written answers, and the
    loss is the mean of -log p over all tokens of the right ones (the first of several).

    Args:
        task: the task.
        prompts: N encoded prompts.
        scores: of the candidates [N, C]; of a generation task, mean log p of the right answer's tokens [N, 1].
        texts: written answers [N], of a generation task; without them there are no metrics, and only the loss.

    Raises:
        NonFiniteScoreError: if a score is NaN or infinite; names the examples.
    """
    bad = [prompt.uid for prompt, row in zip(prompts, scores, strict=True) if not _finite(prompt, row)]
    if bad:
        raise NonFiniteScoreError(bad)
    if not task.has_scores:
        lengths = torch.tensor([prompt.scored_lengths[0] for prompt in taught(prompts)], dtype=scores.dtype)
        found = {} if texts is None else compute_texts(task.metrics, texts, [prompt.golds for prompt in prompts])
        return {**found, "loss": float(-(scores[:, 0] * lengths).sum() / lengths.sum())}
    predicted = predictions(task, scores)
    labels = torch.tensor([prompt.label for prompt in prompts])
    if task.range is None:
        loss = functional.cross_entropy(scores, labels)
    else:
        loss = functional.mse_loss(predicted, labels.to(predicted.dtype))
    numbers = predicted.tolist()
    targets = [
        number if number in prompt.right else prompt.label for number, prompt in zip(numbers, prompts, strict=True)
    ]
    return {**compute(task.metrics, numbers, targets), "loss": float(loss)}


def answers_of(
    subject: PromptedModel, prompts: Sequence[EncodedPrompt], batch_size: int, *, write: bool = True
) -> tuple[Tensor, list[str] | None]:
    """Return what `evaluate` takes: scores [N, C], and of a generation task the written answers [N].

    Args:
        subject: the model and its task.
        prompts: N encoded prompts.
        batch_size: most prompts of a batch.
        write: whether answers are written at all.
    """
    if subject.task.has_scores:
        return subject.predict(prompts, batch_size), None
    return subject.predict(taught(prompts), batch_size), subject.generate(prompts, batch_size) if write else None


def taught(prompts: Sequence[EncodedPrompt]) -> list[EncodedPrompt]:
    """Return the inputs whose right answers are scored, of a generation task: those that are trained on."""
    return [prompt.taught or prompt for prompt in prompts]


def _finite(prompt: EncodedPrompt, row: Tensor) -> bool:
    """Return whether the candidates that are there have finite scores; one that is not there scores -inf."""
    return bool(torch.isfinite(row[: len(prompt.options) or None]).all())
