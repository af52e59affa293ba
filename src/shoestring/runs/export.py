"""The model of a finished run as a folder that transformers or peft load."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from shoestring.config import Settings, build
from shoestring.errors import ModelError, RunFolderError, ShoestringError
from shoestring.files import saving, write_text, writing
from shoestring.models.loading import LoadedModel, load_model
from shoestring.models.quiet import quiet
from shoestring.progress import Progress, Silent
from shoestring.runs.collect import read_records
from shoestring.runs.config import AnyMethod, AnyModel, AnyTuning, RunConfig
from shoestring.runs.folder import MODEL
from shoestring.runs.harness import harness_command
from shoestring.runs.model_card import CARD, model_card
from shoestring.runs.record import Record, read_record
from shoestring.runs.replay import refuse_full, replay_run
from shoestring.tasks.harness_names import harness_name
from shoestring.training.settings import TRAJECTORY
from shoestring.tuning.catalog.full import Full
from shoestring.tuning.catalog.prefix import Prefix
from shoestring.tuning.load import load_tuned

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_ADAPTER = "adapter_config.json"
_KEEP = "output.keep_model=true"
_SHOWN = 6


class Origin(Settings):
    """The parts of a run's config that its model comes from."""

    model: AnyModel
    tuning: AnyTuning
    method: AnyMethod
    seed: int


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        record: the run's record.
        origin: the parts of its config that the model comes from, the base model as it was loaded now.
        out: the folder.
        form: a whole `model`, for transformers, or an `adapter` beside the base model, for peft.
        steps: the step of the log whose weights were made again, where the run had not kept its model.
    """

    record: Record
    origin: Origin
    out: Path
    form: Literal["model", "adapter"]
    steps: int | None

    @property
    def harness(self) -> str | None:
        """The harness's name of the task on the same data set, where one is known."""
        return harness_name(self.record.config["task"])

    @property
    def command(self) -> str | None:
        """The command line that evaluates the model with the lm-evaluation-harness; None where it cannot.

        Without a task, where none is known.
        """
        return harness_command(self.out, self.origin.model, self.harness, adapter=self.form == "adapter")


