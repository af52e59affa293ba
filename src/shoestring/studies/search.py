"""Random search and TPE: settings drawn from the ranges of `[study.search]`, the same ones whenever it is asked."""

from __future__ import annotations

import importlib
import json
import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from shoestring.errors import ConfigError, MissingPackageError, Problem, RunFolderError
from shoestring.runs.folder import MODEL
from shoestring.runs.limits import Limits, dev_values, limits_of
from shoestring.runs.record import Record, read_record
from shoestring.seeds import derive, numpy_stream
from shoestring.studies.study_settings import Range
from shoestring.studies.trials import Arm, Study, Trial
from shoestring.tasks.metrics import METRICS
from shoestring.tasks.spec import DEV

if TYPE_CHECKING:
    from pathlib import Path

    from shoestring.runs.config import RunConfig
    from shoestring.studies.launchers.base import Ended

_STREAM = 0
# TPE draws this many settings at random before it learns from them, as Optuna does, or a third where there are few.
_AT_RANDOM = 10


def random_trials(study: Study, count: int) -> list[Trial]:
    """Return `count` trials for each cell and seed; every cell and seed tries the same values of a key.

    Raises:
        ConfigError: if the study has no ranges, or a drawn setting is no config.
    """
    _refuse_no_ranges(study)
    points: list[tuple[Arm, Mapping[str, Any]]] = []
    for arm, settings, ranges in study.cells():
        tries = count if ranges else 1
        points += [
            (arm, {**settings, **{key: _drawn(key, one, index) for key, one in ranges.items()}})
            for index in range(tries)
        ]
    return list(study.at(points))


def _drawn(key: str, one: Range, index: int) -> Any:
    """Return the value of a key in the setting number `index`."""
    share = float(numpy_stream(_STREAM, "random search", key, index).random())
    if one.choices:
        return one.choices[int(share * len(one.choices))]
    low, high = _ends(one)
    if one.whole:  # Half a step beyond both ends, which would else be drawn half as often as what lies between.
        low, high = low - 0.5, high + 0.5
    value = math.exp(math.log(low) + share * math.log(high / low)) if one.log else low + share * (high - low)
    return _rounded(value, one)


def _rounded(value: float, one: Range) -> float | int:
    """Return a value as recipes would have it: whole, or of four digits, which every machine's logarithm gives."""
    low, high = _ends(one)
    if one.whole:
        return min(int(high), max(int(low), round(value)))
    return min(high, max(low, float(f"{value:.4g}")))


def _ends(one: Range) -> tuple[float, float]:
    if one.low is None or one.high is None:
        raise ConfigError("study.search", [Problem("", "low and high are needed")])
    return one.low, one.high


def _refuse_no_ranges(study: Study) -> None:
    if not any(ranges for _, _, ranges in study.cells()):
        what = 'has no key to search: "method.lr" = { low = 1e-7, high = 1e-5, log = true }, for example'
        raise ConfigError(study.source, [Problem("study.search", what)])


