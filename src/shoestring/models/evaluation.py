"""From scores to metrics."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from shoestring.errors import NonFiniteScoreError
from shoestring.models.prompted import predictions
from shoestring.prompts.encoding import EncodedPrompt
from shoestring.tasks.metrics import compute
from shoestring.tasks.spec import Task


def evaluate(task: Task, prompts: Sequence[EncodedPrompt], scores: Tensor) -> dict[str, float]:
    """Return the task's metrics and the `loss` of scores [N, C].

    The loss is the cross-entropy over the candidates (the first right one, of several), or for regression the mean
    squared error of the predicted value.

    Raises:
        NonFiniteScoreError: if a score is NaN or infinite; names the examples.
    """
    bad = [prompt.uid for prompt, row in zip(prompts, scores, strict=True) if not _finite(prompt, row)]
    if bad:
        raise NonFiniteScoreError(bad)
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


def _finite(prompt: EncodedPrompt, row: Tensor) -> bool:
    """Return whether the candidates that are there have finite scores; one that is not there scores -inf."""
    return bool(torch.isfinite(row[: len(prompt.options) or None]).all())
