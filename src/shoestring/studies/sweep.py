"""A sweep: every run of one or several studies, made once, whatever happens on the way."""

from __future__ import annotations

import json
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from shoestring.config import digest
from shoestring.errors import ConfigError, Problem, RunFolderError
from shoestring.progress import Progress, Silent
from shoestring.runs.config import RunConfig
from shoestring.runs.record import Record, read_record
from shoestring.studies.plan import Plan, Planned, Tally, planned, write_plan
from shoestring.studies.queues import InOrder, Queues
from shoestring.studies.search import TpeQueue, random_trials
from shoestring.studies.trials import Study, Trial
from shoestring.tables.grouping import flat_config, is_identity

Search = Literal["grid", "random", "tpe"]
# Letters of a title that the name of its plan has.
_LONGEST = 80


@dataclass
class Sweep:
    """The runs of some studies.

    Attributes:
        studies: what was asked for.
        trials: of each study; those of TPE are only the ones that are known, and grow.
        notes: what a reader should know: runs that several settings or studies come to, cells with other seeds.
        tries: settings that TPE tries in each cell and for each seed; None where all trials are known.
        prune: whether TPE ends runs early.
        to_come: trials of each study that TPE has still to ask for.
    """

    studies: list[Study]
    trials: list[list[Trial]]
    notes: list[str] = field(default_factory=list[str])
    tries: int | None = None
    prune: bool = False
    to_come: list[int] = field(default_factory=list[int])

    @classmethod
    def of(cls, studies: Sequence[Study], search: Search = "grid", tries: int = 1, *, prune: bool = False) -> Sweep:
        """Build every config of some studies, and check that the studies agree.

        Args:
            studies: what is asked for.
            search: all combinations; or `tries` settings of the ranges, drawn at random or asked for by TPE.
            tries: settings a cell and seed.
            prune: whether TPE ends runs early that do worse on dev than others did.

        Raises:
            ConfigError: if a combination is no config, studies disagree, or there are no ranges to search.
            MissingPackageError: if TPE is asked for, and Optuna is not installed.
        """
        _refuse_same_names(studies)
        if search == "tpe":
            sweep = cls(list(studies), [[] for _ in studies], tries=tries, prune=prune)
            sweep.to_come = [sys.maxsize for _ in studies]
            queue = sweep.queue([], lambda trial: None, retry=False)
            while queue.next() is not None:
                pass
        else:
            trials = [list(study.trials()) if search == "grid" else random_trials(study, tries) for study in studies]
            sweep = cls(list(studies), trials, to_come=[0 for _ in studies])
        if search == "grid":
            sweep.notes += [
                f"{study.title}: the ranges of study.search are for --search random or tpe; the grid leaves them aside"
                for study in studies
                if study.settings.search
            ]
        sweep.check()
        return sweep

    def queue(self, todo: Sequence[RunConfig], on_new: Callable[[Planned], None], *, retry: bool) -> Queues:
        """Return the runs to make: those of a list, or those that TPE asks for.

        Args:
            todo: the list.
            on_new: called with each run that TPE asks for and that was not known.
            retry: whether TPE is to make failed runs again.
        """
        if self.tries is None:
            return Queues([InOrder(todo)])
        known = {_key(trial.config) for trials in self.trials for trial in trials}
        queues: list[TpeQueue] = []
        for place, study in enumerate(self.studies):

            def take(trial: Trial, place: int = place) -> None:
                # What is asked for again, of what is done, was counted before.
                self.to_come[place] = min(self.to_come[place], queues[place].to_come)
                if _key(trial.config) not in known:
                    known.add(_key(trial.config))
                    self.trials[place].append(trial)
                    on_new(planned(trial))

            queues.append(TpeQueue(study, self.tries, take, retry=retry, prune=self.prune))
        return Queues(queues)

    def check(self) -> None:
        """Check that the studies agree, and note what is worth it.

        Raises:
            ConfigError: if they do not.
        """
        _refuse_other_output(self.studies, self.trials)
        self.notes += [note for study in self.studies for note in study.notes]
        self.notes += _copies(self.studies, self.trials)
        self.notes += _other_seeds(self.studies, self.trials)

    @property
    def configs(self) -> dict[tuple[str, str], RunConfig]:
        """Every run once: (folder, run id) -> config."""
        return {_key(trial.config): trial.config for trials in self.trials for trial in trials}

    def plans(self) -> list[Plan]:
        """Return the plan of each study."""
        return [
            Plan(
                title=study.title,
                recipe=study.source,
                to_come=to_come,
                runs=tuple(planned(trial) for trial in _once(trials)),
            )
            for study, trials, to_come in zip(self.studies, self.trials, self.to_come, strict=True)
        ]

    def write_plans(self) -> list[Path]:
        """Write each study's plan into the folders of its runs.

        Raises:
            OutputError: if the disk refuses.
        """
        return [
            write_plan(plan, Path(folder), _slug(study))
            for study, plan in zip(self.studies, self.plans(), strict=True)
            for folder in dict.fromkeys(run.folder for run in plan.runs)
        ]

    def tally(self) -> Tally:
        """Look at how far every run is."""
        return Tally.of(self.plans())

    def todo(self, tally: Tally, *, retry: bool) -> list[RunConfig]:
        """Return the runs to make: those not done, and with `retry` those that failed; pruned ones unless it prunes."""
        configs = self.configs
        wanted = ("to do", "running", *(() if self.prune else ("pruned",)), *(("failed",) if retry else ()))
        return [
            configs[run.folder, run.run_id]
            for run, seen in zip(tally.runs, tally.seen, strict=True)
            if seen.state in wanted
        ]

    def records(self, trials: Iterable[Trial]) -> list[Record]:
        """Return the records that there are of some trials, each once."""
        found: list[Record] = []
        for trial in _once(trials):
            try:
                record = read_record(trial.config.folder)
            except RunFolderError:
                continue
            found += [record] if record is not None else []
        return found


