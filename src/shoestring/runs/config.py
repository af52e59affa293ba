"""The config of a run: one frozen object that decides every number it will produce."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, PositiveInt, field_validator, model_validator

from shoestring.config import (
    Settings,
    Table,
    apply_overrides,
    build,
    digest,
    essentials,
    leave_out,
    load_toml,
    union_of,
)
from shoestring.data.settings import DataSettings
from shoestring.errors import ShoestringError
from shoestring.methods.base import METHODS
from shoestring.models.settings import MODEL_KINDS, GenerationSettings
from shoestring.prompts.choose import choose
from shoestring.prompts.problems import prompt_problems
from shoestring.prompts.settings import PromptSettings
from shoestring.runs.identity import identity_of
from shoestring.tasks.load import load_task
from shoestring.tasks.spec import Task
from shoestring.training.trackers import Tracker
from shoestring.tuning.base import TUNINGS
from shoestring.tuning.catalog.full import Full

if TYPE_CHECKING:
    from shoestring.methods.base import Method as AnyMethod
    from shoestring.models.settings import ModelSettings as AnyModel
    from shoestring.tuning.base import Tuning as AnyTuning
else:
    AnyModel = union_of(entry for _, entry in MODEL_KINDS.items())
    AnyTuning = union_of(entry for _, entry in TUNINGS.items())
    AnyMethod = union_of(entry for _, entry in METHODS.items())


class OutputSettings(Settings):
    """Where results go. Nothing here changes a number, so nothing here is part of the run id."""

    folder: str = Field(default="runs", min_length=1)
    """Folder of all runs; each run has its own folder in it, named by the run id."""
    keep_model: bool = False
    """Keep what was tuned, with the tokenizer, in the run folder's `model/`: transformers (or peft) loads it."""
    eval_batch_size: PositiveInt = 64
    """Most inputs of a forward pass in prediction; scores do not depend on it beyond rounding."""
    eval_tokens: PositiveInt | None = None
    """Most tokens of a forward pass in prediction, padding included: 4,096 on a processor and 16,384 elsewhere unless
    given. Halved whenever memory runs out."""
    report_to: tuple[Tracker, ...] = ()
    """Trackers that a training reports to as it goes, through transformers' callbacks: `tensorboard` (event files in
    `tensorboard/` of the run's folder), `trackio`, `wandb`."""


STUDY = "study"
"""The section of a recipe that says which runs it is made of: see `studies.study`."""

DEFAULTS = 1
"""Raised whenever the default of a setting changes, since run ids leave defaults out."""


