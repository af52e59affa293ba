"""A finished run, taken up again to answer new texts."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from shoestring.config import build
from shoestring.data.example import Splits
from shoestring.data.splits import draw
from shoestring.data.unlabelled import unlabelled_rows
from shoestring.errors import RunFolderError
from shoestring.memory import PeakMemory
from shoestring.methods.base import Given
from shoestring.models.loading import LoadedModel
from shoestring.models.prompted import predictions
from shoestring.models.sharing import Sharing
from shoestring.progress import Progress, Silent
from shoestring.runs.config import RunConfig
from shoestring.runs.export import finished_run, kept_or_replayed
from shoestring.runs.run import prepare
from shoestring.runs.vocabulary import check_ids
from shoestring.tuning.catalog.full import Full
from shoestring.tuning.load import load_tuned

if TYPE_CHECKING:
    from torch import Tensor

    from shoestring.data.example import Example
    from shoestring.methods.base import Predictor, Writer
    from shoestring.models.prompted import PromptedModel
    from shoestring.prompts.encoding import EncodedPrompt
    from shoestring.runs.record import Record
    from shoestring.tasks.spec import Task

_AT_ONCE = 1024
"""Texts encoded and answered before the first of them is given out."""


@dataclass(frozen=True)
class Answer:
    """What a model says to one text.

    Attributes:
        prediction: the label's name, the candidate, the value of a regression task, or the text that was written.
        title: what the task file calls that label, where it says so.
        scores: candidate -> score, for classification and multiple choice.
        probability: softmax of the scores, at the prediction.
    """

    prediction: str | float
    title: str | None = None
    scores: dict[str, float] | None = None
    probability: float | None = None

    def row(self) -> dict[str, Any]:
        """Return what there is, by name."""
        found = {"prediction": self.prediction, "title": self.title or None, "probability": self.probability}
        return {name: value for name, value in {**found, "scores": self.scores}.items() if value is not None}


@dataclass(frozen=True)
class LoadedRun:
    """The model of a finished run, with its prompt and its scorer.

    Attributes:
        record: the run's record.
        config: its config.
        subject: the model as the run selected it: `subject.model` is transformers', `subject.encoder` makes prompts.
        predictor: what gives prompts their scores: the subject itself, but for probes and kernels.
        tokenizer: the tokenizer of its prompts.
    """

    record: Record
    config: RunConfig
    subject: PromptedModel
    predictor: Predictor
    tokenizer: Any

    @property
    def task(self) -> Task:
        """The task that it answers."""
        return self.config.asked

    def predict(
        self, rows: Iterable[dict[str, Any] | str], *, batch_size: int | None = None, progress: Progress | None = None
    ) -> list[Answer]:
        """Return an answer to each row: a dict with the task's texts by name, or a text for tasks of one text.

        Raises:
            DataError: if a row lacks a text, or it is empty.
            PromptTooLongError: if a prompt does not fit and may not be cut.
            ModelError: if a text has a token that the model has no embedding for.
        """
        return list(self.answers(unlabelled_rows(self.task, rows).examples, batch_size=batch_size, progress=progress))

    def answers(
        self, examples: Sequence[Example], *, batch_size: int | None = None, progress: Progress | None = None
    ) -> Iterator[Answer]:
        """Yield the answer to each example, in order, as they come; labels of examples are not looked at."""
        loaded = LoadedModel(self.subject.model, self.tokenizer, self.config.model, self.record.model_fingerprint or "")
        size = batch_size or self.config.output.eval_batch_size
        with (progress or Silent()).bar(f"{self.task.name}: predict", len(examples)) as bar:
            for start in range(0, len(examples), _AT_ONCE):
                some = examples[start : start + _AT_ONCE]
                prompts = self.subject.encoder.encode_all(some)
                check_ids(loaded, prompts)
                if self.task.has_scores:
                    scores = self.predictor.predict(prompts, size)
                    yield from _chosen(self.task, some, prompts, scores)
                else:
                    # A method whose predictor writes nothing is refused these tasks when the config is built.
                    writer = cast("Writer", self.predictor)
                    yield from (Answer(text) for text in writer.generate(prompts, size))
                bar.advance(len(some))


def _chosen(
    task: Task, examples: Sequence[Example], prompts: Sequence[EncodedPrompt], scores: Tensor
) -> Iterator[Answer]:
    titles = {label.name: label.title for label in task.labels}
    found = zip(examples, prompts, predictions(task, scores).tolist(), scores, strict=True)
    for example, prompt, number, row in found:
        if task.range is not None:
            yield Answer(float(number))
            continue
        names, own = task.label_names or example.candidates, row[: len(prompt.options) or None]
        by_name = dict(zip(names, own.tolist(), strict=True))
        yield Answer(names[number], titles.get(names[number]), by_name, float(own.softmax(-1)[number]))


def load_run(
    run: str | Path, *, model: str | None = None, device: str | None = None, progress: Progress | None = None
) -> LoadedRun:
    """Load a finished run, so that it answers new texts as it answered its test set.

    Tuned weights are taken from the run's `model/`, or made again from the log of a zeroth-order run. Demonstrations
    are drawn again from the run's data, and probes and kernels are fitted again on it: its data has to be there then,
    and the same.

    Args:
        run: the run's folder.
        model: where the base model lies now, if not where the run had it.
        device: where to answer, if not where the run's config says.
        progress: where to report.

    Raises:
        RunFolderError: if there is no finished run, or it kept no weights and has no log, or data or model changed.
        ModelError: if the base model cannot be loaded, or is another.
        TrajectoryError: if the log is damaged, or of another base model.
        DataError: if the run's data is needed and not there.
    """
    run, progress = Path(run), progress or Silent()
    record = finished_run(run)
    config = _config_of(run, record)
    changes = {"name": model, "revision": None} if model is not None else {}
    changes |= {"device": device} if device is not None else {}
    config = config.model_copy(update={"model": config.model.model_copy(update=changes)})
    splits = _splits(run, config, record)
    if not config.method.trains:
        prepared = prepare(config, splits, progress)
        _refuse_other_model(run, config, record, prepared.inputs.model)
        predictor = _fitted(config, prepared.subject, prepared.prompts, progress)
        return LoadedRun(record, config, prepared.subject, predictor, prepared.tokenizer)
    with kept_or_replayed(run, record, model=model, progress=progress) as folder:
        prepared = prepare(config.model_copy(update={"tuning": Full()}), splits, progress)
        _refuse_other_model(run, config, record, prepared.inputs.model)
        tuned = load_tuned(prepared.subject.model, folder)
    subject = replace(prepared.subject, model=tuned, sharing=Sharing())
    return LoadedRun(record, config, subject, subject, prepared.tokenizer)


def task_of(run: Path, record: Record) -> Task:
    """Return the task that a run answers.

    Raises:
        ConfigError: if its config is of another version.
    """
    return _config_of(run, record).asked


def _config_of(run: Path, record: Record) -> RunConfig:
    return build(RunConfig, record.config, f"{run}/result.json")


def _splits(run: Path, config: RunConfig, record: Record) -> Splits:
    """Return what answering needs of the run's data: nothing, where everything learnt is in the weights."""
    fits = not config.method.trains and getattr(config.method, "kind", "") not in ("zero-shot", "in-context")
    if not fits and config.prompt.demonstrations is None:
        return Splits((), (), {})
    splits = draw(config.task, config.data, config.seed)
    if record.split is None or splits.digest != record.split.digest:
        raise RunFolderError(
            f"{run}: the data that it learnt from has changed since, so its answers cannot be made again"
        )
    return replace(splits, dev=splits.dev if fits else (), tests={})


def _refuse_other_model(run: Path, config: RunConfig, record: Record, fingerprint: str) -> None:
    if record.model_fingerprint is not None and record.model_fingerprint != fingerprint:
        raise RunFolderError(f"{run} was made with other weights than those of {config.model.name}")


def _fitted(config: RunConfig, subject: PromptedModel, prompts: Any, progress: Progress) -> Predictor:
    """Return what a method that trains no weights answers with."""
    with tempfile.TemporaryDirectory() as folder:
        given = Given(
            subject, prompts["train"], prompts["dev"], config.seed, Path(folder), _nowhere, progress,
            PeakMemory(subject.model.device), config.output.eval_batch_size,
        )  # fmt: skip
        return config.method.fit(given).predictor


def _nowhere(_: dict[str, float | int | str]) -> None:
    """Take a line of a log that nobody reads."""
