"""Kernel behaviour of a fine-tuning: whether the tuned model is its linearisation, and keeps its gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from shoestring.config import Settings
from shoestring.data.splits import draw
from shoestring.errors import KernelError, RunFolderError
from shoestring.files import write_json
from shoestring.kernels.movement import Linearised, displacement, drift, linearised
from shoestring.kernels.outputs import outputs_of
from shoestring.kernels.settings import KernelSettings
from shoestring.kernels.solvers.targets import answers_of
from shoestring.memory import PeakMemory
from shoestring.methods.base import Given
from shoestring.models.evaluation import evaluate
from shoestring.models.loading import is_still
from shoestring.models.sharing import Sharing
from shoestring.progress import Progress, Silent
from shoestring.runs.config import RunConfig
from shoestring.runs.export import finished_run
from shoestring.runs.extracting import config_of
from shoestring.runs.folder import MODEL
from shoestring.runs.run import origin_of, prepare
from shoestring.tasks.spec import DEV, TRAIN
from shoestring.tuning.catalog.full import Full
from shoestring.tuning.load import load_tuned

if TYPE_CHECKING:
    from torch import Tensor

    from shoestring.data.example import Splits
    from shoestring.models.prompted import PromptedModel
    from shoestring.prompts.encoding import EncodedPrompt
    from shoestring.runs.record import Record

FILE = "kernel-behaviour.json"
Metrics = dict[str, dict[str, float]]
Prompts = Mapping[str, Sequence["EncodedPrompt"]]


class Behaviour(Settings):
    """What a fine-tuned model is beside its linearisation at the weights it began with.

    f_lin(x) = f(x; theta0) + J(x) (theta - theta0), theta being the weights that the run selected. Changes of gradients
    are of training examples, all outputs and trained weights of one as one vector.

    Source: Malladi et al. 2023, A Kernel-Based View of Language Model Fine-Tuning (arXiv 2210.05643), section 6.
    """

    run_id: str
    finished: str
    """When the run was done, so that what was measured on an older one of the same config is not taken for it."""
    start: Metrics
    """Metrics of each test set at theta0."""
    linearised: Metrics
    """Metrics of each test set of the linearised model."""
    change: tuple[float, ...]
    """|J - J0| / |J0| of each training example that was looked at."""
    cosine: tuple[float, ...]
    """Cosine of the angle between J and J0."""


@dataclass(frozen=True)
class Looking:
    """How a run is looked at.

    Attributes:
        examples: most training examples whose gradients are compared, evenly spaced.
        batch_size: examples that go through the model at once.
    """

    examples: int = 32
    batch_size: int = 8


def measure(run: Path, looking: Looking | None = None, progress: Progress | None = None) -> Behaviour:
    """Return the kernel behaviour of a finished run, which kept its model; measured once, and kept beside its record.

    Args:
        run: the run's folder.
        looking: how it is looked at.
        progress: where to report.

    Raises:
        RunFolderError: if it is not finished, trained nothing, did not keep its model, or data or model changed.
        KernelError: if the model cannot be linearised, or examples have different numbers of candidates.
        OutputError: if the disk refuses.
    """
    looking, progress = looking or Looking(), progress or Silent()
    record = finished_run(run)
    known = _known(run, record, looking)
    if known is not None:
        return known
    config, tuned = config_of(run)
    if tuned is None:
        raise RunFolderError(f"{run}: method.kind={config.method.kind!r} trains nothing, so that no weights moved")
    splits = draw(config.task, config.data, config.seed)
    same = {
        "data": record.split is not None and record.split.digest == splits.digest,
        "model": is_still(config.model, record.model_fingerprint),
    }
    if changed := [name for name, unchanged in same.items() if not unchanged]:
        raise RunFolderError(f"{run}: the {' and the '.join(changed)} changed since this run was made")
    start, prompts = _start(config, splits, progress)
    found = _measured(start, _end(config, splits, tuned, progress), prompts, looking, progress)
    behaviour = Behaviour(run_id=record.run_id, finished=record.finished, **found)
    write_json(run / FILE, behaviour.model_dump(mode="json"))
    return behaviour


def can_be_measured(run: Path, record: Record) -> bool:
    """Return whether a run is finished and its model is there."""
    return record.status == "ok" and (run / MODEL).is_dir()


def _known(run: Path, record: Record, looking: Looking) -> Behaviour | None:
    """Return what was measured of this very run, of as many examples."""
    try:
        found = Behaviour.model_validate_json((run / FILE).read_text(encoding="utf-8"))
    except (OSError, ValidationError):
        return None
    wanted = looking.examples if record.split is None else min(looking.examples, record.split.train)
    same = (found.run_id, found.finished, len(found.change)) == (record.run_id, record.finished, wanted)
    return found if same else None


def _start(config: RunConfig, splits: Splits, progress: Progress) -> tuple[PromptedModel, Prompts]:
    """Return the model as it was before its first step, and all prompts."""
    prepared = prepare(config, splits, progress)
    begin = getattr(config.method, "begin", None)
    if begin is not None:
        from shoestring.methods.beginning import begin_at_probe

        train, dev = prepared.prompts[TRAIN], prepared.prompts[DEV]
        memory = PeakMemory(prepared.subject.model.device)
        size = config.output.eval_batch_size
        given = Given(prepared.subject, train, dev, config.seed, Path(), _unlogged, progress, memory, size)
        begin_at_probe(begin, replace(given, about=origin_of(config)))
    return prepared.subject, prepared.prompts


def _unlogged(_: object) -> None:
    """Log nothing."""


def _end(config: RunConfig, splits: Splits, tuned: Path, progress: Progress) -> PromptedModel:
    """Return the model that the run kept."""
    bare = prepare(config.model_copy(update={"tuning": Full()}), replace(splits, dev=(), tests={}), progress).subject
    return replace(bare, model=load_tuned(bare.model, tuned), sharing=Sharing())


def _measured(
    start: PromptedModel, end: PromptedModel, prompts: Prompts, looking: Looking, progress: Progress
) -> dict[str, Any]:
    before, after, task = outputs_of(start), outputs_of(end), start.task
    names = [name for name, param in start.model.named_parameters() if param.requires_grad]
    moved = displacement(start.model, end.model, names)
    metrics: dict[str, Metrics] = {"start": {}, "linearised": {}}
    for name, test in prompts.items():
        if name in (TRAIN, DEV):
            continue
        with progress.bar(f"{task.name}: linearise {name}", len(test)) as bar:
            found = linearised(before, test, moved, looking.batch_size, bar)
        for key, values in _both(found):
            metrics[key][name] = evaluate(task, test, answers_of(task, values))
    train = evenly(prompts[TRAIN], looking.examples)
    with progress.bar(f"{task.name}: gradients", len(train)) as bar:
        change = drift(before, after, train, names, KernelSettings(batch_size=looking.batch_size), bar)
    if not (change.before.all() and change.after.all()):
        raise KernelError(f"{task.name}: an example has no gradient at all, so that no relative change can be told")
    angles = {"change": tuple(change.relative().tolist()), "cosine": tuple(change.cosine().tolist())}
    return {**metrics, **angles}


def _both(found: Linearised) -> tuple[tuple[str, Tensor], tuple[str, Tensor]]:
    return ("start", found.start), ("linearised", found.values)


def evenly(items: Sequence[EncodedPrompt], count: int) -> list[EncodedPrompt]:
    """Return at most `count` of some items, evenly spaced: training examples may be in the order of their labels."""
    if len(items) <= count:
        return list(items)
    return [items[number * len(items) // count] for number in range(count)]
