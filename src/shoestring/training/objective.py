"""What an objective is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from shoestring.models.batch import Batch
from shoestring.models.prompted import PromptedModel
from shoestring.prompts.encoding import EncodedPrompt
from shoestring.registry import Registry
from shoestring.tasks.spec import Kind


class Objective(ABC):
    """A number to minimise, computed from a batch in float32.

    Attributes:
        differentiable: whether gradients exist; only zeroth-order methods take objectives without.
        needs_vocabulary: whether it reads log-probabilities over the vocabulary, which a classification head has not.
        needs_causal: whether it reads log-probabilities of the prompt, which only a causal model has.
        folds: whether it asks of a batch for scores, log-probabilities of answers and what examples have one by one, so
            that prompts may share rows of tokens; not inherited, a class has to say so itself.
        repeats: whether a batch of it may be repeated, so that one forward pass evaluates several points.
        kinds: kinds of tasks it is defined for.
    """

    differentiable: ClassVar[bool]
    needs_vocabulary: ClassVar[bool]
    needs_causal: ClassVar[bool] = False
    folds: ClassVar[bool] = False
    repeats: ClassVar[bool] = True
    kinds: ClassVar[frozenset[Kind]]

    def narrow(self, prompts: Sequence[EncodedPrompt]) -> Sequence[EncodedPrompt]:
        """Return prompts without what the losses do not read; not inherited, as `folds`."""
        return prompts

    def prepare(self, batch: Batch, prompts: Sequence[EncodedPrompt]) -> Batch:
        """Return a batch with what the losses need besides.

        A batch may be cut and repeated afterwards, so what examples have to know of each other is put into it here.

        Args:
            batch: what `prompts` were collated to.
            prompts: N encoded prompts.
        """
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
    """Return the name of the objective that a task of this kind is trained on unless a recipe says otherwise.

    Where examples bring their own answers, the model learns to say the right one.

    Source: Malladi et al. 2023 (MeZO), appendix E: Copa, ReCoRD, SQuAD and DROP.
    """
    usual: dict[Kind, str] = {"classification": "cross-entropy", "regression": "regression"}
    return usual.get(kind, "language-model")
