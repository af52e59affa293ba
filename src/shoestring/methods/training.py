"""Methods that train step by step: everything but the optimizer is the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import BeforeValidator

from shoestring.methods.catalog.linear_probe import LinearProbe
from shoestring.training.settings import TrainSettings

if TYPE_CHECKING:
    from shoestring.data.settings import DataSettings
    from shoestring.methods.base import Given, Outcome
    from shoestring.models.settings import ModelSettings
    from shoestring.prompts.settings import PromptSettings
    from shoestring.tasks.spec import Task


def named(value: Any) -> Any:
    """Return settings with a `kind` for the text that is its name."""
    return {"kind": value} if isinstance(value, str) else value


class TrainingMethod(TrainSettings):
    """Fine-tunes the weights that the tuning left trainable, and keeps those that do best on dev."""

    trains: ClassVar[bool] = True

    begin: Annotated[LinearProbe | None, BeforeValidator(named)] = None
    """"linear-probe": the output layer begins with the solution of a linear probe (its settings, as a table, may
    differ from the defaults). A classification head takes it whole; a language model in the rows of its label words, if
    these are one token each and the output embedding is a matrix of its own."""

    def problems(self, task: Task, data: DataSettings, model: ModelSettings, prompt: PromptSettings) -> list[str]:
        """Return what makes no sense together with the rest of a run."""
        return [] if self.begin is None else list(self.begin.problems_as_beginning(task, prompt, model.kind))

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
            given.tracking,
        )
        facts: dict[str, Any] = {}
        if self.begin is not None:
            from shoestring.methods.beginning import begin_at_probe

            facts = begin_at_probe(self.begin, given)
        fitted = train(job, log=given.log, progress=given.progress)
        facts |= {"steps": fitted.steps, "selected_step": fitted.selected_step, "resumed_from": fitted.resumed_from}
        return Outcome(given.subject, fitted.seconds, facts | facts_of(given.folder))