class RunConfig(Settings):
    """Task, data, model, prompt, tuning, method and seed of one run."""

    task: Task
    """A name from the catalogue (`shoestring tasks list`), a path to a task file, or a task written out."""
    data: DataSettings = DataSettings()
    model: AnyModel
    prompt: PromptSettings = PromptSettings()
    tuning: AnyTuning = Full()
    method: AnyMethod
    generation: GenerationSettings = GenerationSettings()
    seed: int = Field(default=13, ge=0, lt=2**32)
    """Draws the split and everything random in the method, as in the papers, each from its own named stream."""
    output: OutputSettings = OutputSettings()

    @cached_property
    def run_id(self) -> str:
        """Sixteen hexadecimal digits: the SHA-256 of every setting that can change a number and is not at its default.

        So a version that adds a setting finds what an older one ran; one that changes a default raises `DEFAULTS`.
        """
        return digest([DEFAULTS, identity_of(essentials(self))])

    @cached_property
    def asked(self) -> Task:
        """The task, its answers as long and ending where `generation` says."""
        return self.generation.applied_to(self.task)

    def identity(self) -> dict[str, Any]:
        """Return every setting that can change a number, defaults included, as plain JSON values."""
        return identity_of(self.model_dump(mode="json"))

    @property
    def folder(self) -> Path:
        """The run's own folder."""
        return Path(self.output.folder) / self.run_id

    @field_validator("task", mode="before")
    @classmethod
    def _load_task(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return load_task(value)
        except ShoestringError as error:
            raise ValueError(str(error)) from error

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        problems = [*self._about_task(), *self._about_data(), *self._about_tuning()]
        problems += [*self._about_prompt(), *self._about_objective()]
        if self.output.report_to and not self.method.trains:
            problems.append(f"output.report_to has no effect: method.kind={self.method.kind!r} trains nothing")
        if (about := getattr(self.method, "problems", None)) is not None:
            problems += about(self.task, self.data, self.model, self.prompt)
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _about_task(self) -> list[str]:
        task, problems = self.task, list[str]()
        if not task.labels and not self.model.writes:
            fitting = [f"model.kind={name!r}" for name, kind in MODEL_KINDS.items() if kind.writes]
            problems.append(
                f"model.kind={self.model.kind!r} cannot be asked for answers that the examples of {task.name} bring; "
                f"use {' or '.join(fitting)}"
            )
        if task.has_scores:
            default = GenerationSettings()
            idle = [key for key in type(default).model_fields if getattr(self.generation, key) != getattr(default, key)]
            problems += [f"generation.{key} has no effect: answers to {task.name} are not written" for key in idle]
        elif not getattr(self.method, "writes", True):
            problems.append(f"method.kind={self.method.kind!r} writes no answers, which {task.name} asks for")
        return problems

    @property
    def reads_tuning(self) -> bool:
        """Whether the method asks which weights the tuning trains."""
        return getattr(self.method, "reads_tuning", self.method.trains)

    @property
    def needs_dev(self) -> bool:
        """Whether there must be a dev set: the method is measured on it while it trains, or chooses settings on it."""
        return self.reads_tuning and getattr(self.method, "needs_dev", True)

    def _about_data(self) -> list[str]:
        data, kind = self.data, self.method.kind
        if data.per_example and self.prompt.demonstrations is None:
            return ["data.per_example has no effect without prompt.demonstrations, which it is the choice of"]
        if data.mode != "subset" or not self.reads_tuning:
            return []
        if data.per_example:
            return [f"data.per_example is for in-context learning; method.kind={kind!r} trains on one training set"]
        if not data.num_train:
            return [f"data.num_train=0 leaves method.kind={kind!r} nothing to train on"]
        if not data.num_dev and self.needs_dev:
            doing = "is measured on dev while it trains" if self.method.trains else "chooses settings on dev"
            return [f"data.num_dev is needed: method.kind={kind!r} {doing}"]
        return []

    def _about_tuning(self) -> list[str]:
        kind = self.method.kind
        if not self.reads_tuning and not isinstance(self.tuning, Full):
            return [f"tuning.kind={self.tuning.kind!r} has no effect: method.kind={kind!r} trains nothing"]
        if self.model.quantization is not None and isinstance(self.tuning, Full) and self.reads_tuning:
            return [
                f"tuning.kind='full' trains every weight, and model.quantization={self.model.quantization!r} keeps "
                'most in integers; use tuning.kind="lora", or another that adds weights'
            ]
        dropout = getattr(self.tuning, "dropout", 0.0)
        if dropout and not (self.method.trains and self.method.needs_backward):
            doing = "makes forward passes only" if not self.method.needs_backward else "looks at the pretrained model"
            return [f"tuning.dropout={dropout:g} has no effect: method.kind={kind!r} {doing}, without it"]
        return []

    def _about_prompt(self) -> list[str]:
        problems = prompt_problems(self.asked, self.model.kind, self.prompt)
        shows, kind = getattr(self.method, "shows", None), self.method.kind
        if shows is True and self.prompt.demonstrations is None:
            problems.append(
                f"method.kind={kind!r} needs prompt.demonstrations, such as {{ kind = {self._showing()!r} }}"
            )
        if shows is False and self.prompt.demonstrations is not None:
            problems.append(f"method.kind={kind!r} shows no demonstrations; prompt.demonstrations is for 'in-context'")
        return problems

    def _showing(self) -> str:
        """Return a kind of demonstrations that suits the task's template and the model."""
        with suppress(ShoestringError):
            if choose(self.asked, self.model.kind, self.prompt).form != "text":
                return "per-label"
        return "in-context"

    def _about_objective(self) -> list[str]:
        name = getattr(self.method, "objective", None)
        if name is None:
            return []
        from shoestring.training.objective import OBJECTIVES

        try:
            objective = OBJECTIVES.get(name)
        except ShoestringError as error:
            return [f"method.objective: {error}"]
        problems = []
        if self.method.needs_backward and not objective.differentiable:
            problems.append(
                f"method.objective={name!r} has no gradient, which method.kind={self.method.kind!r} needs; "
                'a zeroth-order method such as method.kind="mezo" can optimise it'
            )
        if objective.needs_vocabulary and self.model.kind == "head":
            problems.append(f"method.objective={name!r} needs a language model, not model.kind='head'")
        if objective.needs_causal and self.model.kind != "causal":
            problems.append(f"method.objective={name!r} needs model.kind='causal', not {self.model.kind!r}")
        if self.task.kind not in objective.kinds:
            problems.append(f"method.objective={name!r} is not defined for {self.task.kind}, which {self.task.name} is")
        return problems


def load_config(
    recipe: str | Path | None,
    overrides: Sequence[str] = (),
    table: Table | None = None,
    tell: Callable[[str], None] | None = None,
) -> RunConfig:
    """Return the config of a recipe file, of a table, or of both (the table on top), with overrides put in.

    A path to a task file, data or a model that starts with `./` or `../` is meant from the recipe's own folder where it
    stands in a recipe, from the current folder elsewhere, and is made absolute, so that the run id does not depend on
    the folder a recipe is run from.
    Where table or overrides ask for another `kind` of tuning or method than the recipe, the recipe's other keys of that
    section are left out, even those that both kinds have: a learning rate for one method is none for another. Keys that
    every kind of a section has (all of `[model]`) stay. A recipe's `[study]` says which runs there are besides; it is
    for `studies.study`.

    Args:
        recipe: a TOML file.
        overrides: `section.key=value` texts.
        table: settings as nested dicts.
        tell: called with a line of text for each section of the recipe in which keys were left out.

    Raises:
        ConfigError: listing every problem: file, key, what was given, what is allowed, nearest match.
    """
    base: Table = {}
    if recipe is not None:
        base = load_toml(Path(recipe))
        base.pop(STUDY, None)
        make_absolute(base, Path(recipe).parent)
    merged = apply_overrides(merged_tables(base, table or {}), overrides)
    if left_out := leave_out(RunConfig, base, merged, apply_overrides(table or {}, overrides)):
        for entry in left_out:
            base[entry.section] = {key: value for key, value in base[entry.section].items() if key not in entry.keys}
        merged = apply_overrides(merged_tables(base, table or {}), overrides)
    make_absolute(merged, Path())
    source = str(recipe) if recipe is not None else "config"
    if overrides:
        source += " with " + " ".join(overrides)
    config = build(RunConfig, merged, source)
    if tell is not None:
        for entry in left_out:
            tell(str(entry))
    return config


def merged_tables(base: Table, top: Table) -> Table:
    """Return `base` with `top` put on it, section by section."""
    merged = dict(base)
    for key, value in top.items():
        inner = merged.get(key)
        merged[key] = merged_tables(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return merged


def make_absolute(table: Table, folder: Path) -> None:
    """Let the paths in a table of settings that start with `./` or `../` be meant from `folder`, in place."""
    places = [(table, "task"), *((table.get(section), key) for section, key in _PATHS)]
    for section, key in places:
        if isinstance(section, dict) and isinstance(text := section.get(key), str) and text.startswith(("./", "../")):
            section[key] = str((folder / text).resolve())


_PATHS = (("data", "source"), ("data", "test_source"), ("model", "name"))
