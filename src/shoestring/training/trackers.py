"""Trackers of experiments that a training reports to, through transformers' own callbacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from shoestring.errors import MissingPackageError

if TYPE_CHECKING:
    from transformers import TrainerCallback

Tracker = Literal["tensorboard", "trackio", "wandb"]
TENSORBOARD = "tensorboard"
"""Folder of a run's event files, in the run's own."""
PROJECT = "shoestring"


@dataclass(frozen=True)
class Tracking:
    """What a training reports to.

    Attributes:
        names: the trackers.
        folder: where TensorBoard's event files go.
        title: what the run is called there.
    """

    names: tuple[Tracker, ...] = ()
    folder: Path = Path(TENSORBOARD)
    title: str = ""

    def arguments(self) -> dict[str, Any]:
        """Return the Trainer's arguments that name the trackers which have no folder of their own."""
        names = [name for name in self.names if name != TENSORBOARD]
        # Trackio would publish a snapshot of a Space at the end.
        local = {"trackio_static_space_id": False} if "trackio" in names else {}
        return {"report_to": names or "none", "run_name": self.title or None, "project": PROJECT, **local}

    def callbacks(self) -> list[TrainerCallback]:
        """Return what writes TensorBoard's files."""
        if TENSORBOARD not in self.names:
            return []
        from torch.utils.tensorboard import SummaryWriter
        from transformers.integrations import TensorBoardCallback

        return [TensorBoardCallback(SummaryWriter(log_dir=str(self.folder)))]


def refuse_missing(names: Sequence[Tracker]) -> None:
    """Refuse trackers that are not installed, before anything is run.

    Raises:
        MissingPackageError: names each, and how to install it.
    """
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise MissingPackageError(
            f"output.report_to: {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed; "
            f"pip install {' '.join(missing)}"
        )