@dataclass
class _Search:
    """The search in one cell for one seed: what was asked, and what is known of it."""

    study: Study
    arm: Arm
    settings: dict[str, Any]
    ranges: dict[str, Range]
    seed: int
    count: int
    sampler: Any
    metric: str
    higher: bool
    asked: list[tuple[Any, Trial]] = field(default_factory=list[tuple[Any, Trial]])
    ends: dict[int, Record | None] = field(default_factory=dict[int, "Record | None"])
    told: int = 0

    @property
    def at_random(self) -> int:
        """How many settings come before any is learned from."""
        return min(_AT_RANDOM, max(1, self.count // 3), self.count)

    @property
    def may_ask(self) -> bool:
        """Whether the next setting depends on nothing that is still to end."""
        asked = len(self.asked)
        return asked < self.count and (asked < self.at_random or self.told == asked)

    def ask(self) -> Trial:
        """Return the next trial."""
        suggestion = self.sampler.ask({key: _distribution(one) for key, one in self.ranges.items()})
        drawn = {
            key: one.choices[suggestion.params[key]] if one.choices else _rounded(suggestion.params[key], one)
            for key, one in self.ranges.items()
        }
        (trial,) = self.study.at([(self.arm, {**self.settings, **drawn})], [self.seed])
        self.asked.append((suggestion, trial))
        return trial

    def note(self, number: int, record: Record | None) -> None:
        """Take in how a trial ended; they are told in the order they were asked, so that it is the same each time."""
        self.ends[number] = record
        while len(self.asked) >= self.at_random and self.told in self.ends:
            self._tell(*self.asked[self.told], self.ends[self.told])
            self.told += 1

    def limits(self, number: int) -> Limits | None:
        """Return what a trial must reach: the medians of those that were told before and went to their end."""
        if number < self.at_random:
            return None
        ended = [trial.config for _, trial in self.asked[:number] if _is_whole(trial.config)]
        earlier = [dev_values(config.folder, self.metric) for config in ended]
        return limits_of(self.metric, higher=self.higher, earlier=earlier)

    def _tell(self, suggestion: Any, trial: Trial, record: Record | None) -> None:
        states = _optuna().trial.TrialState
        value = record.metrics.get(DEV, {}).get(self.metric) if record is not None and record.status == "ok" else None
        if value is not None:
            self.sampler.tell(suggestion, value)
        elif record is not None and record.status == "pruned":
            for step, reached in dev_values(trial.config.folder, self.metric).items():
                suggestion.report(reached, step)
            self.sampler.tell(suggestion, state=states.PRUNED)
        else:
            self.sampler.tell(suggestion, state=states.FAIL)


class TpeQueue:
    """Runs that TPE asks for, one search a cell and seed, by the main metric on dev.

    A search asks for its next setting only when the last has ended, and is told of what has ended in the order it
    asked: so it asks for the same ones however many run at once, and again after a kill, when what is done is told at
    once. A run that failed counts as tried and teaches nothing. With `prune`, a run that does worse on dev than the
    median of its search's earlier runs at the same step ends there: it teaches what it reached, and is not finished.

    Args:
        study: with ranges in `[study.search]`.
        count: settings a cell and seed.
        on_new: called with each trial that is asked for.
        retry: make failed runs again.
        prune: end runs early.

    Source: Bergstra et al. 2011, Algorithms for hyper-parameter optimization, as Optuna's TPESampler has it.

    Raises:
        ConfigError: if the study has no ranges, or a task has no dev set.
        MissingPackageError: if Optuna is not installed.
    """

    def __init__(
        self,
        study: Study,
        count: int,
        on_new: Callable[[Trial], None],
        *,
        retry: bool = False,
        prune: bool = False,
    ) -> None:
        _refuse_no_ranges(study)
        self._searches = [self._search(study, count, cell, seed) for cell in study.cells() for seed in study.seeds]
        self._on_new, self._retry, self._prune = on_new, retry, prune
        self._waiting: dict[Path, list[tuple[_Search, int]]] = {}
        self._order = deque(self._searches)

    @property
    def to_come(self) -> int:
        """How many trials are still to be asked for."""
        return sum(search.count - len(search.asked) for search in self._searches)

    @property
    def over(self) -> bool:
        """Whether every search has asked for all it will."""
        return all(len(search.asked) == search.count for search in self._searches)

    def next(self) -> RunConfig | None:
        """Return the next run that is to be made; searches take turns."""
        for _ in range(len(self._order)):
            search = self._order[0]
            self._order.rotate(-1)
            while search.may_ask:
                number = len(search.asked)
                trial = search.ask()
                self._on_new(trial)
                place = trial.config.folder
                if place in self._waiting:  # The same choices again, while the first is being made.
                    self._waiting[place].append((search, number))
                elif (known := self._known(trial.config)) is not None:
                    search.note(number, known)
                else:
                    self._waiting[place] = [(search, number)]
                    return trial.config
        return None

    def ended(self, ended: Ended) -> None:
        """Learn from a run."""
        for search, number in self._waiting.pop(ended.place, []):
            search.note(number, _record(search.asked[number][1].config))

    def limits(self, config: RunConfig) -> Limits | None:
        """Return what a run must reach on dev to be made to its end."""
        waiting = self._waiting.get(config.folder, [])
        return waiting[0][0].limits(waiting[0][1]) if waiting and self._prune else None

    def _known(self, config: RunConfig) -> Record | None:
        """Return the record of a run that has ended, unless it is to be made again."""
        record = _record(config)
        again = {"cancelled", *(("failed",) if self._retry else ()), *(() if self._prune else ("pruned",))}
        if config.output.keep_model and not (config.folder / MODEL).is_dir():
            again.add("ok")  # Its weights are wanted, and it did not keep them.
        return None if record is None or record.status in again else record

    def _search(
        self, study: Study, count: int, cell: tuple[Arm, dict[str, Any], dict[str, Range]], seed: int
    ) -> _Search:
        optuna = _optuna()
        arm, settings, ranges = cell
        tries = count if ranges else 1
        (first,) = study.at([(arm, settings)], [seed]) if not ranges else study.at([(arm, _lowest(cell))], [seed])
        if first.config.data.mode == "subset" and not first.config.data.num_dev:
            raise ConfigError(study.source, [Problem("data.num_dev", "is needed: TPE chooses by the metric on dev")])
        metric = first.config.task.metrics[0]
        higher = METRICS.get(metric).higher_is_better
        at_random = min(_AT_RANDOM, max(1, tries // 3), tries)
        name = json.dumps([arm.name, settings, sorted(ranges)], sort_keys=True, default=str)
        sampler = optuna.samplers.TPESampler(seed=derive(seed, "tpe", name) % 2**31, n_startup_trials=at_random)
        asks = optuna.create_study(direction="maximize" if higher else "minimize", sampler=sampler)
        return _Search(study, arm, settings, ranges, seed, tries, asks, metric, higher)


def _lowest(cell: tuple[Arm, dict[str, Any], dict[str, Range]]) -> dict[str, Any]:
    """Return the settings of a cell with the first value of each range: to build a config of it."""
    _, settings, ranges = cell
    return {**settings, **{key: one.choices[0] if one.choices else one.low for key, one in ranges.items()}}


def _distribution(one: Range) -> Any:
    optuna = _optuna()
    if one.choices:
        return optuna.distributions.CategoricalDistribution(list(range(len(one.choices))))
    low, high = _ends(one)
    if one.whole:
        return optuna.distributions.IntDistribution(int(low), int(high), log=one.log)
    return optuna.distributions.FloatDistribution(low, high, log=one.log)


def _record(config: RunConfig) -> Record | None:
    """Return the record of a run, where there is one that can be read."""
    try:
        record = read_record(config.folder)
    except RunFolderError:
        return None
    return record if record is not None and record.run_id == config.run_id else None


def _is_whole(config: RunConfig) -> bool:
    record = _record(config)
    return record is not None and record.status == "ok"


def _optuna() -> Any:
    try:
        optuna = importlib.import_module("optuna")
    except ImportError as error:
        raise MissingPackageError("--search tpe needs Optuna: pip install 'shoestring[optuna]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
