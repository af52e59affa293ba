"""What an objective is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

from shoestring.models.batch import Batch
from shoestring.models.prompted import PromptedModel
from shoestring.registry import Registry
from shoestring.tasks.spec import Kind


class Objective(ABC):
    """A number to minimise, computed from a batch in float32.

    Attributes:
        differentiable: whether gradients exist; only zeroth-order methods take objectives without.
        needs_vocabulary: whether it reads log-probabilities over the vocabulary, which a classification head has not.
        kinds: kinds of tasks it is defined for.
    """

    differentiable: ClassVar[bool]
    needs_vocabulary: ClassVar[bool]
    kinds: ClassVar[frozenset[Kind]]

    def prepare(self, batch: Batch) -> Batch:
        """Return a batch with what a loss needs to know of all its examples together: it may be cut or repeated."""
        return batch

    @abstractmethod
    def losses(self, subject: PromptedModel, batch: Batch) -> Tensor:
        """Return one loss an example [N], whose mean is the loss of the batch.

        The losses of a batch that is repeated are those of the batch, repeated.
        """

    def loss(self, subject: PromptedModel, batch: Batch) -> Tensor:
        """Return the mean loss over the batch, a scalar."""
        return self.losses(subject, batch).mean()


OBJECTIVES: Registry[Objective] = Registry("objective", "shoestring.training.objectives")


def default_objective(kind: Kind) -> str:
    """Return the name of the objective that a task of this kind is trained on unless a recipe says otherwise."""
    return "cross-entropy" if kind == "classification" else "regression"
