"""Named errors: every mistake a user can make has one, and its text says where, what was given, what is allowed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches


class ShoestringError(Exception):
    """Base of everything this package raises on purpose; the command line prints it without a traceback."""

    def __reduce__(self) -> tuple[object, ...]:
        """Let errors travel between processes although their constructors take parts rather than a text."""
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[ShoestringError], args: tuple[object, ...], state: dict[str, object]) -> ShoestringError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a config: where it stands, and what is wrong there."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" if self.where else self.what


class ConfigError(ShoestringError):
    """A recipe, a task file or an override is wrong. Lists every problem found, not only the first."""

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        self.source = source
        self.problems = tuple(problems)
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        lines = "\n".join(f"  {problem}" for problem in self.problems)
        super().__init__(f"{source}: {count}\n{lines}")


class UnknownNameError(ShoestringError):
    """A name that no registry, catalogue or folder knows."""

    def __init__(self, kind: str, given: str, allowed: Iterable[str], where: str = "") -> None:
        self.kind, self.given, self.allowed = kind, given, tuple(allowed)
        prefix = f"{where}: " if where else ""
        super().__init__(f"{prefix}unknown {kind} {given!r}{suggest(given, self.allowed)}")


class DuplicateNameError(ShoestringError):
    """Two entries of one registry claim the same name."""


class DataError(ShoestringError):
    """A data file cannot be read as asked; names the file and, where there is one, the line."""

    def __init__(self, where: str, what: str, line: int | None = None) -> None:
        self.where, self.line = where, line
        place = where if line is None else f"{where}, line {line}"
        super().__init__(f"{place}: {what}")


class TemplateError(ShoestringError):
    """A prompt template is not written in the template language."""


class LabelWordError(ShoestringError):
    """A label word is missing, repeated, or not one token where one token is required."""


class PromptTooLongError(ShoestringError):
    """A rendered prompt does not fit the model, or truncation would cut off what the model must read."""


class ModelError(ShoestringError):
    """A model or tokenizer cannot be loaded, or cannot do what the run asks of it."""


class OptimizerError(ShoestringError):
    """An optimizer is given settings or a closure it cannot work with."""


class TrajectoryError(ShoestringError):
    """A trajectory is damaged, or is not that of the weights or the optimizer it is replayed on."""


class KernelError(ShoestringError):
    """A kernel is asked for that cannot be computed, or not like this."""


class SolverError(ShoestringError):
    """A solver is given kernels that do not belong together, or that it cannot solve."""


class KernelStoreError(ShoestringError):
    """A file of kernels is damaged, or is not that of what it is asked for."""


class NonFiniteLossError(ShoestringError):
    """The loss became NaN or infinite; names the step, the examples of the batch, and what may help."""

    def __init__(
        self, step: int, loss: float, examples: Sequence[str], remedies: Sequence[str] = ("a smaller method.lr",)
    ) -> None:
        self.step, self.loss, self.examples = step, loss, tuple(examples)
        shown = ", ".join(self.examples[:8]) + (", ..." if len(self.examples) > 8 else "")
        super().__init__(
            f"step {step}: the loss is {loss} on the batch [{shown}]; {' or '.join(remedies)} usually helps"
        )


class NonFiniteScoreError(ShoestringError):
    """The model gives NaN or infinite scores; names the examples."""

    def __init__(self, examples: Sequence[str]) -> None:
        self.examples = tuple(examples)
        shown = ", ".join(self.examples[:8]) + (", ..." if len(self.examples) > 8 else "")
        super().__init__(
            f"the scores of {len(self.examples)} examples are not finite ({shown}); "
            "half precision overflows in some models: where model.dtype is one, try float32"
        )


class RunFolderError(ShoestringError):
    """A run folder belongs to another config, is damaged, or is being written by another process."""


class RecordChangedError(RunFolderError):
    """A record is not what was written: its checksum does not fit."""


class RunBusyError(RunFolderError):
    """A run folder is being written by another process."""


class PrunedError(ShoestringError):
    """A run was ended early because it does worse on dev than others did at the same step."""


class WorkerError(ShoestringError):
    """A process that made a run for this one was killed, or what makes runs elsewhere is not there."""


class OutputError(ShoestringError):
    """The disk refuses: not writable, full, or not a folder."""


class MissingPackageError(ShoestringError):
    """A library that only some commands need is not installed."""


def first_line(error: BaseException) -> str:
    """Return the first line of what an error of a library says, or the error's name where it says nothing.

    >>> first_line(ValueError("no")), first_line(EOFError())
    ('no', 'EOFError')
    """
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def suggest(given: str, allowed: Iterable[str], *, shown: int = 12) -> str:
    """Return the tail of a message: the nearest allowed name and the allowed names.

    >>> suggest("mezzo", ["adam", "mezo"])
    "; did you mean 'mezo'? Allowed: adam, mezo"
    """
    names = sorted(allowed)
    near = _nearest(given, names)
    hint = f"; did you mean {near!r}?" if near else "."
    if not names:
        return hint if near else ""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return f"{hint} Allowed: {', '.join(names[:shown])}{more}"


def _nearest(given: str, names: Sequence[str]) -> str | None:
    """Return the name that is most like the given one, or alone begins with it, whatever the case; None if none is."""
    folded, wanted = {name.casefold(): name for name in names}, given.casefold()
    folder, slash, last = wanted.rpartition("/")
    if slash and not any(name.startswith(f"{folder}/") for name in folded):
        # Of a folder that nobody has, what stands behind it says what is meant, however alike the folders look.
        same = [name for name in folded if name.rpartition("/")[2] == last]
        if same:
            return folded[min(same, key=lambda name: (name != last, name))]
    near = get_close_matches(wanted, list(folded), n=1, cutoff=0.5)
    if not near and wanted:
        # The beginning of a long name, such as that of a run, is not much like the whole of it.
        begun = [name for name in folded if name.startswith(wanted)]
        near = begun if len(begun) == 1 else []
    return folded[near[0]] if near else None
