"""Settings, numbers and surroundings of every run: what runs share, and what they differ in."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shoestring.tables.grouping import flatten
from shoestring.tables.table import MIB, shown
from shoestring.tasks.spec import DEV

if TYPE_CHECKING:
    from shoestring.runs.record import Record

Flat = Mapping[str, Any]
# Told in columns of their own, or different in every run by nature.
_APART = ("task", "seed")


@dataclass(frozen=True)
class Sheet:
    """A table of values, one row a run, without the columns in which all runs agree.

    Attributes:
        common: key -> what it is in every run.
        keys: keys that runs differ in.
        rows: for each run the values of `keys`; None where it has none.
    """

    common: dict[str, str]
    keys: tuple[str, ...]
    rows: tuple[tuple[str | None, ...], ...]

    @classmethod
    def of(cls, runs: Sequence[Flat]) -> Sheet:
        """Tell what all runs share from what they differ in; keys in order of first appearance."""
        keys = list(dict.fromkeys(key for run in runs for key in run))
        texts = {key: [None if run.get(key) is None else _text(run[key]) for run in runs] for key in keys}
        differing = [key for key in keys if len(set(texts[key])) > 1]
        common = {key: value for key in keys if key not in differing and (value := texts[key][0]) is not None}
        rows = tuple(tuple(texts[key][at] for key in differing) for at in range(len(runs)))
        return cls(common, tuple(differing), rows)


def method_of(record: Record) -> str:
    """Return the kinds of method and tuning of a run, as tables name them."""
    tuning = record.config["tuning"]["kind"]
    return record.config["method"]["kind"] + (f" + {tuning}" if tuning != "full" else "")


def settings_of(record: Record) -> Flat:
    """Return a run's settings as `section.key` -> value; what is told elsewhere is left out."""
    return {key: value for key, value in flatten(record).items() if key not in _APART}


def surroundings_of(record: Record) -> Flat:
    """Return what a run was made with and on: versions, machine, digests of data and model."""
    found: dict[str, Any] = {}
    for key, value in record.environment.items():
        if isinstance(value, dict):
            found |= {f"{key}.{name}": inner for name, inner in value.items()}
        else:
            found[key] = value
    if record.split is not None:
        found |= {"data digest": record.split.digest, "train": record.split.train, "dev": record.split.dev}
        found |= dict(record.split.tests)
    return found | {"model fingerprint": record.model_fingerprint}


def numbers_of(record: Record) -> dict[str, str]:
    """Return a run's results and costs, as tables print them."""
    found: dict[str, str] = {}
    for split, numbers in sorted(record.metrics.items(), key=lambda item: item[0] == DEV):
        found |= {f"{split} {name}": shown(name, value) for name, value in numbers.items()}
    if record.passes is not None:
        found |= {name.replace("_", " "): f"{count:,}" for name, count in record.passes.model_dump().items()}
    found |= {f"seconds to {name}": f"{value:,.1f}" for name, value in record.seconds.items()}
    if record.memory is not None:
        found["peak MiB"] = f"{record.memory.peak / MIB:,.1f}"
    if record.weights is not None:
        found["trained weights"] = f"{record.trained_weights:,} of {record.weights.total:,}"
    found |= {name: _text(value) for name, value in record.facts.items() if not isinstance(value, list | dict)}
    return found | {"started": record.started, "finished": record.finished}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
