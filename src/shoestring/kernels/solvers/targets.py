"""Classes as numbers that are to be predicted, and predicted numbers as scores of classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from shoestring.errors import SolverError

if TYPE_CHECKING:
    from shoestring.prompts.encoding import EncodedPrompt
    from shoestring.tasks.spec import Task

_TWO = 2


def coded(labels: Tensor, outputs: int) -> Tensor:
    """Return targets [N, C], float64: -1 and 1 of a single output, which tells two classes apart; else 0 and 1.

    Args:
        labels: numbers of classes [N].
        outputs: C.

    Raises:
        SolverError: if a label is of no class.

    Source: Malladi et al. 2023 (arXiv 2210.05643), code: princeton-nlp/LM-Kernel-FT.
    """
    classes = _TWO if outputs == 1 else outputs
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise SolverError(
            f"labels run from {int(labels.min())} to {int(labels.max())}, but a kernel of {outputs} outputs tells "
            f"{classes} classes apart, 0 to {classes - 1}"
        )
    if outputs == 1:
        return labels.double().unsqueeze(1) * 2 - 1
    return functional.one_hot(labels.long(), outputs).double()


def scores_of(values: Tensor) -> Tensor:
    """Return scores of classes [M, C], of a single output f as -f/2 and f/2.

    Their softmax is then sigmoid(f), which is the probability that is meant where f is a logit, f_1 - f_0.

    Differs: LM-Kernel-FT has -f and f (src/kernel_trainer.py); the class is the same.
    """
    return torch.cat((-values / 2, values / 2), 1) if values.shape[1] == 1 else values


def targets_of(task: Task, prompts: Sequence[EncodedPrompt], outputs: int) -> Tensor:
    """Return what the outputs of some examples should be [N, C]: their values, or their classes as `coded`.

    Raises:
        SolverError: if a label is of no class.
    """
    labels = torch.tensor([prompt.label for prompt in prompts])
    return coded(labels, outputs) if task.range is None else labels.double()[:, None]


def answers_of(task: Task, values: Tensor) -> Tensor:
    """Return outputs in the form that a task's scores have: the values themselves, or scores of classes."""
    return scores_of(values) if task.range is None else values
