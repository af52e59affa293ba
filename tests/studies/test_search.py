"""Random search and TPE: the same settings each time, whatever ran meanwhile."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shoestring.errors import ConfigError, MissingPackageError, PrunedError
from shoestring.files import write_jsonl
from shoestring.runs.config import RunConfig
from shoestring.runs.limits import Limits
from shoestring.runs.record import Record, read_record, write_record
from shoestring.studies.launchers.base import Ended
from shoestring.studies.queues import Queues
from shoestring.studies.search import TpeQueue, random_trials
from shoestring.studies.study import Study, Trial, load_study
from shoestring.studies.sweep import Sweep

RECIPE = """\
task = "SST-2"
[data]
source = "./data"
[model]
kind = "masked"
name = "./model"
[method]
kind = "mezo"
[output]
folder = "{out}"
[study]
seeds = [13, 21]
over.method.eps = [1e-3, 1e-2]
search.method.lr = {{ low = 1e-7, high = 1e-3, log = true }}
search.method.steps = {{ low = 2, high = 5 }}
search.method.schedule = {{ choices = ["constant", "linear"] }}
[[study.variants]]
name = "MeZO"
[[study.variants]]
name = "zero-shot"
set.method.kind = "zero-shot"
"""


@pytest.fixture
def study(tmp_path: Path) -> Study:
    path = tmp_path / "r.toml"
    path.write_text(RECIPE.format(out=tmp_path / "runs"))
    return load_study(path)


def value(config: RunConfig) -> float:
    """A dev accuracy that is best at lr=1e-5."""
    lr = getattr(config.method, "lr", None)
    return 0.5 if lr is None else 1 / (1 + (math.log10(lr) + 5) ** 2)


def finish(config: RunConfig, status: str = "ok", limits: Limits | None = None) -> str:
    """Write what a run of three evaluations leaves, which limits may end early; return how it ended."""
    config.folder.mkdir(parents=True, exist_ok=True)
    lines: list[dict[str, float]] = []
    hear = limits.watch() if limits is not None else lambda line: None
    for step in (1, 2, 3) if status == "ok" else ():
        lines.append({"step": step, "eval_accuracy": value(config) * step / 3})
        try:
            hear(lines[-1])
        except PrunedError:
            status = "pruned"
            break
    write_jsonl(config.folder / "metrics.jsonl", lines)
    record = {
        "run_id": config.run_id,
        "status": status,
        "config": config.model_dump(mode="json"),
        "metrics": {"dev": {"accuracy": value(config)}} if status == "ok" else {},
        "started": "2025-01-01T00:00:00+00:00",
        "finished": "2025-01-01T00:00:01+00:00",
    }
    write_record(config.folder, Record.model_validate(record))
    return status


def test_random_search_tries_the_same_values_in_every_cell_and_seed(study: Study) -> None:
    trials = random_trials(study, 20)
    assert trials == random_trials(study, 20)
    assert trials[:4] == random_trials(study, 2)[:4]
    cells: dict[Any, list[tuple[Any, ...]]] = {}
    for trial in trials:
        drawn = tuple(trial.settings.get(f"method.{key}") for key in ("lr", "steps", "schedule"))
        cells.setdefault((trial.variant, trial.settings.get("method.eps"), trial.seed), []).append(drawn)
    assert len(cells) == 4 + 2
    first, *others = [drawn for (variant, *_), drawn in cells.items() if variant == "MeZO"]
    assert all(drawn == first for drawn in others)
    assert len(first) == 20
    assert all(1e-7 <= lr <= 1e-3 and steps in (2, 3, 4, 5) for lr, steps, _ in first)
    assert {schedule for _, _, schedule in first} == {"constant", "linear"}
    # Even in the logarithm: half of them on either side of the middle, within four standard errors.
    assert abs(sum(lr < 1e-5 for lr, _, _ in first) - 10) <= 4 * math.sqrt(20 / 4)
    assert len([trial for trial in trials if trial.variant == "zero-shot"]) == 2


def test_whole_numbers_are_drawn_evenly_the_ends_too(tmp_path: Path) -> None:
    path = tmp_path / "whole.toml"
    ranged = RECIPE.replace("steps = {{ low = 2, high = 5 }}", "steps = {{ low = 1, high = 3 }}")
    path.write_text(ranged.format(out=tmp_path / "runs"))
    trials = random_trials(load_study(path, ["method.eps=1e-3"], seeds=[13]), 600)
    drawn = [trial.settings["method.steps"] for trial in trials if trial.variant == "MeZO"]
    assert {*drawn} == {1, 2, 3}
    # A third each, within four standard errors.
    assert all(abs(drawn.count(steps) - 200) <= 4 * math.sqrt(600 * 1 / 3 * 2 / 3) for steps in (1, 2, 3))


def test_the_command_line_replaces_ranges(study: Study) -> None:
    path = Path(study.source)
    fixed = random_trials(load_study(path, ["method.lr=1e-4"], {"method.steps": [7, 8]}), 3)
    assert {getattr(trial.config.method, "lr", 1e-4) for trial in fixed} == {1e-4}
    assert {getattr(trial.config.method, "steps", 7) for trial in fixed} == {7, 8}
    narrowed = path.with_name("narrow.toml")
    ranged = path.read_text().replace("over.method.eps = [1e-3, 1e-2]", "over.method.lr = [1.0]")
    narrowed.write_text(ranged)
    assert all(getattr(trial.config.method, "lr", 0) < 1 for trial in random_trials(load_study(narrowed), 3))


def test_searches_without_ranges_are_refused(study: Study) -> None:
    path = Path(study.source)
    path.write_text("\n".join(line for line in path.read_text().splitlines() if not line.startswith("search")))
    with pytest.raises(ConfigError, match=r"study\.search: has no key to search: \"method\.lr\" = \{ low"):
        random_trials(load_study(path), 3)


def test_a_grid_leaves_ranges_aside_and_says_so(study: Study) -> None:
    assert "the ranges of study.search are for --search random or tpe" in Sweep.of([study]).notes[0]
    assert Sweep.of([study], "random", 2).notes[0] == "method.eps is left out of what has no such key: 'zero-shot'"


def test_tpe_says_how_to_install_optuna(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'shoestring\[optuna\]'"):
        TpeQueue(study, 3, lambda trial: None)


def asked(
    study: Study,
    count: int,
    at_once: int = 1,
    stop: int | None = None,
    fails: Callable[[int], bool] = lambda _: False,
    prune: bool = False,
) -> list[Trial]:
    """Make the runs of a TPE search, `at_once` side by side, the last begun ended first; maybe stop in the middle."""
    found: list[Trial] = []
    queue = TpeQueue(study, count, found.append, prune=prune)
    going: list[RunConfig] = []
    made = 0
    while stop is None or made < stop:
        while len(going) < at_once and (config := queue.next()) is not None:
            going.append(config)
        if not going:
            assert queue.over
            break
        config = going.pop()
        how = finish(config, "failed" if fails(made) else "ok", queue.limits(config))
        queue.ended(Ended(config.folder, how))  # pyright: ignore[reportArgumentType]
        made += 1
    return found


def settings(trials: list[Trial]) -> set[str]:
    return {trial.config.run_id for trial in trials}


def test_tpe_asks_for_the_same_runs_however_many_run_at_once_and_after_a_kill(study: Study, tmp_path: Path) -> None:
    pytest.importorskip("optuna")

    def elsewhere(name: str) -> Study:
        return load_study(Path(study.source), out=str(tmp_path / name))

    alone = asked(elsewhere("alone"), 12)
    assert len(alone) == 4 * 12 + 2
    assert settings(asked(elsewhere("many"), 12, at_once=7)) == settings(alone)
    begun = settings(asked(elsewhere("killed"), 12, at_once=3, stop=25))
    assert begun < settings(alone)
    assert settings(asked(elsewhere("killed"), 12, at_once=5)) == settings(alone)


def test_tpe_comes_closer_than_chance(study: Study) -> None:
    pytest.importorskip("optuna")
    trials = [trial for trial in asked(study, 24) if trial.variant == "MeZO"]
    searches: dict[Any, list[float]] = {}
    for trial in trials:
        searches.setdefault((trial.settings["method.eps"], trial.seed), []).append(value(trial.config))
    early = [sum(values[:8]) / 8 for values in searches.values()]
    late = [sum(values[-8:]) / 8 for values in searches.values()]
    assert sum(late) / len(late) > sum(early) / len(early) + 0.1


def test_runs_that_fail_teach_tpe_nothing_and_stop_nothing(study: Study) -> None:
    pytest.importorskip("optuna")
    trials = asked(study, 6, fails=lambda number: number % 5 == 0)
    assert len(trials) == 4 * 6 + 2


def test_pruned_runs_are_the_same_however_many_run_at_once_and_are_made_in_full_without_pruning(
    study: Study, tmp_path: Path
) -> None:
    pytest.importorskip("optuna")

    def ends(name: str, **options: Any) -> dict[str, str]:
        trials = asked(load_study(Path(study.source), out=str(tmp_path / name)), 12, **options)
        records = [(trial.config.run_id, read_record(trial.config.folder)) for trial in trials]
        return {run_id: record.status if record is not None else "" for run_id, record in records}

    alone = ends("alone", prune=True)
    statuses = [*alone.values()]
    assert {*statuses} == {"ok", "pruned"}
    assert 4 <= statuses.count("pruned") <= 4 * (12 - 4)  # The four that are drawn at random have no limits.
    assert ends("many", prune=True, at_once=7) == alone
    ends("killed", prune=True, at_once=3, stop=30)
    assert ends("killed", prune=True, at_once=5) == alone
    assert {*ends("killed").values()} == {"ok"}


def test_pruned_runs_are_to_be_made_only_by_who_does_not_prune(study: Study) -> None:
    pytest.importorskip("optuna")
    asked(study, 12, prune=True)
    pruning, whole = (Sweep.of([study], "tpe", 12, prune=prune) for prune in (True, False))
    assert pruning.tally().count("pruned") > 0
    assert pruning.todo(pruning.tally(), retry=False) == []
    assert whole.todo(whole.tally(), retry=False) != []


def test_tpe_makes_runs_again_whose_weights_are_wanted_and_gone(study: Study) -> None:
    pytest.importorskip("optuna")
    made = settings(asked(study, 3))
    kept = load_study(Path(study.source), ["output.keep_model=true"])
    queue = TpeQueue(kept, 3, lambda trial: None)
    again: set[str] = set()
    while (config := queue.next()) is not None:
        again.add(config.run_id)
        finish(config)
        (config.folder / "model").mkdir()
        queue.ended(Ended(config.folder, "ok"))
    assert again == made
    assert TpeQueue(kept, 3, lambda trial: None).next() is None


def test_a_sweep_by_tpe_knows_what_is_asked_for_and_how_many_are_to_come(study: Study) -> None:
    pytest.importorskip("optuna")
    sweep = Sweep.of([study], "tpe", 6)
    # Two settings of each of four searches come before anything is learned; zero-shot has nothing to search.
    assert (len(sweep.trials[0]), sweep.to_come) == (4 * 2 + 2, [4 * 4])
    news: list[Any] = []
    queue = sweep.queue([], news.append, retry=False)
    while (config := queue.next()) is not None:
        finish(config)
        queue.ended(Ended(config.folder, "ok"))
    assert queue.over
    assert len(news) == 16
    assert sweep.to_come == [0]
    assert sweep.tally().count("done") == 26
    again = Sweep.of([study], "tpe", 6)
    assert (len(again.trials[0]), again.to_come) == (26, [0])


def test_searches_with_the_same_runs_in_two_folders_learn_each_from_its_own(study: Study, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    studies = [load_study(Path(study.source), out=str(tmp_path / name)) for name in ("one", "two")]
    found: list[list[Trial]] = [[], []]
    queues = Queues([TpeQueue(one, 6, some.append) for one, some in zip(studies, found, strict=True)])
    going: list[RunConfig] = []
    while True:
        while len(going) < 60 and (config := queues.next()) is not None:
            going.append(config)
        if not going:
            break
        config = going.pop(0)
        finish(config, "ok")
        queues.ended(Ended(config.folder, "ok"))
    assert queues.over
    assert settings(found[0]) == settings(found[1]) == settings(asked(study, 6))


def test_tpe_needs_a_dev_set(study: Study) -> None:
    pytest.importorskip("optuna")
    none = load_study(Path(study.source), ["data.mode=subset", "data.num_train=8", "data.num_dev=0"])
    with pytest.raises(ConfigError, match=r"data\.num_dev"):
        TpeQueue(none, 3, lambda trial: None)
