"""The function whose Jacobian is taken: from examples to outputs f [N, C]."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from shoestring.errors import KernelError, NonFiniteScoreError
from shoestring.models.batch import Batch
from shoestring.models.prompted import Passes, PromptedModel

_DIFFERENT = (
    "examples have different numbers of candidates, so their gradients are of different outputs; kernels need the same "
    "number for all"
)
Items = Sequence[Any]
"""Examples in the form that `Outputs.collate` takes, such as encoded prompts."""


@dataclass(frozen=True)
class Outputs:
    """f(x), the scores of a model, or their difference where there are two.

    Attributes:
        model: the model; it is put in eval mode while it is used.
        scores: from a batch on the model's device to scores [N, C], with gradients; it calls the model itself.
        collate: from examples to a batch, on the CPU.
        difference: whether f = f_1 - f_0, one output, [N, 1].
        label: what the scores are of, such as task and scorer; part of what a stored kernel depends on.
        length: tokens of an example; those of like length share a batch.
        passes: counts of passes through the model.
    """

    model: nn.Module
    scores: Callable[[Batch], Tensor]
    collate: Callable[[Items], Batch]
    difference: bool = False
    label: str = ""
    length: Callable[[Any], int] = field(default=lambda item: len(item.ids))
    passes: Passes = field(default_factory=Passes)

    def batch(self, items: Items) -> Batch:
        """Return a batch on the device of the model."""
        device = next(self.model.parameters()).device
        return {name: value.to(device) for name, value in self.collate(items).items()}

    def values(self, items: Items) -> Tensor:
        """Return the outputs of one batch [n, C], with their graph where gradients are on; as `of_batch`."""
        return self.of_batch(self.batch(items), items)

    def of_batch(self, batch: Batch, items: Items) -> Tensor:
        """Return the outputs of a batch that has been made of some examples.

        Raises:
            KernelError: if a difference is asked for, but the scores are not two.
            NonFiniteScoreError: if an output is not finite.
        """
        scores = self.scores(batch)
        if self.difference:
            if scores.shape[1] != 2:
                raise KernelError(
                    f"difference=True is f_1 - f_0 of two scores, but the model gives {scores.shape[1]}; "
                    "use difference=False, which keeps one output for each score"
                )
            scores = scores[:, 1:] - scores[:, :1]
        finite = torch.isfinite(scores).all(1)
        if not finite.all():
            raise NonFiniteScoreError([uid(items[place]) for place in (~finite).nonzero().view(-1).tolist()])
        return scores


def outputs_of(prompted: PromptedModel, *, difference: bool | None = None) -> Outputs:
    """Return the outputs of a prompted model.

    Args:
        prompted: model, task and scorer.
        difference: whether f = f_1 - f_0; unless said, where the task has two labels.
    """
    two = len(prompted.task.labels) == 2

    def collate(prompts: Items) -> Batch:
        for prompt in prompts:
            if prompt.variants or prompt.calibrations:
                raise KernelError(
                    f"{prompt.uid} is asked in several ways, or calibrated: its scores are made of those of several "
                    "inputs, and kernels are of one; use one template, without calibration"
                )
        if len({len(prompt.options) for prompt in prompts}) > 1:
            raise KernelError(_DIFFERENT)
        return prompted.collate(prompts)

    return Outputs(
        model=prompted.model,
        scores=prompted.scores,
        collate=collate,
        difference=two if difference is None else difference,
        label=f"{prompted.task.name} {type(prompted.scorer).__name__}",
        passes=prompted.passes,
    )


def check_outputs(values: Tensor, count: int) -> None:
    """Check that a batch has as many outputs as the others.

    Raises:
        KernelError: if it has not.
    """
    if values.shape[1] != count:
        raise KernelError(_DIFFERENT)


def uid(item: object) -> str:
    """Return where an example comes from, or "" where it does not say."""
    return str(getattr(item, "uid", ""))


def batches_of(outputs: Outputs, items: Items, size: int) -> list[list[int]]:
    """Return places of `items`, at most `size` a list, those of like length together; order of ties as given."""
    order = sorted(range(len(items)), key=lambda place: (outputs.length(items[place]), place))
    return [order[start : start + size] for start in range(0, len(order), size)]
