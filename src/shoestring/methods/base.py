"""What a method is, and what it is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from shoestring.progress import Progress
from shoestring.registry import Registry
from shoestring.training.trackers import Tracking

if TYPE_CHECKING:
    from torch import Tensor

    from shoestring.memory import PeakMemory
    from shoestring.models.generation import OnText
    from shoestring.models.prediction import OnScores
    from shoestring.models.prompted import PromptedModel
    from shoestring.progress import Bar
    from shoestring.prompts.encoding import EncodedPrompt


@dataclass(frozen=True)
class Given:
    """Everything a method may use: prompted model, training and dev prompts, a seed, a folder, places to report to."""

    subject: PromptedModel
    train: Sequence[EncodedPrompt]
    dev: Sequence[EncodedPrompt]
    seed: int
    folder: Path
    log: Callable[[dict[str, float | int | str]], None]
    progress: Progress
    memory: PeakMemory
    eval_batch_size: int
    about: Mapping[str, Any] = field(default_factory=dict)
    """Model, tuning, method and seed, for logs that are to be read without the run's config."""
    order: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Uids of the examples of each split, in order: what results that were made elsewhere are laid beside."""
    tracking: Tracking = field(default_factory=Tracking)
    """The trackers of experiments that a training reports to."""


class Predictor(Protocol):
    """Gives every prompt its candidate scores."""

    def predict(
        self,
        prompts: Sequence[EncodedPrompt],
        batch_size: int,
        bar: Bar | None = None,
        on_scores: OnScores | None = None,
    ) -> Tensor:
        """Return scores [N, C] of `prompts`, in their order, and tell `on_scores` each row as soon as it is there."""
        ...


class Writer(Predictor, Protocol):
    """Writes an answer to every prompt as well, which generation tasks ask for."""

    def generate(
        self,
        prompts: Sequence[EncodedPrompt],
        batch_size: int,
        bar: Bar | None = None,
        on_text: OnText | None = None,
    ) -> list[str]:
        """Return answers [N] to `prompts`, in their order, and tell `on_text` each as soon as it is there."""
        ...


@dataclass(frozen=True)
class Outcome:
    """What a method made: a predictor, and facts about the making for the record (steps, selected step, ...)."""

    predictor: Predictor
    seconds: float
    facts: dict[str, Any]


class Method(Protocol):
    """A method and its settings in one frozen object, told from others by `kind`.

    Attributes:
        trains: whether weights change; a method that does not train takes no tuning but "full".
        needs_backward: whether it needs gradients, and so an objective that has them.

    A method may also say `shows: ClassVar[bool]`, whether it always or never has demonstrations, where others have them
    if a run asks for them; `reads_train = False` if it does not look at training prompts, which are not made then;
    `writes = False` if its predictor is no `Writer`, so that it is refused generation tasks; `reads_tuning = True` if
    it trains nothing, but asks which weights would be trained; `needs_dev`, whether there must be a dev set; and
    `problems(task, data, model, prompt)`, what speaks against it for these settings, as texts.
    """

    trains: ClassVar[bool]
    needs_backward: ClassVar[bool]

    @property
    def kind(self) -> str:
        """Name in the registry."""
        ...

    def fit(self, given: Given) -> Outcome:
        """Solve the task."""
        ...


METHODS: Registry[type[Any]] = Registry("method", "shoestring.methods.catalog")
