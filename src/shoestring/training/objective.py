"""What an objective is."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from shoestring.models.batch import Batch
from shoestring.models.prompted import PromptedModel
from shoestring.registry import Registry
from shoestring.tasks.spec import Kind


class Objective(Protocol):
    """A number to minimise, computed from a batch in float32.

    Attributes:
        differentiable: whether gradients exist; only zeroth-order methods take objectives without.
        needs_vocabulary: whether it reads log-probabilities over the vocabulary, which a classification head has not.
        kinds: kinds of tasks it is defined for.
    """

    differentiable: bool
    needs_vocabulary: bool
    kinds: frozenset[Kind]

    def loss(self, subject: PromptedModel, batch: Batch) -> Tensor:
        """Return the mean loss over the batch, a scalar."""
        ...


OBJECTIVES: Registry[Objective] = Registry("objective", "shoestring.training.objectives")


def default_objective(kind: Kind) -> str:
    """Return the name of the objective that a task of this kind is trained on unless a recipe says otherwise."""
    return "cross-entropy" if kind == "classification" else "regression"
