"""From the scores of single inputs to those of an example: calibration, then the mean over its variants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from shoestring.prompts.encoding import EncodedPrompt
    from shoestring.prompts.settings import Calibration


def inputs_of(prompt: EncodedPrompt) -> list[EncodedPrompt]:
    """Return every input that an example's scores are made of: each way of asking, followed by its calibrations."""
    return [item for way in (prompt, *prompt.variants) for item in (way, *way.calibrations)]


def combined(prompt: EncodedPrompt, rows: Sequence[Tensor], calibration: Calibration | None) -> Tensor:
    """Return the scores [C] of an example, given those of `inputs_of(prompt)`, in that order."""
    means: list[Tensor] = []
    start = 0
    for way in (prompt, *prompt.variants):
        end = start + 1 + len(way.calibrations)
        means.append(calibrated(rows[start], rows[start + 1 : end], calibration))
        start = end
    return torch.stack(means).mean(0)


def calibrated(scores: Tensor, without: Sequence[Tensor], calibration: Calibration | None) -> Tensor:
    """Return scores [C] corrected for what the answers score `without` the question, each [C].

    `surface-form`: f_c - f_c(nothing), of log-probabilities, or of logits made such over the candidates: the pointwise
    mutual information of question and answer. `contextual`: log p_c - log mean_j p_c(nothing_j), p = softmax(f) over
    the candidates. Scores without calibration inputs are returned as they are.

    Source: Holtzman et al. 2021, eq. 2 (domain-conditional PMI); Zhao et al. 2021, eq. 1 with W = diag(p_cf)^-1, b = 0,
        in logarithms.
    """
    if not without or calibration is None:
        return scores
    if calibration == "surface-form":
        return scores - without[0]
    prior = torch.stack([row.softmax(-1) for row in without]).mean(0)
    return scores.log_softmax(-1) - prior.log()
