"""The test examples that a run found hardest: their prompts are kept, for reports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from shoestring.models.prompted import predictions
from shoestring.tasks.metrics import METRICS

if TYPE_CHECKING:
    from torch import Tensor

    from shoestring.prompts.encoding import EncodedPrompt
    from shoestring.tasks.spec import Task

KEPT = 32
"""Prompts kept of each test set."""
_HEAD, _TAIL, _GAP = 300, 1500, " […] "


def hardest(
    task: Task, prompts: Sequence[EncodedPrompt], scores: Tensor, texts: Sequence[str] | None = None, count: int = KEPT
) -> set[int]:
    """Return the numbers of the `count` examples whose right answer fared worst, of equals the first.

    With scores s [N, C]: the least softmax(s) of a right candidate; for regression the largest distance; of written
    answers [N] the least worth by the main metric, of equals the least mean log p of the right one.
    """
    if texts is not None:
        worths = METRICS.get(task.metric).worths(texts, [prompt.golds for prompt in prompts])
        order = [(worth, float(row[0])) for worth, row in zip(worths, scores, strict=True)]
    elif task.range is not None:
        found = predictions(task, scores).tolist()
        order = [(-abs(value - prompt.label), 0.0) for value, prompt in zip(found, prompts, strict=True)]
    else:
        shares = scores.softmax(-1)
        right = [list(prompt.right) or [int(prompt.label)] for prompt in prompts]
        order = [(float(row[numbers].max()), 0.0) for row, numbers in zip(shares, right, strict=True)]
    return set(sorted(range(len(order)), key=order.__getitem__)[:count])


def prompt_text(tokenizer: Any, prompt: EncodedPrompt) -> str:
    """Return what the model read, special tokens included; of a long one the beginning and the end."""
    text = str(tokenizer.decode(list(prompt.ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))
    return text if len(text) <= _HEAD + _TAIL else text[:_HEAD] + _GAP + text[-_TAIL:]
