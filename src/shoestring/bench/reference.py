"""A step as the reference makes it: what our steps are compared with."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from shoestring.bench.work import Work
from shoestring.seeds import MASK_63


class ReferenceStep:
    """MeZO's step with the operations of its published code, in our own words.

    Four passes over all weights, three that perturb and one that updates, each of which draws z anew with
    `torch.normal` from a seeded generator and makes every weight out of place. For causal models the batch has one row
    per candidate, with logits and log-probabilities at every position; for masked models one row per example, with
    logits at the mask.

    Source: princeton-nlp/MeZO large_models/trainer.py `zo_step`, `zo_update`; large_models/utils.py; medium_models.
    """

    cycle = 1

    def __init__(self, work: Work, lr: float, eps: float) -> None:
        self.work, self.lr, self.eps = work, lr, eps
        self.steps = 0
        self.forwards = 0
        self._params = list(work.model.parameters())
        self._generator = torch.Generator(work.model.device)
        self._rows = _one_row_per_candidate(work) if work.shape.kind == "causal" else None
        self.rows = len(work.batch["input_ids"] if self._rows is None else self._rows)

    @torch.no_grad()
    def step(self) -> None:
        """Make one step."""
        seed = self.steps & MASK_63
        self._perturb(seed, 1.0)
        plus = float(self.loss())
        self._perturb(seed, -2.0)
        minus = float(self.loss())
        self._perturb(seed, 1.0)
        self._update(seed, (plus - minus) / (2 * self.eps))
        self.steps += 1

    def loss(self) -> Tensor:
        """Return the loss of the batch, a scalar; in exact arithmetic it is the one our methods compute."""
        self.forwards += 1
        if self._rows is None:
            return self.work.loss()
        logits = self.work.model(input_ids=self._rows, attention_mask=torch.ones_like(self._rows), use_cache=False)
        log_probs = logits.logits[:, :-1].contiguous().log_softmax(-1)
        seen = log_probs.gather(-1, self._rows[:, 1:, None])[..., 0]
        labels, options = self.work.batch["labels"], self.work.batch["option_ids"]
        read = self.work.batch["position"].repeat_interleave(options.shape[1], 0)
        return functional.cross_entropy(seen.gather(1, read[:, None]).view(len(labels), -1), labels)

    def finish(self) -> None:
        """Do nothing: nothing is put off."""

    def _perturb(self, seed: int, scale: float) -> None:
        self._generator.manual_seed(seed)
        for param in self._params:
            param.data = param.data + scale * self._normal(param) * self.eps

    def _update(self, seed: int, projected_grad: float) -> None:
        self._generator.manual_seed(seed)
        for param in self._params:
            z = self._normal(param)
            decayed = projected_grad * z + 0.0 * param.data if param.ndim > 1 else projected_grad * z
            param.data = param.data - self.lr * decayed

    def _normal(self, like: Tensor) -> Tensor:
        kind = {"dtype": like.dtype, "device": like.device}
        return torch.normal(0.0, 1.0, size=tuple(like.shape), generator=self._generator, **kind)


def _one_row_per_candidate(work: Work) -> Tensor:
    """Return ids [N*C, L+1]: every prompt, followed by one of its candidates."""
    options, count = work.batch["option_ids"].reshape(-1, 1), work.batch["option_ids"].shape[1]
    prompts = functional.pad(work.batch["input_ids"], (0, 1)).repeat_interleave(count, 0)
    return prompts.scatter(1, 1 + work.batch["position"].repeat_interleave(count, 0)[:, None], options)
