"""Run one config: from its task to its record."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from shoestring.data.example import Splits
from shoestring.data.splits import draw
from shoestring.errors import ModelError, RunFolderError, ShoestringError
from shoestring.files import write_json, write_jsonl, writing
from shoestring.memory import PeakMemory
from shoestring.methods.base import Given, Outcome
from shoestring.models.evaluation import evaluate
from shoestring.models.loading import LoadedModel, fingerprint, load_model
from shoestring.models.prompted import Passes, PromptedModel, predictions
from shoestring.models.quiet import quiet
from shoestring.models.scoring import SCORERS
from shoestring.progress import Progress, Silent
from shoestring.prompts.encoding import EncodedPrompt, PromptEncoder
from shoestring.runs.config import RunConfig
from shoestring.runs.environment import environment
from shoestring.runs.folder import MODEL, RunFolder
from shoestring.runs.record import (
    PREDICTIONS,
    SPLIT,
    Memory,
    PassCounts,
    Record,
    SplitSizes,
    Weights,
    read_record,
    write_record,
)
from shoestring.training.fit import last_checkpoint, step_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

Prompts = Mapping[str, Sequence[EncodedPrompt]]


@dataclass(frozen=True)
class Prepared:
    """A run about to start: everything that can be wrong with its input has been read and checked."""

    subject: PromptedModel
    splits: Splits
    prompts: Prompts
    tokenizer: Any


def run(config: RunConfig, *, force: bool = False, progress: Progress | None = None) -> Record:
    """Return the record of `config`, making the run unless its folder already holds a finished one.

    Mistakes in data, prompts or model are found before anything is written. An interrupted run goes on from its last
    checkpoint. A failed or cancelled one leaves a record that says so, and its last checkpoint.

    Args:
        config: the config; its `folder` is where everything is written.
        force: make the run again even if it is finished, from the start.
        progress: where to report long work; silent by default.

    Raises:
        ShoestringError: a subclass names each mistake (DataError, ModelError, LabelWordError, NonFiniteLossError, ...).
        RunFolderError: also if data or model changed under a finished run of the same config.
    """
    _one_process()
    progress = progress or Silent()
    splits = draw(config.task, config.data, config.seed)
    known = None if force else read_record(config.folder)
    if known is not None and known.status == "ok":
        _same_run(known, config)
        _unchanged(config, splits.digest, known.split.digest if known.split is not None else None, known, "made")
        # The weights of a finished run are gone unless it kept them: to have them is to make it again.
        if not config.output.keep_model or (config.folder / MODEL).is_dir():
            return known
    prepared = prepare(config, splits)
    folder = RunFolder(config.folder, config.identity())
    with folder.open(force=force):
        return _execute(config, prepared, folder, progress)


def prepare(config: RunConfig, splits: Splits) -> Prepared:
    """Load the model, apply the tuning and encode every example."""
    regression_or_classes = 1 if config.task.range is not None else len(config.task.labels)
    loaded = load_model(config.model, labels=regression_or_classes, seed=config.seed)
    kind = config.model.kind
    encoder = PromptEncoder(config.task, loaded.tokenizer, kind, config.prompt, loaded.max_tokens)
    model = config.tuning.apply(loaded.model, config.seed)
    subject = PromptedModel(model, config.task, encoder, SCORERS.get(kind), _pad_id(loaded))
    prompts = {name: encoder.encode_all(examples) for name, examples in splits.named.items()}
    return Prepared(subject, splits, prompts, loaded.tokenizer)


def _pad_id(loaded: LoadedModel) -> int:
    """Return the id to pad with.

    Padding is masked out, so any would do, were it not for the heads of causal models: they read the last token that is
    not the padding named in the model's config.
    """
    if loaded.settings.kind != "head":
        return int(str(loaded.tokenizer.pad_token_id or 0))
    pad = loaded.model.config.pad_token_id
    if pad is None:
        name = loaded.settings.name
        raise ModelError(f"model.name={name!r} has no padding token, which a classification head needs")
    return int(pad)


def _execute(config: RunConfig, prepared: Prepared, folder: RunFolder, progress: Progress) -> Record:
    subject, prompts = prepared.subject, prepared.prompts
    started = _now()
    checkpoint = last_checkpoint(folder.checkpoints)
    if checkpoint is not None:
        _unchanged(config, prepared.splits.digest, folder.split_digest(), read_record(folder.path), "begun")
    write_json(folder.path / SPLIT, _split(prepared.splits))
    folder.rewind_log(step_of(checkpoint) if checkpoint is not None else -1)
    # What libraries allocate once, on their first use in a process, is not the method's.
    replace(subject, passes=Passes()).predict(prompts["dev"][:1], 1)
    memory = PeakMemory(subject.model.device)
    given = Given(
        subject, prompts["train"], prompts["dev"], config.seed, folder.checkpoints, folder.log, progress, memory
    )

    def record(status: str, **more: Any) -> Record:
        facts = {"run_id": config.run_id, "status": status, "config": config.model_dump(mode="json")}
        facts |= {"split": _sizes(prepared), "weights": _weights(subject), "started": started, "finished": _now()}
        facts |= {"model_fingerprint": fingerprint(config.model), "environment": environment(subject.model.device)}
        return Record.model_validate(facts | more)

    with _failures(lambda status, error: write_record(folder.path, record(status, error=error)), folder):
        outcome = config.method.fit(given)
        passes = PassCounts(**asdict(subject.passes))
        begin = time.perf_counter()
        with memory.lap("predict"):
            scores = {name: _predict(outcome, name, prompts[name], config, progress) for name in _predicted(prompts)}
        done = record(
            "ok",
            metrics={name: evaluate(config.task, prompts[name], rows) for name, rows in scores.items()},
            facts=outcome.facts,
            passes=passes,
            seconds={"fit": outcome.seconds, "predict": time.perf_counter() - begin},
            memory=Memory(
                weights=_bytes(subject), fit=memory.bytes["fit"], predict=memory.bytes["predict"], how=memory.how
            ),
        )
        write_jsonl(folder.path / PREDICTIONS, _rows(config, prompts, scores))
        if config.output.keep_model:
            _keep(config, prepared, folder)
        write_record(folder.path, done)
    shutil.rmtree(folder.checkpoints, ignore_errors=True)
    return done


@contextmanager
def _failures(write: Callable[[str, str], None], folder: RunFolder) -> Iterator[None]:
    """Leave a record of status failed or cancelled, whatever happens inside, and let the error go on."""
    try:
        yield
    except KeyboardInterrupt:
        write("cancelled", "interrupted; the same command goes on from the last checkpoint")
        raise
    except Exception as error:
        checkpoint = last_checkpoint(folder.checkpoints)
        kept = f"; the last good weights are in {checkpoint}" if checkpoint is not None else ""
        text = f"{error}{kept}" if isinstance(error, ShoestringError) else f"{type(error).__name__}: {error}{kept}"
        write("failed", text)
        if kept:
            error.add_note(kept.removeprefix("; "))
        raise


def _predicted(prompts: Prompts) -> list[str]:
    return [name for name in prompts if name != "train"]


def _predict(
    outcome: Outcome, name: str, prompts: Sequence[EncodedPrompt], config: RunConfig, progress: Progress
) -> Tensor:
    with progress.bar(f"{config.task.name}: predict {name}", len(prompts)) as bar:
        return outcome.predictor.predict(prompts, config.output.eval_batch_size, bar)


def _rows(config: RunConfig, prompts: Prompts, scores: Mapping[str, Tensor]) -> Iterator[dict[str, Any]]:
    names = config.task.label_names
    for split, rows in scores.items():
        predicted = predictions(config.task, rows).tolist()
        for prompt, prediction, row in zip(prompts[split], predicted, rows.tolist(), strict=True):
            answer = {"label": prompt.label, "prediction": prediction}
            if config.task.range is None:
                answer = {"label": names[int(prompt.label)], "prediction": names[prediction]}
            yield {"split": split, "uid": prompt.uid, **answer, "scores": row}


def _keep(config: RunConfig, prepared: Prepared, folder: RunFolder) -> None:
    with writing(folder.path), quiet():
        config.tuning.save(prepared.subject.model, folder.path / MODEL)
        prepared.tokenizer.save_pretrained(folder.path / MODEL)


def _split(splits: Splits) -> dict[str, Any]:
    uids = {name: [example.uid for example in examples] for name, examples in splits.named.items()}
    return {"digest": splits.digest, **uids}


def _sizes(prepared: Prepared) -> SplitSizes:
    splits = prepared.splits
    truncated = sum(prompt.truncated > 0 for prompts in prepared.prompts.values() for prompt in prompts)
    tests = {name: len(examples) for name, examples in splits.tests.items()}
    return SplitSizes(
        digest=splits.digest, train=len(splits.train), dev=len(splits.dev), tests=tests, truncated=truncated
    )


def _weights(subject: PromptedModel) -> Weights:
    parameters = list(subject.model.parameters())
    trained = sum(param.numel() for param in parameters if param.requires_grad)
    return Weights(total=sum(param.numel() for param in parameters), trained=trained)


def _bytes(subject: PromptedModel) -> int:
    return sum(param.numel() * param.element_size() for param in subject.model.parameters())


def _same_run(known: Record, config: RunConfig) -> None:
    if known.run_id != config.run_id:
        raise RunFolderError(
            f"{config.folder} holds a run of another config ({known.run_id}); "
            "choose another output.folder, or --force to overwrite it"
        )


def _unchanged(config: RunConfig, digest: str, before: str | None, known: Record | None, verb: str) -> None:
    """Refuse to reuse, or to go on with, what was made from other data or another model."""
    changed = []
    if before != digest:
        changed.append("data")
    if known is not None and known.model_fingerprint != fingerprint(config.model):
        changed.append("model")
    if changed:
        raise RunFolderError(
            f"{config.folder}: the {' and the '.join(changed)} changed since this run was {verb}; "
            "--force makes it again, another output.folder keeps both"
        )


def _one_process() -> None:
    size = os.environ.get("WORLD_SIZE", "1")
    if size.isdigit() and int(size) > 1:
        raise RunFolderError(f"this run was started by {size} processes at once; start it with one")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
