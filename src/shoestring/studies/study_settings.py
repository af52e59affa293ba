"""The `[study]` section of a recipe: which runs it is made of, and which published numbers stand beside theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, PositiveInt, field_validator, model_validator

from shoestring.config import Settings
from shoestring.errors import suggest
from shoestring.studies.keys import leaves, nested

Values = tuple[Any, ...]


def swept_keys(value: Any) -> Any:
    """Return dotted key -> values of a table of lists, quoted or nested.

    Raises:
        ValueError: if a key has no list, an empty one, or a value twice; or is the seed or changes no number.
    """
    if not isinstance(value, Mapping):
        return value
    found: dict[str, Values] = {}
    for key, values in leaves(value):
        _refuse_unfit(key, "swept but drawn from")
        if not isinstance(values, Sequence) or isinstance(values, str):
            raise ValueError(f"{key}: got {values!r}: should be a list of values, such as [{values!r}]")
        if not values:
            raise ValueError(f"{key}: has no values; one combination needs one of each key")
        _distinct(key, values)
        found[key] = tuple(values)
    return found


def _refuse_unfit(key: str, doing: str) -> None:
    if key == "seed":
        raise ValueError(f"seed: is not {doing}; give study.seeds, or --seeds")
    if key == "output" or key.startswith("output."):
        raise ValueError(f"{key}: changes no number, so there is nothing to sweep")


def _distinct(key: str, values: Sequence[Any]) -> None:
    seen: list[tuple[bool, Any]] = []
    for value in values:
        if (one := (isinstance(value, bool), value)) in seen:
            raise ValueError(f"{key}: {value!r} stands twice")
        seen.append(one)


Over = Annotated[dict[str, Values], BeforeValidator(swept_keys)]


class Range(Settings):
    """Where random search and TPE look for the value of a key: between two numbers, or among choices."""

    low: float | int | None = None
    high: float | int | None = None
    log: bool = False
    """Draw the logarithm evenly, as learning rates want it."""
    choices: Values = ()
    """The values to choose among, instead of `low` and `high`."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.choices:
            if self.low is not None or self.high is not None or self.log:
                raise ValueError("give choices, or low and high; not both")
            _distinct("choices", self.choices)
        elif self.low is None or self.high is None:
            raise ValueError("low and high are needed, or choices")
        elif not self.low < self.high:
            raise ValueError(f"low={self.low:g} is not below high={self.high:g}")
        elif self.log and self.low <= 0:
            raise ValueError(f"log=true needs low above 0, not {self.low:g}")
        return self

    @property
    def whole(self) -> bool:
        """Whether values are whole numbers: both ends are written as such."""
        return isinstance(self.low, int) and isinstance(self.high, int)


class Variant(Settings):
    """Settings on top of the recipe's, with runs of their own: a row of the table."""

    name: str = Field(min_length=1)
    set: dict[str, Any] = {}
    """Merged like a recipe's keys; another `kind` drops the recipe's keys of that section."""
    over: Over = {}
    """Keys swept besides the study's; the same key replaces the study's."""

    @field_validator("set", mode="before")
    @classmethod
    def _sections(cls, value: Any) -> Any:
        table = _undotted(value)
        if isinstance(table, Mapping) and "seed" in table:
            raise ValueError("seed: is the study's, which all variants have; give study.seeds, or --seeds")
        return table


class Published(Settings):
    """Numbers of a paper for cells of this study."""

    source: str
    """Paper, arXiv number, table."""
    variant: str | None = None
    """The variant they are of, where the study has variants."""
    column: str = "task"
    """The key that `values` are given by."""
    metric: str
    values: dict[str, float | tuple[float, float] | tuple[float]]
    """For each value of the column: mean and standard deviation, times 100; or the mean alone."""
    seeds: PositiveInt | None = None
    """How many seeds they rest on."""

    @property
    def numbers(self) -> dict[str, tuple[float, float | None]]:
        """Mean and standard deviation, where there is one, for each value of the column."""
        found: dict[str, tuple[float, float | None]] = {}
        for key, value in self.values.items():
            mean, sd = (value, None) if isinstance(value, int | float) else (value[0], (*value[1:], None)[0])
            found[key] = (mean, sd)
        return found


class StudySettings(Settings):
    """What a recipe's `[study]` says; strict."""

    title: str = ""
    seeds: tuple[int, ...] = ()
    """The recipe's own seed unless given."""
    over: Over = {}
    """Dotted key -> its values; the runs are all combinations."""
    variants: tuple[Variant, ...] = ()
    search: dict[str, Range] = {}
    """Dotted key -> where `--search random` and `--search tpe` look for its value."""
    published: tuple[Published, ...] = ()

    @field_validator("search", mode="before")
    @classmethod
    def _ranges(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        found = dict(_range_tables(value))
        for key in found:
            _refuse_unfit(key, "searched")
        return found

    @field_validator("seeds")
    @classmethod
    def _some_seeds(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        _distinct("seeds", value)
        return value

    @model_validator(mode="after")
    def _known_variants(self) -> Self:
        names = [variant.name for variant in self.variants]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"variants: {name!r} stands twice")
        for published in self.published:
            if published.variant is not None and published.variant not in names:
                raise ValueError(
                    f"published: there is no variant {published.variant!r}{suggest(published.variant, names)}"
                )
            if published.variant is None and names:
                raise ValueError(f"published: {published.source!r} needs a variant: one of {', '.join(names)}")
        return self


def _undotted(value: Any) -> Any:
    return nested(value) if isinstance(value, Mapping) else value


def _range_tables(table: Mapping[str, Any], path: str = "") -> list[tuple[str, Any]]:
    """Return dotted key -> what says its range: the first table on the way that has a key of a range."""
    found: list[tuple[str, Any]] = []
    for key, value in table.items():
        name = f"{path}.{key}" if path else key
        if isinstance(value, Mapping) and not value.keys() & Range.model_fields.keys():
            found += _range_tables(value, name)
        else:
            found.append((name, value))
    return found
