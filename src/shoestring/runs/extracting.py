"""What a model is at the answer, example by example: its last hidden states and feed-forward activations, to a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from shoestring.config import build
from shoestring.data.splits import draw
from shoestring.errors import DataError, ModelError, OutputError, RunFolderError, UnknownNameError
from shoestring.files import make_folder, replacing, write_json, writing
from shoestring.models.features import answer_activations, feed_forwards, over_batches
from shoestring.models.sharing import Sharing
from shoestring.progress import Bar, Progress, Silent
from shoestring.runs.config import RunConfig
from shoestring.runs.export import finished_run
from shoestring.runs.folder import MODEL
from shoestring.runs.run import prepare
from shoestring.runs.tensor_file import Rows
from shoestring.tuning.catalog.full import Full
from shoestring.tuning.load import load_tuned

if TYPE_CHECKING:
    from torch import Tensor

    from shoestring.data.example import Splits
    from shoestring.models.batch import Batch
    from shoestring.models.prompted import PromptedModel
    from shoestring.prompts.encoding import EncodedPrompt

LAST = "last_hidden"
FEED_FORWARD = "feed_forward"


@dataclass(frozen=True)
class Extracted:
    """What was written: N examples, and the shape of each tensor by its name."""

    examples: int
    shapes: dict[str, tuple[int, int]]


def config_of(run: Path) -> tuple[RunConfig, Path | None]:
    """Return the config of a finished run, and the folder of what it tuned; None where it tuned nothing.

    Raises:
        RunFolderError: if there is no finished run, or it did not keep its model.
    """
    record = finished_run(run)
    config = build(RunConfig, record.config, f"{run}/result.json")
    if not config.method.trains:
        return config, None
    if not (run / MODEL).is_dir():
        raise RunFolderError(
            f"{run} did not keep its model: run it again with output.keep_model=true; after a zeroth-order run "
            "`shoestring replay` makes the model from the log"
        )
    return config, run / MODEL


def extract(
    config: RunConfig,
    out: Path,
    *,
    tuned: Path | None = None,
    split: str = "test",
    layers: Sequence[int] | None = None,
    progress: Progress | None = None,
) -> Extracted:
    """Write what a model is at the token from which it answers, for every example of a split.

    `out` is a safetensors file of float32 (float64 of such a model) tensors, in the order of the split:

        last_hidden        [N, D]    the state that the output layer reads (`models.features.states`)
        feed_forward.l     [N, F]    the activations of feed-forward layer l, which its second matrix reads

    and the json file of the same name has `uids` and `labels`. The token is the mask, the last token of a causal
    prompt, or the first place of a decoder, whose layers alone are written then. Rows are written as they are computed.

    Args:
        config: task, data, model, prompt, and tuning: a new one, unless `tuned` is given.
        out: the file; it must not be there.
        tuned: the folder of what a run tuned (`model/`).
        split: `train`, `dev`, or a test set.
        layers: numbers of feed-forward layers, from 0, or from the end if negative; all by default.
        progress: where to report.

    Raises:
        UnknownNameError: if there is no such split.
        DataError: if it is empty, or prompts ask in several ways.
        ModelError: if the model has no such token or layers.
        OutputError: if something is in the way, or the disk refuses.
    """
    progress = progress or Silent()
    labels = out.with_suffix(".json")
    for place in (out, labels):
        if place.exists():
            raise OutputError(f"{place} is there already; choose another --out")
    splits = draw(config.task, config.data, config.seed)
    if split not in splits.named:
        raise UnknownNameError("split", split, splits.named)
    subject, prompts = _subject(config, splits, split, tuned, progress)
    _check(split, prompts)
    chosen = _layers(subject, layers)

    with progress.bar(f"{config.task.name}: extract {split}", len(prompts)) as bar:
        shapes = _write(out, subject, prompts, config.output.eval_batch_size, chosen, bar)
    about = {"task": config.task.name, "split": split, "model": config.model.name, "digest": splits.digest}
    texts = {"uids": [one.uid for one in splits.named[split]], "labels": [one.label for one in splits.named[split]]}
    try:
        write_json(labels, {**about, "layers": chosen, **texts})
    except BaseException:  # One without the other is of no use.
        out.unlink(missing_ok=True)
        raise
    return Extracted(len(prompts), shapes)


def _write(
    out: Path, subject: PromptedModel, prompts: Sequence[EncodedPrompt], size: int, layers: Sequence[int], bar: Bar
) -> dict[str, tuple[int, int]]:
    """Write the tensors of all prompts, and return their shapes."""

    def read(batch: Batch) -> dict[str, Tensor]:
        last, activations = answer_activations(subject, batch)
        return {LAST: last, **{f"{FEED_FORWARD}.{layer}": activations[layer] for layer in layers}}

    rows: Rows | None = None
    shapes: dict[str, tuple[int, int]] = {}
    make_folder(out.parent)
    with writing(out), replacing(out) as half, half.open("wb") as file:
        for numbers, found in over_batches(subject, prompts, size, read):
            if rows is None:
                shapes = {name: (len(prompts), value.shape[1]) for name, value in found.items()}
                rows = Rows(file, shapes, found[LAST].cpu().numpy().dtype, {"task": subject.task.name})
            for name, value in found.items():
                rows.put(name, numbers, value)
            bar.advance(len(numbers))
    return shapes


def _subject(
    config: RunConfig, splits: Splits, split: str, tuned: Path | None, progress: Progress
) -> tuple[PromptedModel, Sequence[EncodedPrompt]]:
    # Prompts of other splits would be made for nothing; demonstrations come from the training set.
    dev, tests = splits.dev if split == "dev" else (), {k: v for k, v in splits.tests.items() if k == split}
    if tuned is not None:
        config = config.model_copy(update={"tuning": Full()})
    prepared = prepare(config, replace(splits, dev=dev, tests=tests), progress)
    if not prepared.prompts[split]:
        raise DataError(split, "there are no examples of it to extract, or the method looks at none")
    subject = prepared.subject
    if tuned is not None:
        subject = replace(subject, model=load_tuned(subject.model, tuned), sharing=Sharing())
    return subject, prepared.prompts[split]


def _check(split: str, prompts: Sequence[EncodedPrompt]) -> None:
    if any(prompt.variants for prompt in prompts):
        raise DataError(
            split, "its examples are asked in several ways, and activations are of one; give prompt.template in the "
            "place of prompt.templates, and prompt.demonstrations.samples=1",
        )  # fmt: skip


def _layers(subject: PromptedModel, layers: Sequence[int] | None) -> list[int]:
    """Return the numbers of the layers to write, in order; layers that share weights have one module, and count."""
    if not subject.scorer.has_vocabulary:
        raise ModelError("model.kind='head' has no token that stands for the answer; use a prompted kind of model")
    config = subject.model.config
    stacks = [getattr(config, "decoder_layers", None), getattr(config, "num_decoder_layers", None)]
    depth = next(
        (n for n in stacks if config.is_encoder_decoder and n is not None), config.get_text_config().num_hidden_layers
    )
    feed_forwards(subject.model)
    unknown = [layer for layer in layers or () if not -depth <= layer < depth]
    if unknown:
        raise ModelError(f"layer {unknown[0]}: the model has {depth} layers, 0 to {depth - 1}, or -{depth} to -1")
    return sorted({layer % depth for layer in layers}) if layers is not None else list(range(depth))
