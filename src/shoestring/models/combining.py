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


def combined(
    prompt: EncodedPrompt, rows: Sequence[Tensor], calibration: Calibration | None, *, poles: bool = False
) -> Tensor:
    """Return the scores [C] of an example, given those of `inputs_of(prompt)`, in that order.

    Args:
        prompt: the example, asked in V ways.
        rows: scores [C] of each input.
        calibration: whether the scores of a way are corrected by those of its calibrations.
        poles: whether candidates are the poles of a value. Of V > 1 ways the value itself is averaged then, by
            f_c = log mean_v softmax(f_v)_c, where scores are averaged otherwise: f_c = mean_v f_vc.

    Source: princeton-nlp/LM-BFF run.py, `build_compute_metrics_fn`: the mean of what the model returns, logits of
        label words, or the value of a regression task.
    """
    found: list[Tensor] = []
    start = 0
    for way in (prompt, *prompt.variants):
        end = start + 1 + len(way.calibrations)
        found.append(calibrated(rows[start], rows[start + 1 : end], calibration))
        start = end
    if len(found) == 1:
        return found[0]
    scores = torch.stack(found)
    return scores.softmax(-1).mean(0).log() if poles else scores.mean(0)


def calibrated(scores: Tensor, without: Sequence[Tensor], calibration: Calibration | None) -> Tensor:
    """Return scores [C] corrected for what the answers score `without` the question, each [C].

    `surface-form`: f_c - f_c(nothing). Of log-probabilities this is the pointwise mutual information of question and
    answer. Of logits, log_softmax(f)_c - log_softmax(f(nothing))_c, the published score, is the same but for a number
    that all candidates share; predictions, softmax and cross-entropy do not see it. `contextual`:
    log p_c - log mean_j p_c(nothing_j), p = softmax(f) over the candidates. Scores without calibration inputs are
    returned as they are.

    Source: Holtzman et al. 2021, eq. 2 (domain-conditional PMI); Zhao et al. 2021, eq. 1 with W = diag(p_cf)^-1, b = 0,
        in logarithms; princeton-nlp/MeZO medium_models/src/models.py (`sfc`, `icl_sfc`), large_models/run.py.

    Differs: f(nothing) is read where the answer stands. For `sfc` princeton-nlp/MeZO medium_models/run.py:990 gives the
        model no position, which then reads position 0: the correction does not depend on the prompt there, and for
        masked models it is what the begin token predicts.
    """
    if not without or calibration is None:
        return scores
    if calibration == "surface-form":
        return scores - without[0]
    prior = torch.stack([row.softmax(-1) for row in without]).mean(0)
    return scores.log_softmax(-1) - prior.log()
