"""How training examples are asked, batch by batch: as they were encoded, or otherwise each time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from shoestring.prompts.encoding import EncodedPrompt, Redraws
from shoestring.seeds import derive

if TYPE_CHECKING:
    from shoestring.training.trainer import Job


class Asking:
    """The prompts of each batch of a training.

    Where the encoder asks examples otherwise each time (other demonstrations, another template), how is a function of
    the run's seed, the number of the batch and the place in it: a training that was resumed goes on with the prompts of
    an uninterrupted one.

    Args:
        job: the training; its batches are asked for once each, in order.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._batch: int | None = None

    def prompts(self, indices: Sequence[int], step: int) -> list[EncodedPrompt]:
        """Return the prompts of the next batch, of the training examples `indices`.

        Args:
            indices: numbers of training examples.
            step: steps made when the first batch is asked for: 0, or those of the checkpoint that is gone on from.
        """
        prompts = [self._job.train[index] for index in indices]
        encoder = self._job.subject.encoder
        if not isinstance(encoder, Redraws):
            return prompts
        batch = self._batches_before(step) if self._batch is None else self._batch + 1
        self._batch = batch
        return [
            encoder.redraw(prompt, derive(self._job.seed, "redraw", batch, place))
            for place, prompt in enumerate(prompts)
        ]

    def _batches_before(self, step: int) -> int:
        """Return how many batches `step` steps take; the last step of an epoch may take fewer than the others."""
        settings = self._job.settings
        an_epoch = math.ceil(len(self._job.train) / settings.batch_size)
        epochs, steps = divmod(step, math.ceil(an_epoch / settings.accumulate))
        return epochs * an_epoch + steps * settings.accumulate
