"""One attempt at a run, in a worker: how it ended, whatever happened, and what is left behind."""

from __future__ import annotations

import gc
import pickle
import resource
import sys
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from shoestring.config import canonical_json
from shoestring.data.splits import draw
from shoestring.errors import OutputError, PrunedError, RunBusyError, ShoestringError, WorkerError
from shoestring.runs.folder import RunFolder, is_held
from shoestring.runs.record import RESULT, Record, now, read_record, write_record
from shoestring.runs.run import run
from shoestring.studies.launchers.base import Ended

if TYPE_CHECKING:
    from shoestring.data.example import Splits
    from shoestring.runs.config import RunConfig
    from shoestring.runs.limits import Limits

# Of the splits drawn last, as many as this process keeps, and as many examples in all.
_SPLITS, _EXAMPLES = 32, 200_000


class Attempts:
    """Makes runs one after another in one process, with the splits it drew for others where they are the same.

    Args:
        freeze: let the garbage collector leave the libraries aside from the second run on; for a process that does
            nothing else.
    """

    def __init__(self, *, freeze: bool) -> None:
        self._drawn: OrderedDict[str, Splits] = OrderedDict()
        self._settled = not freeze

    def make(self, config: RunConfig, *, force: bool, limits: Limits | None = None) -> Ended:
        """Make a run, and say how it ended; only an interruption is raised.

        A run that failed has a record that says so, even if it failed before there was anything to write; one that the
        disk refused has none.
        """
        begin, begun = time.monotonic(), now()
        try:
            if is_held(config.folder):
                raise RunBusyError(f"{config.folder} is being written by another process")
            run(config, force=force, splits=self._splits(config), limits=limits)
            ended = Ended(config.folder, "ok")
        except RunBusyError as error:
            ended = Ended(config.folder, "busy", error=error)
        except PrunedError as error:
            ended = Ended(config.folder, "pruned", error=error)
        except OutputError as error:
            _forget(config)
            ended = Ended(config.folder, "refused", error=error)
        except Exception as error:
            ended = _failed(config, error, begun)
        self._settle()
        return Ended(ended.place, ended.how, time.monotonic() - begin, ended.error, _peak())

    def _splits(self, config: RunConfig) -> Splits:
        key = f"{config.seed} {canonical_json(config.data)} {canonical_json(config.task)}"
        if key in self._drawn:
            self._drawn.move_to_end(key)
            return self._drawn[key]
        splits = draw(config.task, config.data, config.seed)
        self._drawn[key] = splits
        while len(self._drawn) > _SPLITS or (sum(map(_examples, self._drawn.values())) > _EXAMPLES and self._drawn):
            self._drawn.popitem(last=False)
        return splits

    def _settle(self) -> None:
        """Let the garbage collector, which runs call, leave the libraries aside: that is half a second a run."""
        if not self._settled:
            gc.collect()
            gc.freeze()
            self._settled = True


def leave_failure(config: RunConfig, text: str, begun: str) -> None:
    """Write a record of a failure where the run could not: it failed before it began, or its process was killed.

    What the run itself said of a failure since it was `begun` stays; how an earlier attempt ended does not.

    Raises:
        OutputError: if the disk refuses.
        RunBusyError: if another process makes the run by now.
    """
    folder = RunFolder(config.folder, config.identity())
    with folder.open(force=False):
        known = read_record(config.folder)
        if known is not None and (known.status == "ok" or (known.status == "failed" and known.finished >= begun)):
            return
        facts = {"run_id": config.run_id, "status": "failed", "config": config.model_dump(mode="json")}
        write_record(config.folder, Record.model_validate(facts | {"error": text, "started": begun, "finished": now()}))


def told(error: BaseException) -> str:
    """Return what a record says of an error."""
    return str(error) if isinstance(error, ShoestringError) else f"{type(error).__name__}: {error}"


def _failed(config: RunConfig, error: Exception, begun: str) -> Ended:
    try:
        leave_failure(config, told(error), begun)
    except OutputError as refused:
        return Ended(config.folder, "refused", error=refused)
    except ShoestringError as why:  # A damaged folder, or one of another version, stays as it is.
        error.add_note(f"no record of the failure: {why}")
    return Ended(config.folder, "failed", error=_portable(error))


def _portable(error: Exception) -> Exception:
    """Return an error that travels between processes."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return WorkerError(told(error))
    return error


def _forget(config: RunConfig) -> None:
    """Take away the record of a failure that the run is not to blame for, so that it is made without being asked."""
    try:
        if (known := read_record(config.folder)) is not None and known.status == "failed":
            (config.folder / RESULT).unlink(missing_ok=True)
    except (OSError, ShoestringError):
        return


def _examples(splits: Splits) -> int:
    return sum(map(len, (*splits.named.values(), *splits.own.values())))


def _peak() -> int:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024  # Linux counts it in KiB.
