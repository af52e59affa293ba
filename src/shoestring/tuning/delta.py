"""What was tuned, in a small file: the tensors that differ from the base model, and a note on what they belong to."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shoestring.errors import ModelError
from shoestring.tuning.fingerprint import check_fingerprint, fingerprint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor
    from transformers import PreTrainedModel

    from shoestring.tuning.base import TuningSettings

NOTE = "tuning.json"
TENSORS = "tuned.safetensors"
_FORMAT = 1


@dataclass(frozen=True)
class Note:
    """What stands beside saved tensors: the tuning's settings, and of what model they are."""

    tuning: dict[str, Any]
    model: str
    name: str
    fingerprint: dict[str, Any]


def save_delta(tuning: TuningSettings, model: PreTrainedModel, folder: Path) -> None:
    """Write `tuned.safetensors`, the tensors that the tuning changes, and `tuning.json`, which says what of."""
    wanted = tuning.written(model)
    found = {name: param.detach() for name, param in model.named_parameters() if name in wanted}
    write_tensors(folder, found)
    write_note(folder, tuning.model_dump(mode="json"), model, found)


def restore_delta(tuning: TuningSettings, model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """Apply a tuning to its base model and give it the saved tensors.

    Raises:
        ModelError: if a file is damaged, or of another base model or tuning.
    """
    check_base(model, folder)
    tensors = read_tensors(folder)
    tuned = tuning.apply(model, 0)
    put(tuned, tensors, str(folder), tuning.written(tuned))
    return tuned


def put(model: PreTrainedModel, tensors: Mapping[str, Tensor], place: str, wanted: set[str]) -> None:
    """Copy saved tensors into a model's parameters, which must be exactly the `wanted` ones.

    Raises:
        ModelError: if one is missing, not wanted, or has another shape; before any is copied.
    """
    params = {name: param for name, param in model.named_parameters() if name in wanted}
    if odd := sorted(params.keys() ^ tensors.keys()):
        here = "lacks" if odd[0] in params else "holds"
        raise ModelError(f"{place}/{TENSORS} {here} {odd[0]}, unlike {type(model).__name__} with this tuning")
    for name, param in params.items():
        if param.shape != tensors[name].shape:
            raise ModelError(
                f"{place}/{TENSORS}: {name} is {list(tensors[name].shape)}, where the model has {list(param.shape)}"
            )
    for name, param in params.items():
        param.data.copy_(tensors[name])


def write_tensors(folder: Path, tensors: Mapping[str, Tensor], name: str = TENSORS) -> None:
    """Write tensors to a safetensors file."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()},
        folder / name,
        {"format": "pt"},
    )


def read_tensors(folder: Path, name: str = TENSORS) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        ModelError: if it is not there or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(folder / name)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{folder / name} cannot be read: {error}") from error


def write_note(
    folder: Path, settings: Mapping[str, Any], model: PreTrainedModel, changed: Mapping[str, Tensor] | set[str]
) -> None:
    """Write `tuning.json`: settings, and the fingerprint of the weights that are not among the changed ones."""
    note = {
        "format": _FORMAT,
        "tuning": dict(settings),
        "model": type(model).__name__,
        "name": model.name_or_path,
        "fingerprint": fingerprint(model, changed),
    }
    (folder / NOTE).write_text(json.dumps(note, ensure_ascii=False) + "\n", encoding="utf-8")


def read_note(folder: Path) -> Note | None:
    """Read `tuning.json`; None where there is none.

    Raises:
        ModelError: if it is damaged, or of a later version.
    """
    place = folder / NOTE
    if not place.is_file():
        return None
    try:
        table = json.loads(place.read_text(encoding="utf-8"))
        version = table.pop("format")
        note = Note(**table)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{place} is damaged: {error}") from error
    if version != _FORMAT:
        raise ModelError(f"{place} is of format {version}, and this version reads format {_FORMAT}")
    return note


def check_base(model: PreTrainedModel, folder: Path) -> None:
    """Refuse a model that is not the one that a folder's tuning belongs to; a folder without a note says nothing.

    Raises:
        ModelError: if it is of another class, or has other weights.
    """
    note = read_note(folder)
    if note is None:
        return
    if note.model != type(model).__name__:
        raise ModelError(f"{folder} was tuned on another model: a {note.model}, not a {type(model).__name__}")
    check_fingerprint(note.fingerprint, model, str(folder))
