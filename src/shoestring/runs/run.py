"""Run one config: from its task to its record."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from shoestring.data.example import Example, Splits
from shoestring.data.splits import draw
from shoestring.errors import DataError, RunFolderError
from shoestring.files import write_jsonl
from shoestring.memory import PeakMemory
from shoestring.methods.base import Given, Outcome
from shoestring.models.budget import Budget
from shoestring.models.embedding import Embedder
from shoestring.models.generation import Generator
from shoestring.models.loading import LoadedModel, is_still, load_longest_input, load_model, load_tokenizer
from shoestring.models.prompted import Passes, PromptedModel
from shoestring.models.quiet import quiet
from shoestring.models.scoring import SCORERS
from shoestring.models.sharing import Sharing
from shoestring.progress import Bar, Progress, Silent
from shoestring.prompts.build import build_encoder
from shoestring.prompts.demonstrations.templated import Templated
from shoestring.prompts.encoding import EncodedPrompt, Encoder
from shoestring.prompts.pool import Pool
from shoestring.runs.answer_log import ANSWERS, AnswerLog
from shoestring.runs.config import RunConfig
from shoestring.runs.environment import environment
from shoestring.runs.failures import failures
from shoestring.runs.folder import MODEL, Inputs, RunFolder
from shoestring.runs.limits import Limits, dev_values
from shoestring.runs.looking import apply_tuning
from shoestring.runs.predicting import answer, metrics_of, predicted_splits, prediction_rows
from shoestring.runs.record import (
    PREDICTIONS,
    Memory,
    PassCounts,
    Record,
    SplitSizes,
    Weights,
    now,
    read_record,
    write_record,
)
from shoestring.runs.vocabulary import check_ids, forget_padding, pad_id
from shoestring.tasks.spec import Generation
from shoestring.training.checkpoints import last_checkpoint, steps_kept
from shoestring.training.trackers import TENSORBOARD, Tracking, refuse_missing

if TYPE_CHECKING:
    from pathlib import Path


_TOLD = 500
"""Examples encoded between two moves of the bar."""
Prompts = Mapping[str, Sequence[EncodedPrompt]]


@dataclass(frozen=True)
class Prepared:
    """A run about to start: everything that can be wrong with its input has been read and checked."""

    subject: PromptedModel
    splits: Splits
    prompts: Prompts
    tokenizer: Any
    inputs: Inputs


def run(
    config: RunConfig,
    *,
    force: bool = False,
    progress: Progress | None = None,
    splits: Splits | None = None,
    limits: Limits | None = None,
) -> Record:
    """Return the record of `config`, making the run unless its folder already holds a finished one.

    Mistakes in data, prompts or model are found before anything is written. An interrupted run goes on from its last
    checkpoint. A failed or cancelled one leaves a record that says so, and its last checkpoint. A finished run that
    lacks the model which `output.keep_model` asks for is made once more; its record stays until the new one takes its
    place.

    Args:
        config: the config; its `folder` is where everything is written.
        force: make the run again even if it is finished, from the start.
        progress: where to report long work; silent by default.
        splits: what `draw` gives for the config, where the caller has it already.
        limits: what it must reach on dev to be made to its end.

    Raises:
        ShoestringError: a subclass names each mistake (DataError, ModelError, LabelWordError, NonFiniteLossError, ...).
        RunFolderError: also if data or model changed under a finished run of the same config.
        RunBusyError: if another process is making the run.
        PrunedError: if it stays below its limits; its record says so, and never counts as finished.
    """
    _one_process()
    progress = progress or Silent()
    splits = draw(config.task, config.data, config.seed) if splits is None else splits
    known = None if force else _ended_well(config)
    if known is not None:
        same_data = known.split is not None and known.split.digest == splits.digest
        _refuse_changed(config, "made", data=same_data, model=is_still(config.model, known.model_fingerprint))
        if _has_all(config):
            # A process that was killed just behind the record left its checkpoints.
            RunFolder(config.folder, config.identity()).tidy_if_free()
            return known
    refuse_missing(config.output.report_to)
    _refuse_no_dev(config, splits)
    prepared = prepare(config, splits, progress)
    folder = RunFolder(config.folder, config.identity(), _watch(config, limits, force=force))
    with folder.open(force=force):
        if known is None:
            # Another process may have ended it while this one loaded the model.
            made = None if force else _ended_well(config)
            return _execute(config, prepared, folder, progress) if made is None else made
        inner = folder.again()
        done = _execute(config, prepared, inner, progress)
        folder.take(inner)
        return done


def _watch(config: RunConfig, limits: Limits | None, *, force: bool) -> Callable[[dict[str, Any]], None] | None:
    if limits is None:
        return None
    return limits.watch({} if force else dev_values(config.folder, limits.metric))


def finished(config: RunConfig) -> Record | None:
    """Return the record of `config` if `run` would make nothing: it is finished, and kept its model if that is wanted.

    Raises:
        RunFolderError: if the record is damaged, or another config's.
    """
    known = _ended_well(config)
    return known if _has_all(config) else None


def _ended_well(config: RunConfig) -> Record | None:
    known = read_record(config.folder)
    if known is None or known.status != "ok":
        return None
    if known.run_id != config.run_id:
        raise RunFolderError(
            f"{config.folder} holds a run of another config ({known.run_id}); "
            "choose another output.folder, or --force to overwrite it"
        )
    return known


def _has_all(config: RunConfig) -> bool:
    """Return whether a finished run has its weights, which are gone unless it kept them, where they are wanted."""
    return not config.output.keep_model or (config.folder / MODEL).is_dir()


def _refuse_no_dev(config: RunConfig, splits: Splits) -> None:
    if config.needs_dev and not splits.dev:
        raise DataError(
            f"task {config.task.name}",
            f"train takes every example and leaves none for dev, which method.kind={config.method.kind!r} needs; "
            "a smaller data.k",
        )


def prepare(config: RunConfig, splits: Splits, progress: Progress | None = None) -> Prepared:
    """Encode every example, then load the model and apply the tuning: mistakes in prompts cost no loading of weights.

    Raises:
        ShoestringError: a subclass names each mistake.
    """
    task, kind = config.asked, config.model.kind
    tokenizer = load_tokenizer(config.model)
    embed = _embedder(config)
    pool = Pool(splits.train, config.seed, splits.own, embed)
    encoder = build_encoder(task, tokenizer, kind, config.prompt, load_longest_input(config.model), pool)
    read = dict(splits.named)
    if not getattr(config.method, "reads_train", True):
        read["train"] = ()
    with (progress or Silent()).bar(f"{task.name}: encode", sum(map(len, read.values()))) as bar:
        prompts = {name: _encoded(encoder, examples, bar) for name, examples in read.items()}
    if embed is not None:
        embed.release()
    with (progress or Silent()).bar(f"load {config.model.name}", 1):
        loaded = load_model(config.model, labels=outputs(config), seed=config.seed, tokenizer=tokenizer)
    forget_padding(loaded)
    check_ids(loaded, (prompt for split in prompts.values() for prompt in split))
    base = PromptedModel(
        loaded.model,
        task,
        encoder,
        SCORERS.get(kind),
        pad_id(loaded),
        settings=config.prompt,
        budget=Budget(config.output.eval_tokens),
        generator=_generator(config, loaded),
    )
    objective = getattr(config.method, "objective", None)
    model = loaded.model.requires_grad_(False)
    if config.reads_tuning:
        model = apply_tuning(config.tuning, base, prompts["train"], config.seed, objective)
    # What a model can share may change with what a tuning adds to it, even in place.
    subject = replace(base, model=model, sharing=Sharing())
    return Prepared(subject, splits, prompts, tokenizer, Inputs(splits.digest, loaded.fingerprint))


def _embedder(config: RunConfig) -> Embedder | None:
    """Return what embeds texts, where demonstrations are those most like the example that is asked about."""
    shown = config.prompt.demonstrations
    rule = shown.filter if isinstance(shown, Templated) else None
    return None if rule is None else Embedder(rule.model, rule.revision, config.model.device)


def _encoded(encoder: Encoder, examples: Sequence[Example], bar: Bar) -> list[EncodedPrompt]:
    prompts = []
    for start in range(0, len(examples), _TOLD):
        prompts += encoder.encode_all(examples[start : start + _TOLD])
        bar.advance(min(_TOLD, len(examples) - start))
    return prompts


def _generator(config: RunConfig, loaded: LoadedModel) -> Generator | None:
    """Return what writes answers, where the task asks for that."""
    task = config.asked
    if task.has_scores:
        return None
    return Generator(loaded.tokenizer, task.generation or Generation(), config.generation, pad_id(loaded), config.seed)


def _warm_up(config: RunConfig, prepared: Prepared) -> None:
    """Let libraries allocate what they allocate once, on their import and first use: it is not the method's."""
    subject, method = prepared.subject, config.method
    if method.trains:
        import shoestring.training.fit  # noqa: F401
    if method.trains and not method.needs_backward:
        from shoestring.zeroth.noise import noise_for

        noise_for(next(subject.model.parameters()))
    first = predicted_splits(prepared.prompts)[0]
    replace(subject, passes=Passes()).predict(prepared.prompts[first][:1], 1)


