"""Loading what was tuned onto its base model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from shoestring.config import build
from shoestring.errors import ConfigError, ModelError, UnknownNameError
from shoestring.tuning.base import TUNINGS
from shoestring.tuning.delta import NOTE, read_note

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from shoestring.tuning.base import Tuning


def load_tuned(model: PreTrainedModel, folder: str | Path) -> PreTrainedModel:
    """Put what a tuning saved onto its base model, in place, and return the model as the tuning left it.

    Folders that hold an adapter of peft's, and nothing of ours, are read too.

    Args:
        model: the base model that was tuned, in any precision.
        folder: what `Tuning.save` wrote (a run's `model/`), or peft's `save_pretrained`.

    Raises:
        ModelError: if the folder holds nothing of the kind, is damaged, or belongs to another base model.
    """
    place = Path(folder)
    return tuning_of(place).restore(model, place)


def tuning_of(folder: Path) -> Tuning:
    """Return the tuning that wrote a folder.

    Raises:
        ModelError: if none did, or by settings that are not known here.
    """
    note = read_note(folder)
    if note is None and (folder / "adapter_config.json").is_file():
        from shoestring.tuning.adapters import tuning_of_peft

        return tuning_of_peft(folder)
    if note is None:
        if (folder / "config.json").is_file():
            return TUNINGS.get("full")()
        inside = ", ".join(sorted(entry.name for entry in folder.iterdir())[:8]) if folder.is_dir() else "no folder"
        raise ModelError(f"{folder} holds nothing that was tuned: no {NOTE}, no adapter_config.json ({inside})")
    try:
        return build(TUNINGS.get(str(note.tuning.get("kind"))), note.tuning, str(folder / NOTE))
    except (ConfigError, UnknownNameError) as error:
        raise ModelError(f"{folder / NOTE} names a tuning that is not known here: {error}") from error
