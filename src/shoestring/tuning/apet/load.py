"""Saving what was tuned as a small file, loading it onto the base model, and adding it to the base model's weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shoestring.config import build
from shoestring.errors import ConfigError, ModelError
from shoestring.tuning.apet import storage
from shoestring.tuning.apet.delta import deltas, fold
from shoestring.tuning.base import TUNINGS
from shoestring.tuning.delta import write_note
from shoestring.tuning.fingerprint import check_fingerprint, fingerprint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from transformers import PreTrainedModel

    from shoestring.tuning.catalog.apet import APET

_NOTE = "_apet"


@dataclass(frozen=True)
class Tuned:
    """What saving has to know of how a model was tuned: the seed of what was inserted, and its names."""

    seed: int
    added: tuple[str, ...]


def load_delta(model: PreTrainedModel, folder: str | Path) -> PreTrainedModel:
    """Put what `save_delta` wrote onto the base model, in place; exactly what was trained is trainable again.

    Args:
        model: the base model that was tuned, in any precision.
        folder: where `delta.safetensors` is.

    Raises:
        ModelError: if the file is damaged, or belongs to another base model.
    """
    place = Path(folder)
    table = _about(storage.read(place), place)["tuning"]
    try:
        tuning: APET = build(TUNINGS.get("apet"), table, str(place / storage.FILE))
    except ConfigError as error:
        raise ModelError(f"{place / storage.FILE} was written by settings that are not known here: {error}") from error
    return restore_delta(tuning, model, place)


def save_delta(tuning: APET, model: PreTrainedModel, folder: Path) -> None:
    """Write positions and values of what was tuned, and what they belong to.

    Raises:
        ModelError: if the model was not tuned by APET, or has been merged.
    """
    tuned = vars(model).get(_NOTE)
    if not isinstance(tuned, Tuned):
        raise ModelError(f"this {type(model).__name__} has nothing that APET tuned: merged already, or never applied?")
    found = storage.collect(model)
    names = {name for name, _ in model.named_parameters()}
    own = {f"{place}.delta.{name}".lstrip(".") for place, _, delta in deltas(model) for name in delta.held()}
    changed = own | set(found.whole)
    settings = tuning.model_dump(mode="json")
    about = {
        "tuning": settings,
        "seed": tuned.seed,
        "model": type(model).__name__,
        "name": model.name_or_path,
        "base": fingerprint(model, changed | set(tuned.added)),
        "inserted": fingerprint(model, changed | (names - set(tuned.added))),
    }
    storage.write(storage.Stored(found.chosen, found.whole, about), folder)
    write_note(folder, settings, model, names)  # for `load_tuned`; the fingerprint stands in the header


def restore_delta(tuning: APET, model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """Do what `load_delta` does, for a tuning that is known."""
    stored, place = storage.read(folder), str(folder / storage.FILE)
    about = _about(stored, folder)
    refuse_tuned(model)
    if about["model"] != type(model).__name__:
        raise ModelError(f"{place} was tuned on another model: a {about['model']}, not a {type(model).__name__}")
    check_fingerprint(about["base"], model, place)
    added = tuning.add(model, about["seed"])
    check_fingerprint(about["inserted"], model, place)
    storage.put(stored, model, place)
    note(model, about["seed"], added)
    return model.eval()


def merge_delta(model: PreTrainedModel) -> PreTrainedModel:
    """Add what was trained to the weights that it was trained on, in place; modules that were inserted stay.

    In half precision the sums are rounded to the nearest.
    """
    fold(model)
    vars(model).pop(_NOTE, None)
    return model


def _about(stored: storage.Stored, folder: Path) -> Mapping[str, Any]:
    if not stored.about.keys() >= {"tuning", "seed", "model", "base", "inserted"}:
        raise ModelError(f"{folder / storage.FILE} does not say what model it is of")
    return stored.about


def note(model: PreTrainedModel, seed: int, added: Sequence[str]) -> None:
    """Note on a model how it was tuned."""
    vars(model)[_NOTE] = Tuned(seed, tuple(added))


def inserted(model: PreTrainedModel) -> int:
    """Return how many weights APET inserted into a model, trained or not; none where it is not tuned by APET."""
    tuned = vars(model).get(_NOTE)
    added = set(tuned.added) if isinstance(tuned, Tuned) else set()
    return sum(param.numel() for name, param in model.named_parameters() if name in added)


def refuse_tuned(model: PreTrainedModel) -> None:
    """Refuse a model that APET has tuned already.

    Raises:
        ModelError: if it has.
    """
    if _NOTE in vars(model):
        raise ModelError(f"this {type(model).__name__} has been tuned by APET already; merge it, or load the base anew")