def _execute(config: RunConfig, prepared: Prepared, folder: RunFolder, progress: Progress) -> Record:
    subject, prompts = prepared.subject, prepared.prompts
    started = now()
    _begin(config, prepared, folder)

    def record(status: str, **more: Any) -> Record:
        facts = {"run_id": config.run_id, "status": status, "config": config.model_dump(mode="json")}
        facts |= {"split": _sizes(prepared), "weights": _weights(subject), "started": started, "finished": now()}
        facts |= {"model_fingerprint": prepared.inputs.model, "environment": environment(subject.model.device)}
        return Record.model_validate(facts | more)

    def end_badly(status: str, error: str) -> None:
        # An interrupt may come just behind the writing of the good record.
        known = read_record(folder.path)
        if known is None or known.status != "ok":
            write_record(folder.path, record(status, error=error))

    with failures(end_badly, folder, config.model.name):
        _warm_up(config, prepared)
        memory = PeakMemory(subject.model.device)
        given = Given(
            subject,
            prompts["train"],
            prompts["dev"],
            config.seed,
            folder.checkpoints,
            folder.log,
            progress,
            memory,
            config.output.eval_batch_size,
            origin_of(config),
            {name: tuple(prompt.uid for prompt in split) for name, split in prompts.items()},
            tracking_of(config, folder.path),
        )
        outcome = config.method.fit(given)
        passes = PassCounts(**asdict(subject.passes))
        begin = time.perf_counter()
        with memory.lap("predict"), AnswerLog(folder.path / ANSWERS, _about(config, prepared, outcome)) as log:
            found = answer(outcome, prompts, config, log, progress)
        done = record(
            "ok",
            metrics=metrics_of(config, prompts, found),
            facts=outcome.facts,
            passes=passes,
            seconds={"fit": outcome.seconds, "predict": time.perf_counter() - begin},
            memory=Memory(
                weights=_bytes(subject), fit=memory.bytes["fit"], predict=memory.bytes["predict"], how=memory.how
            ),
        )
        rows = prediction_rows(config, prompts, prepared.splits.named, found, prepared.tokenizer)
        write_jsonl(folder.path / PREDICTIONS, rows)
        if config.output.keep_model:
            folder.keep_model(partial(_save, config, prepared))
        folder.keep_trajectory()
        write_record(folder.path, done)
    folder.tidy()
    return done