def _slug(study: Study) -> str:
    """Return the name of a study's plan: its title, in letters that every disk takes.

    Where letters are left out, or the end is, a digest tells titles apart that differ only there.
    """
    title = study.title.casefold()
    slug = re.sub(r"[^a-z0-9]+", "-", title).strip("-")
    whole = slug and len(slug) <= _LONGEST and not any(letter.isalnum() for letter in title if not letter.isascii())
    return slug if whole else f"{slug[:_LONGEST] or 'study'}-{digest(title)[:6]}"


def _key(config: RunConfig) -> tuple[str, str]:
    return str(Path(config.output.folder).absolute()), config.run_id


def _once(trials: Iterable[Trial]) -> list[Trial]:
    return list({_key(trial.config): trial for trial in reversed(list(trials))}.values())[::-1]


def _refuse_same_names(studies: Sequence[Study]) -> None:
    """Refuse studies that a reader, or their plans, could not tell apart."""
    for place, study in enumerate(studies):
        for other in studies[:place]:
            if study.source == other.source:
                raise ConfigError(study.source, [Problem("", "is given twice")])
            if _slug(study) == _slug(other):
                what = f"is the title of {other.source} too; titles tell studies, and their plans, apart"
                raise ConfigError(study.source, [Problem(f"study.title = {study.title!r}", what)])


def _refuse_other_output(studies: Sequence[Study], trials: Sequence[Sequence[Trial]]) -> None:
    """Refuse that one run of one folder is asked for with other settings of its output."""
    first: dict[tuple[str, str], tuple[Study, Trial]] = {}
    for study, some in zip(studies, trials, strict=True):
        for trial in some:
            other, known = first.setdefault(_key(trial.config), (study, trial))
            mine, theirs = trial.config.output, known.config.output
            keys = [key for key in type(mine).model_fields if getattr(mine, key) != getattr(theirs, key)]
            if keys := [key for key in keys if key != "folder"]:
                what = (
                    f"{getattr(mine, keys[0])!r}, but {other.source} makes the same run {trial.config.run_id} with "
                    f"{getattr(theirs, keys[0])!r}; output.{keys[0]}=... on the command line settles it"
                )
                raise ConfigError(study.source, [Problem(f"output.{keys[0]}", what)])


