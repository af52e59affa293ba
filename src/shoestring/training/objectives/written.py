"""Metrics of written answers, which have no gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from shoestring.errors import NonFiniteScoreError
from shoestring.models.batch import Batch
from shoestring.models.prompted import PromptedModel
from shoestring.prompts.encoding import EncodedPrompt
from shoestring.tasks.metrics import METRICS
from shoestring.tasks.spec import Kind
from shoestring.training.objective import OBJECTIVES, Objective

_PROMPTS = "prompts"


class Written(Objective):
    """L = -(mean of what the greedily written answers of the batch are worth), of a metric of texts.

    The right answers are no part of the input. Piecewise constant in the weights, so only zeroth-order methods can use
    it; larger batches make it finer.

    Args:
        name: of the metric.

    Source: Malladi et al. 2023 (MeZO), section 3.3 (F1 of SQuAD).
    """

    differentiable = False
    needs_vocabulary = True
    repeats = False  # How long an answer becomes, and so what is computed, differs from point to point.
    kinds: ClassVar[frozenset[Kind]] = frozenset({"generation"})

    def __init__(self, name: str) -> None:
        self.metric = METRICS.get(name)

    def prepare(self, batch: Batch, prompts: Sequence[EncodedPrompt]) -> Batch:
        """Return the batch with its prompts: right answers are texts."""
        whole: dict[str, Any] = {**batch, _PROMPTS: list(prompts)}  # No tensor, but N long and cut like one.
        return whole

    def losses(self, subject: PromptedModel, batch: Batch) -> Tensor:
        """Return minus what the answers are worth [N]; NaN where the model's scores are no numbers."""
        prompts = cast("list[EncodedPrompt]", batch[_PROMPTS])
        try:
            texts = subject.generate(prompts, len(prompts), greedy=True)
        except NonFiniteScoreError as error:
            worths = [float("nan") if prompt.uid in error.examples else 0.0 for prompt in prompts]
        else:
            worths = self.metric.worths(texts, [prompt.golds for prompt in prompts])
        return -torch.tensor(worths, dtype=torch.float32, device=batch["labels"].device)


for _name, _metric in METRICS.items():
    if _metric.worth is not None:
        OBJECTIVES.register(_name)(Written(_name))