def _about(config: RunConfig, prepared: Prepared, outcome: Outcome) -> dict[str, Any]:
    """Return what predictions depend on, so that those of a killed process are taken only where they still hold."""
    inputs, step = prepared.inputs, outcome.facts.get("selected_step")
    return {"run": config.run_id, "data": inputs.data, "model": inputs.model, "step": step}


def origin_of(config: RunConfig) -> dict[str, Any]:
    """Return what a log is to say, so that its model and optimizer can be made again: see `runs.replay`."""
    parts = config.model_dump(mode="json", include={"model", "tuning", "method", "seed"})
    return parts | {"run_id": config.run_id, "task": config.task.name, "outputs": outputs(config)}


def tracking_of(config: RunConfig, folder: Path) -> Tracking:
    """Return what the training reports to, and what it is called there."""
    title = f"{config.task.name} {config.method.kind} {config.tuning.kind} seed {config.seed} {config.run_id}"
    return Tracking(config.output.report_to, folder / TENSORBOARD, title)


def outputs(config: RunConfig) -> int:
    """Return the number of outputs that a classification head needs."""
    return 1 if config.task.range is not None else len(config.task.labels)


def _begin(config: RunConfig, prepared: Prepared, folder: RunFolder) -> None:
    """Write what the run is begun with; if it goes on from a checkpoint, check that this is what it was begun with."""
    if last_checkpoint(folder.checkpoints) is not None:
        begun, now = folder.inputs(), prepared.inputs
        data, model = (begun.data, begun.model) if begun is not None else (None, None)
        _refuse_changed(config, "begun", data=data == now.data, model=model == now.model)
    uids = {name: [example.uid for example in examples] for name, examples in prepared.splits.named.items()}
    folder.write_split(prepared.inputs, uids)
    folder.rewind_log(steps_kept(folder.checkpoints))


def _save(config: RunConfig, prepared: Prepared, place: Path) -> None:
    with quiet():
        config.tuning.save(prepared.subject.model, place)
        prepared.tokenizer.save_pretrained(place)


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


def _refuse_changed(config: RunConfig, verb: str, **same: bool) -> None:
    """Refuse to reuse, or to go on with, what was made from other data or another model."""
    if changed := [name for name, unchanged in same.items() if not unchanged]:
        raise RunFolderError(
            f"{config.folder}: the {' and the '.join(changed)} changed since this run was {verb}; "
            "--force makes it again, another output.folder keeps both"
        )


def _one_process() -> None:
    size = os.environ.get("WORLD_SIZE", "1")
    if size.isdigit() and int(size) > 1:
        raise RunFolderError(
            f"this run was started by {size} processes at once; start it with one. What spreads over processes is the "
            "computation of kernels from Python, shoestring.kernels.compute_kernels"
        )