def export_run(
    run: str | Path,
    out: str | Path,
    *,
    merge: bool = False,
    model: str | None = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> Exported:
    """Write what a run tuned, and its tokenizer, so that transformers loads it, or peft on the base model.

    Whole models and adapters are written as the run kept them, prefixes of causal models as peft has them; of tunings
    that move some of the model's own weights, and of adapters with `merge`, the whole model is written. What a run by a
    zeroth-order method did not keep is made again from its log.

    Args:
        run: a run's folder.
        out: folder to write; it must not hold anything.
        merge: whether adapters are put into the weights that they adapt.
        model: where the base model lies now, if not where the run had it.
        device: where the log is replayed, if not on the kind of device that the run had.
        progress: where to report.

    Raises:
        RunFolderError: if there is no finished run, or it has no weights of its own, or none any more.
        ModelError: if neither transformers nor peft has a place for what was tuned, or the base model is another.
        TrajectoryError: if the log is damaged, or of another base model.
        OutputError: if `out` holds something, or the disk refuses.
    """
    run, out = Path(run), Path(out)
    record = finished_run(run)
    origin = _origin(run, record)
    kept = (run / MODEL).is_dir()
    if kept and device is not None:
        raise RunFolderError(f"{run} kept its model: nothing is replayed, and --device has no effect; leave it out")
    if model is not None:
        origin = origin.model_copy(update={"model": origin.model.model_copy(update={"name": model, "revision": None})})
    refuse_full(out)
    job = _Job(run, record, origin, out, progress or Silent())
    if kept:
        form = job.write(run / MODEL, merge=merge, moved=model is not None)
        return Exported(record, origin, out, form, None)
    place = out.parent / f".{out.name}.replayed"
    with _replayed(run, record, place, device=device, model=model, progress=job.progress) as (folder, steps):
        return Exported(record, origin, out, job.write(folder, merge=merge, moved=False), steps)


@contextmanager
def kept_or_replayed(run: Path, record: Record, *, model: str | None, progress: Progress) -> Iterator[Path]:
    """Give the folder of what a run tuned; where it kept none, one that is made from its log and gone at the end.

    Args:
        run: the run's folder.
        record: its record.
        model: where the base model lies now, if not where the run had it.
        progress: where to report.

    Raises:
        RunFolderError: if it kept nothing and has no log.
        TrajectoryError: if the log is damaged, or of another base model.
    """
    if (run / MODEL).is_dir():
        yield run / MODEL
        return
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / MODEL
        with _replayed(run, record, folder, device=None, model=model, progress=progress) as (made, _):
            yield made


@contextmanager
def _replayed(
    run: Path, record: Record, place: Path, *, device: str | None, model: str | None, progress: Progress
) -> Iterator[tuple[Path, int]]:
    """Make the weights that a run selected again, in a folder that is gone at the end of the block."""
    log = run / TRAJECTORY
    if not log.is_file():
        raise RunFolderError(
            f"{run} did not keep its model, and has no log to make it from again, as zeroth-order methods "
            f"have; run it again with {_KEEP}"
        )
    shutil.rmtree(place, ignore_errors=True)
    steps = record.facts.get("selected_step")
    try:
        done = replay_run(log, place, model=model, steps=steps, device=device, progress=progress)
    except ShoestringError as error:
        error.add_note(f"the model was to be made again from {log}; a run with {_KEEP} needs no log")
        raise
    try:
        yield place, done.steps
    finally:
        shutil.rmtree(place, ignore_errors=True)


def finished_run(run: Path) -> Record:
    """Return the record of a run that ended well.

    Raises:
        RunFolderError: if there is none; says why.
    """
    if run.is_file():
        raise RunFolderError(f"{run} is a file; give the folder of the run")
    if not run.exists() and (near := Path("runs") / run).is_dir():
        raise RunFolderError(f"{run}: there is no such folder; did you mean {near}?")
    record = read_record(run)
    if record is None:
        raise _no_record(run)
    if record.status != "ok":
        how = "failed" if record.status == "failed" else f"was {record.status}"
        raise RunFolderError(f"{run} {how}: {record.error}; a run that is done is needed")
    return record


def _no_record(run: Path) -> RunFolderError:
    found = read_records([run])
    if run.resolve() in found.unfinished:
        return RunFolderError(
            f"{run} has not ended: it is still running, or was killed and goes on by the same command"
        )
    names = [folder.name for folder in found.folders]
    shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    return RunFolderError(f"{run} is a folder of runs; give one of them: {shown}")


def _origin(run: Path, record: Record) -> Origin:
    config = {key: record.config[key] for key in ("model", "tuning", "method", "seed")}
    origin = build(Origin, config, f"{run}/result.json")
    if not origin.method.trains:
        raise RunFolderError(
            f"{run} has no model of its own: method.kind={origin.method.kind!r} trains nothing, so it is "
            f"{origin.model.name} that answers"
        )
    return origin


@dataclass(frozen=True)
class _Job:
    """One export."""

    run: Path
    record: Record
    origin: Origin
    out: Path
    progress: Progress

    def write(self, folder: Path, *, merge: bool, moved: bool) -> Literal["model", "adapter"]:
        """Write what a tuning saved in `folder`, and return what was written.

        Args:
            folder: the run's `model/`, or what was replayed.
            merge: whether adapters are merged.
            moved: whether adapters are to name another place of the base model.
        """
        adapter = (folder / _ADAPTER).is_file()
        if not adapter and (folder / "config.json").is_file():
            if moved:
                raise RunFolderError(f"{self.run} kept a whole model, so --model has no effect; leave it out")
            self._take(folder)
            return "model"
        embeddings = getattr(self.origin.tuning, "embeddings", "as-is")
        if adapter and not merge and embeddings != "as-is":
            raise ModelError(
                f"tuning.embeddings={embeddings!r} gave the model a matrix that the base model lacks, and peft cannot "
                "load; --merge writes the whole model"
            )
        if adapter and not merge and not moved:
            self._take(folder)
            return "adapter"
        base = self._base()
        tuned = load_tuned(base.model, folder)
        return self._save(tuned, base, merge=merge, adapter=adapter)

    def _take(self, folder: Path) -> None:
        """Write a folder as it is: what the run kept is copied."""
        with _whole(self.out) as half:
            if folder.parent == self.run:
                shutil.copytree(folder, half)
            else:
                folder.replace(half)
            self._describe(half, "adapter" if (half / _ADAPTER).is_file() else "model")

    def _base(self) -> LoadedModel:
        task = self.record.config["task"]
        outputs = 1 if task["range"] is not None else len(task["labels"])
        settings = self.origin.model.model_copy(update={"device": "cpu"})
        with self.progress.bar(f"load {settings.name}", 1):
            return load_model(settings, labels=outputs, seed=self.origin.seed)

    def _save(
        self, tuned: PreTrainedModel, base: LoadedModel, *, merge: bool, adapter: bool
    ) -> Literal["model", "adapter"]:
        tuning: Any = self.origin.tuning
        beside = not merge and (adapter or isinstance(tuning, Prefix))
        if not beside:
            tuned = self._merged(tuned, adapter=adapter)
        with _whole(self.out) as half:
            if not beside:
                Full(embeddings=getattr(tuning, "embeddings", "as-is")).save(tuned, half)
            elif adapter:
                tuning.save(tuned, half)
            else:
                self._save_prefix(tuned, half)
            base.tokenizer.save_pretrained(half)
            form: Literal["model", "adapter"] = "adapter" if beside else "model"
            self._describe(half, form)
        return form

    def _describe(self, folder: Path, form: Literal["model", "adapter"]) -> None:
        """Write the model card; what peft wrote in its place says nothing."""
        config = build(RunConfig, self.record.config, f"{self.run}/result.json")
        moved = config.model_copy(update={"model": self.origin.model})
        write_text(folder / CARD, model_card(self.record, moved, form))

    def _merged(self, tuned: PreTrainedModel, *, adapter: bool) -> PreTrainedModel:
        try:
            return self.origin.tuning.merge(tuned)
        except ModelError as error:
            if adapter:
                raise ModelError(f"{error}; without --merge, peft loads what is written") from None
            raise self._no_place(str(error)) from None

    def _save_prefix(self, tuned: PreTrainedModel, folder: Path) -> None:
        from shoestring.tuning.prefix_files import save_peft_prefix

        try:
            save_peft_prefix(self.origin.tuning, tuned, folder)
        except ModelError as error:
            raise self._no_place(str(error)) from None

    def _no_place(self, why: str) -> ModelError:
        where = self.run / MODEL
        kept = str(where) if where.is_dir() else f"{where}, which a run with {_KEEP} has"
        return ModelError(
            f"{why}; `shoestring predict` answers with the run, and shoestring.tuning.load.load_tuned puts what was "
            f"tuned onto the base model in Python, from {kept}"
        )


@contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """Give a place to write a folder, which takes the place of `out` at the end of the block, or is gone."""
    half = out.parent / f".{out.name}.new"
    shutil.rmtree(half, ignore_errors=True)
    try:
        with writing(out):
            out.parent.mkdir(parents=True, exist_ok=True)
        with saving(out), quiet():
            yield half
            half.replace(out)
    except BaseException:
        shutil.rmtree(half, ignore_errors=True)
        raise
