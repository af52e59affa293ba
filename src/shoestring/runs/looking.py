"""Apply a tuning, letting it look at training examples where it chooses weights by them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from shoestring.models.placing import refuse_backward
from shoestring.training.objective import OBJECTIVES, default_objective
from shoestring.tuning.look import Look, Looking

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from shoestring.models.prompted import PromptedModel
    from shoestring.prompts.encoding import EncodedPrompt
    from shoestring.tuning.base import Tuning


def apply_tuning(
    tuning: Tuning, subject: PromptedModel, train: Sequence[EncodedPrompt], seed: int, objective: str | None = None
) -> PreTrainedModel:
    """Return the tuned model of `subject`; passes made in looking at examples count as the subject's.

    Args:
        tuning: what is trained.
        subject: the base model with its task.
        train: training prompts.
        seed: of the run.
        objective: what training will minimise; None: the usual loss of the task.
    """
    if isinstance(tuning, Looking) and tuning.looks:
        refuse_backward(subject.model, f"tuning.kind={tuning.kind!r}")
        return tuning.apply_with(subject.model, seed, look_at(subject, train, objective))
    return tuning.apply(subject.model, seed)


def look_at(subject: PromptedModel, train: Sequence[EncodedPrompt], objective: str | None = None) -> Look:
    """Return a look at a training set; an objective without a gradient gives way to the usual loss of the task."""
    usual = default_objective(subject.task.kind)
    chosen = OBJECTIVES.get(objective or usual)
    loss = chosen if chosen.differentiable else OBJECTIVES.get(usual)

    def losses(numbers: Sequence[int]) -> Tensor:
        batch = subject.collate([train[number] for number in numbers])
        found = loss.losses(subject, {name: value.to(subject.model.device) for name, value in batch.items()})
        if torch.is_grad_enabled():
            subject.passes.backward += 1
            subject.passes.backward_examples += len(numbers)
        return found

    return Look(len(train), losses)
