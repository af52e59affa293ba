"""What a run leaves where it does not come to its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from shoestring.errors import OutputError, PrunedError, ShoestringError
from shoestring.runs.answer_log import ANSWERS
from shoestring.training.checkpoints import last_checkpoint

if TYPE_CHECKING:
    from shoestring.runs.folder import RunFolder


@contextmanager
def failures(write: Callable[[str, str], None], folder: RunFolder, start: str) -> Iterator[None]:
    """Leave a record of status failed, cancelled or pruned, whatever happens inside, and let the error go on.

    The error says where the last good weights are: in the last checkpoint, or, before there is one, in `start`.
    An interruption says from where the same command goes on.
    Where the disk has no room even for the record, the error says that too.

    Args:
        write: writes a record, given its status and its error.
        folder: the run's.
        start: the model that it started from.
    """
    try:
        yield
    except KeyboardInterrupt as interrupt:
        resumed = _resumed(folder)
        interrupt.add_note(resumed)
        write("cancelled", f"interrupted; {resumed}")
        raise
    except PrunedError as error:
        write("pruned", str(error))
        raise
    except Exception as error:
        checkpoint = last_checkpoint(folder.checkpoints)
        kept = f"the last good weights are {f'in {checkpoint}' if checkpoint is not None else f'those of {start}'}"
        what = str(error) if isinstance(error, ShoestringError) else f"{type(error).__name__}: {error}"
        text = f"{what}; {kept}"
        error.add_note(kept)
        try:
            write("failed", text)
        except OutputError as refused:
            error.add_note(f"no record of the failure: {refused}")
        raise


def _resumed(folder: RunFolder) -> str:
    """Return what the same command makes of a run that was interrupted."""
    if last_checkpoint(folder.checkpoints) is not None:
        return "the same command goes on from the last checkpoint"
    # Answers, and the folder of kernels; without a checkpoint the log of a training is of no use.
    if (folder.path / ANSWERS).exists() or any(path.is_dir() for path in folder.checkpoints.glob("*")):
        return "the same command goes on from what is computed already"
    return "the same command begins this run again: there was no checkpoint yet"
