"""Methods that train step by step: everything but the optimizer is the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from shoestring.training.settings import TrainSettings

if TYPE_CHECKING:
    from shoestring.methods.base import Given, Outcome


class TrainingMethod(TrainSettings):
    """Fine-tunes the weights that the tuning left trainable, and keeps those that do best on dev."""

    trains: ClassVar[bool] = True

    def fit(self, given: Given) -> Outcome:
        """Train the model in place; it is its own predictor."""
        from shoestring.methods.base import Outcome
        from shoestring.training.fit import train
        from shoestring.training.trainer import Job
        from shoestring.training.trajectory import facts_of

        job = Job(
            given.subject,
            given.train,
            given.dev,
            self,
            given.seed,
            given.folder,
            given.memory,
            given.eval_batch_size,
            given.about,
        )
        fitted = train(job, log=given.log, progress=given.progress)
        facts = {"steps": fitted.steps, "selected_step": fitted.selected_step, "resumed_from": fitted.resumed_from}
        return Outcome(given.subject, fitted.seconds, facts | facts_of(given.folder))