def _copies(studies: Sequence[Study], trials: Sequence[Sequence[Trial]]) -> list[str]:
    """Note the runs that several settings, or several studies, come to."""
    notes: list[str] = []
    for study, some in zip(studies, trials, strict=True):
        if copies := len(some) - len(_once(some)):
            notes.append(f"{study.title}: {copies} of {len(some)} settings come to the same run as others; made once")
    owners: dict[str, dict[str, set[str]]] = defaultdict(dict)
    for study, some in zip(studies, trials, strict=True):
        for trial in some:
            folder, run_id = _key(trial.config)
            owners[run_id].setdefault(study.title, set()).add(folder)
    shared = [owner for owner in owners.values() if len(owner) > 1]
    elsewhere = sum(len(set[str]().union(*owner.values())) > 1 for owner in shared)
    if len(shared) > elsewhere:
        notes.append(f"{len(shared) - elsewhere} runs belong to several studies; made once")
    if elsewhere:
        notes.append(f"{elsewhere} runs belong to several studies with folders of their own; --out makes them once")
    return notes


def _other_seeds(studies: Sequence[Study], trials: Sequence[Sequence[Trial]]) -> list[str]:
    """Note the cells of a table that several studies fill from other seeds."""
    if len(studies) < 2:
        return []
    cells: dict[str, dict[str, set[int]]] = defaultdict(dict)
    for study, some in zip(studies, trials, strict=True):
        for trial in some:
            cells[_cell(trial.config)].setdefault(study.title, set()).add(trial.seed)
    notes: dict[str, None] = {}
    for seeds in cells.values():
        if len({frozenset(some) for some in seeds.values()}) > 1:
            shown = "; ".join(f"{title}: {', '.join(map(str, sorted(some)))}" for title, some in seeds.items())
            notes[f"studies fill the same cells from other seeds, and the table has the means of all: {shown}"] = None
    return list(notes)


def _cell(config: RunConfig) -> str:
    """Return what tells the cell of a run from others: all but the seed and what dev chooses among."""
    flat = flat_config(config.model_dump(mode="json"))
    return json.dumps({key: value for key, value in flat.items() if is_identity(key)}, sort_keys=True)


def refuse_changed(sweep: Sweep, tally: Tally, progress: Progress | None = None) -> None:
    """Refuse to go on where finished runs were made from other data, or another model, than are there now.

    Raises:
        RunFolderError: naming the first of them, and what to do.
        DataError: if the data is not there any more.
    """
    from shoestring.data.splits import draw
    from shoestring.models.loading import is_still

    done = [run for run, seen in zip(tally.runs, tally.seen, strict=True) if seen.state == "done"]
    configs = sweep.configs
    drawn: dict[str, str] = {}
    models: dict[str, bool] = {}
    changed: dict[Path, str] = {}
    with (progress or Silent()).bar("check what is done", len(done)) as bar:
        for run in done:
            bar.advance()
            config = configs[run.folder, run.run_id]
            record = read_record(config.folder)
            if record is None or record.split is None:
                continue
            key = f"{config.seed} {config.data.model_dump_json()} {config.task.name} {id(config.task)}"
            if key not in drawn:
                drawn[key] = draw(config.task, config.data, config.seed).digest
            model = f"{record.model_fingerprint} {config.model.model_dump_json()}"
            if model not in models:
                models[model] = is_still(config.model, record.model_fingerprint)
            if drawn[key] != record.split.digest:
                changed[config.folder] = "data"
            elif not models[model]:
                changed[config.folder] = "model"
    if changed:
        folder, what = next(iter(changed.items()))
        raise RunFolderError(
            f"{folder}: the {what} changed since this run was made, as under {len(changed)} of {len(done)} finished "
            "runs; --out makes all runs in another folder, or delete these folders to make them again"
        )
