"""The function whose Jacobian is taken: from examples to outputs f [N, C]."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from shoestring.errors import KernelError, NonFiniteScoreError
from shoestring.models.batch import Batch
from shoestring.models.combining import combined, inputs_of
from shoestring.models.prompted import Passes, PromptedModel, predictions

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
        scores: from a batch on the model's device to scores [N, C], with gradients; it calls the model itself. Of an
            example that is several inputs, [N R, C], those of each together.
        collate: from examples to a batch, on the CPU.
        combine: from scores and the examples that they are of to what the outputs are made of, [N, C]; None for the
            scores themselves.
        difference: whether f = f_1 - f_0, one output, [N, 1].
        label: what the scores are of, such as task and scorer; part of what a stored kernel depends on.
        length: tokens of an example; those of like length share a batch.
        passes: counts of passes through the model.
    """

    model: nn.Module
    scores: Callable[[Batch], Tensor]
    collate: Callable[[Items], Batch]
    combine: Callable[[Tensor, Items], Tensor] | None = None
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
        if self.combine is not None:
            scores = self.combine(scores, items)
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
    """Return the outputs of a prompted model: the scores that it predicts by, or the value where a number is asked for.

    Of an example that is asked in several ways, or calibrated, they are functions of all its inputs (`combined`).

    Args:
        prompted: model, task and scorer.
        difference: whether f = f_1 - f_0; unless said, where the task is to tell two labels apart.
    """
    task, settings = prompted.task, prompted.settings
    two = len(task.labels) == 2 and task.range is None

    def collate(prompts: Items) -> Batch:
        if len({_shape(prompt) for prompt in prompts}) > 1:
            raise KernelError(
                "examples are asked in different numbers of ways, or calibrated by different numbers of inputs; "
                "kernels need the same for all"
            )
        inputs = [item for prompt in prompts for item in inputs_of(prompt)]
        if len({len(item.options) for item in inputs}) > 1:
            raise KernelError(_DIFFERENT)
        return prompted.collate(inputs)

    def combine(scores: Tensor, prompts: Items) -> Tensor:
        if len(scores) == len(prompts) and task.range is None:
            return scores
        by_example = scores.view(len(prompts), -1, scores.shape[1])
        poles = task.range is not None and scores.shape[1] > 1
        whole = torch.stack(
            [
                combined(prompt, list(rows), settings.calibration, poles=poles)
                for prompt, rows in zip(prompts, by_example, strict=True)
            ]
        )
        return whole if task.range is None else predictions(task, whole)[:, None]

    ways = [*(["sum"] if settings.sums else []), *([settings.calibration] if settings.calibration else [])]
    return Outputs(
        model=prompted.model,
        scores=prompted.scores,
        collate=collate,
        combine=combine,
        difference=two if difference is None else difference,
        label=" ".join((task.name, type(prompted.scorer).__name__, *ways)),
        length=lambda prompt: sum(len(item.ids) for item in inputs_of(prompt)),
        passes=prompted.passes,
    )


def _shape(prompt: Any) -> tuple[int, ...]:
    """Return how many calibrations each way of asking has."""
    return tuple(len(way.calibrations) for way in (prompt, *prompt.variants))


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
