"""Sweeps: every run of a study once, whatever happens on the way."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest

from shoestring.errors import ConfigError, OutputError, RunBusyError, RunFolderError, WorkerError
from shoestring.runs.config import RunConfig
from shoestring.runs.folder import RunFolder
from shoestring.runs.record import now, read_record, write_record
from shoestring.runs.run import run
from shoestring.studies import attempt
from shoestring.studies.engine import Engine, InOrder
from shoestring.studies.launch import run_all
from shoestring.studies.launchers.base import Ended, Launcher, Pool
from shoestring.studies.launchers.here import Here
from shoestring.studies.launchers.local import Local
from shoestring.studies.plan import Plan, Tally, look, planned, read_plans, write_plan
from shoestring.studies.study import load_study
from shoestring.studies.sweep import Sweep, refuse_changed
from shoestring.tables.formats import as_text
from shoestring.tables.table import Layout, tabulate

pytestmark = pytest.mark.usefixtures("frozen_imports")

BASE = """\
task = "SST-2"
[data]
source = "{data}"
k = 4
[model]
kind = "masked"
name = "{model}"
[method]
kind = "mezo"
lr = 1e-3
steps = 2
eval_every = 1
batch_size = 4
[output]
folder = "{out}"
[study]
seeds = [13, 21]
[[study.variants]]
name = "zero-shot"
set.method.kind = "zero-shot"
[[study.variants]]
name = "MeZO"
over.method.lr = [1e-3, 1e-2]
"""
HOPELESS = """\
[[study.variants]]
name = "hopeless"
set.method = {{ kind = "sgd", lr = 1e30, steps = 3, eval_every = 3, batch_size = 4, max_grad_norm = 0.0 }}
"""
Write = Callable[..., Path]


class Silent:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.on_tick: Callable[[], None] = lambda: None

    def began(self, config: RunConfig) -> None:
        self.told.append((config.run_id, "began"))

    def ended(self, ended: Ended) -> None:
        self.told.append((ended.place.name, ended.how))

    def tick(self) -> None:
        self.on_tick()

    def how(self, how: str) -> list[str]:
        return [run_id for run_id, told in self.told if told == how]


@pytest.fixture
def recipe(tmp_path: Path, tiny_masked_folder: Path, tiny_original: Path) -> Write:
    def write(name: str = "study", more: str = "", out: str = "runs") -> Path:
        path = tmp_path / f"{name}.toml"
        text = (BASE + more).format(data=tiny_original, model=tiny_masked_folder, out=tmp_path / out)
        path.write_text(text, encoding="utf-8")
        return path

    return write


def made(path: Path, watcher: Silent | None = None, launcher: Launcher | None = None, **options: Any) -> Sweep:
    """Make what a recipe asks for, as the command does."""
    sweep = Sweep.of([load_study(path)])
    retry = options.pop("retry", False)
    todo = sweep.todo(sweep.tally(), retry=retry)
    Engine(launcher or Here(), watcher or Silent(), **options).make(InOrder(todo))
    return sweep


def table(sweep: Sweep) -> str:
    return as_text(tabulate(sweep.records(sweep.trials[0]), Layout(costs=False)))


def test_a_sweep_makes_each_run_once_with_the_numbers_of_run(recipe: Write) -> None:
    watcher = Silent()
    sweep = made(recipe(), watcher)
    assert len(watcher.how("ok")) == 6
    assert sweep.tally().count("done") == 6
    alone = load_study(recipe("alone", out="alone"))
    for config in alone.configs():
        run(config)
    assert table(sweep) == table(Sweep.of([alone]))
    again = Silent()
    made(recipe(), again)
    assert again.told == []


def test_a_failing_run_stops_no_other_and_is_made_again_only_when_asked(recipe: Write) -> None:
    watcher = Silent()
    sweep = made(recipe(more=HOPELESS), watcher)
    tally = sweep.tally()
    assert [tally.count(state) for state in ("done", "failed", "to do", "running")] == [6, 2, 0, 0]
    assert {run.row for run, _ in tally.failures} == {"hopeless"}
    assert all("the loss is nan" in error for _, error in tally.failures)
    again = Silent()
    made(recipe(more=HOPELESS), again)
    assert again.told == []
    made(recipe(more=HOPELESS), again, retry=True)
    assert len(again.how("failed")) == 2
    assert again.how("ok") == []


def test_a_run_that_fails_before_it_begins_leaves_a_record_that_says_why(recipe: Write) -> None:
    path = recipe(more='[[study.variants]]\nname = "no data"\nset.data.source = "./nowhere"')
    tally = made(path).tally()
    assert tally.count("done") == 6
    assert {error.splitlines()[0] for _, error in tally.failures} == {
        f"{path.parent / 'nowhere'}: there is no such file or folder. Allowed: runs, study.toml"
    }


def test_stop_on_failure_begins_no_further_run(recipe: Write) -> None:
    path = recipe(more='[[study.variants]]\nname = "no data"\nset.data.source = "./nowhere"')
    watcher = Silent()
    sweep = Sweep.of([load_study(path)])
    with pytest.raises(Exception, match="there is no such file or folder"):
        Engine(Here(), watcher, stop_on_failure=True).make(InOrder(reversed(sweep.configs.values())))
    assert [how for _, how in watcher.told] == ["began", "failed"]


def test_a_full_disk_ends_the_sweep_and_the_same_command_goes_on(
    recipe: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def full(config: RunConfig, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            attempt.leave_failure(config, "runs/x cannot be written: No space left on device", now())
            raise OutputError("runs/x cannot be written: No space left on device")
        return run(config, **options)

    monkeypatch.setattr(attempt, "run", full)
    with pytest.raises(OutputError, match="No space left") as caught:
        made(recipe())
    assert "the same command goes on" in caught.value.__notes__[0]
    tally = Sweep.of([load_study(recipe())]).tally()
    assert [tally.count(state) for state in ("done", "failed", "to do")] == [2, 0, 4]
    assert made(recipe()).tally().count("done") == 6


def test_a_killed_run_that_was_cancelled_before_has_failed(recipe: Write) -> None:
    config = next(iter(Sweep.of([load_study(recipe())]).configs.values()))
    begun = now()
    attempt.leave_failure(config, "its worker process was ended by SIGKILL", begun)
    first = read_record(config.folder)
    assert first is not None
    write_record(config.folder, first.model_copy(update={"status": "cancelled", "error": "interrupted"}))
    attempt.leave_failure(config, "its worker process was ended by SIGKILL", begun)
    attempt.leave_failure(config, "something else", begun)  # What is known of a failure is not replaced.
    found = read_record(config.folder)
    assert found is not None
    assert (found.status, found.error) == ("failed", "its worker process was ended by SIGKILL")


def test_a_failure_of_an_earlier_attempt_gives_way_to_that_of_this_one(recipe: Write) -> None:
    config = next(iter(Sweep.of([load_study(recipe())]).configs.values()))
    attempt.leave_failure(config, "the data was not there", now())
    first = read_record(config.folder)
    assert first is not None
    write_record(config.folder, first.model_copy(update={"finished": "2025-01-01T00:00:00+00:00"}))
    attempt.leave_failure(config, "its worker process was ended by SIGKILL", now())
    found = read_record(config.folder)
    assert found is not None
    assert found.error == "its worker process was ended by SIGKILL"


def test_runs_that_another_process_makes_are_waited_for(recipe: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shoestring.studies.engine._LATER", 0.01)
    monkeypatch.setattr("shoestring.studies.engine._TICK", 0.02)
    sweep = Sweep.of([load_study(recipe())])
    config = next(iter(sweep.configs.values()))
    run(config)
    text = (config.folder / "result.json").read_text()
    (config.folder / "result.json").unlink()
    watcher = Silent()
    with RunFolder(config.folder, config.identity()).open(force=False):
        assert sweep.tally().count("running") == 1

        def other_ends() -> None:
            if len(watcher.how("ok")) == 5:
                (config.folder / "result.json").write_text(text)

        watcher.on_tick = other_ends
        made(recipe(), watcher)
    assert config.run_id not in watcher.how("began")
    assert len(watcher.how("ok")) == 6


def test_a_run_that_another_process_makes_is_refused(recipe: Write) -> None:
    config = load_study(recipe()).configs()[0]
    with (
        RunFolder(config.folder, config.identity()).open(force=False),
        pytest.raises(RunBusyError, match="is being written by another process"),
    ):
        run(config)


def test_a_run_that_another_process_ended_meanwhile_is_not_made_twice(
    recipe: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_study(recipe()).configs()[0]
    from shoestring.runs import run as module

    first = module.prepare

    def slow(*given: Any) -> Any:
        monkeypatch.setattr(module, "prepare", first)
        run(config)
        (config.folder / "result.json").touch()
        found.append((config.folder / "result.json").stat().st_mtime_ns)
        return first(*given)

    found: list[int] = []
    monkeypatch.setattr(module, "prepare", slow)
    assert run(config).status == "ok"
    assert (config.folder / "result.json").stat().st_mtime_ns == found[0]


class Losing(Launcher):
    """Loses every run once, as if its machine had gone."""

    begin_again: ClassVar[int] = 1

    kind: Literal["losing"] = "losing"  # pyright: ignore[reportIncompatibleVariableOverride]

    @contextmanager
    def open(self) -> Iterator[Pool]:
        with Here().open() as pool:
            yield _Losing(pool)


class _Losing:
    def __init__(self, pool: Pool) -> None:
        self._pool, self._seen, self._lost = pool, set[Path](), list[Path]()

    def takes(self, config: RunConfig) -> bool:
        return not self._lost and self._pool.takes(config)

    def submit(self, config: RunConfig, *, force: bool, limits: Any = None) -> None:
        if config.folder in self._seen:
            self._pool.submit(config, force=force)
        else:
            self._lost.append(config.folder)
        self._seen.add(config.folder)

    def wait(self, seconds: float) -> list[Ended]:
        if self._lost:
            return [Ended(self._lost.pop(), "lost", error=WorkerError("its node is gone"))]
        return self._pool.wait(seconds)


def test_runs_lost_with_their_machine_are_begun_again(recipe: Write) -> None:
    watcher = Silent()
    assert made(recipe(), watcher, Losing()).tally().count("done") == 6
    assert len(watcher.how("lost")) == 6
    assert len(watcher.how("began")) == 12


def test_a_run_that_is_lost_too_often_has_failed(recipe: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Losing, "begin_again", 0)
    sweep = made(recipe(), launcher=Losing())
    assert sweep.tally().count("failed") == 6
    record = read_record(next(iter(sweep.configs.values())).folder)
    assert record is not None
    assert (record.status, record.error) == ("failed", "its node is gone; it goes on from its last checkpoint")
    assert made(recipe(), retry=True).tally().count("done") == 6


def test_run_all_raises_what_was_lost(recipe: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Losing, "begin_again", 0)
    with pytest.raises(WorkerError, match="its node is gone"):
        run_all(load_study(recipe()).configs(), jobs=1, launcher=Losing())


def test_a_worker_that_is_killed_fails_only_its_run_and_is_replaced(recipe: Write) -> None:
    """The one test of this file with worker processes."""
    import multiprocessing

    watcher, killed = Silent(), list[int]()

    def kill() -> None:
        children = multiprocessing.active_children()
        if children and len(watcher.how("ok")) == 1 and not killed:
            killed.append(children[0].pid or 0)
            os.kill(killed[0], signal.SIGKILL)

    watcher.on_tick = kill
    long = recipe().read_text().replace("steps = 2", "steps = 2000")
    recipe().write_text(long.replace("[1e-3, 1e-2]", "[1e-3]").replace("seeds = [13, 21]", "seeds = [13]"))
    path = recipe().with_name("study.toml")
    path.write_text(long.replace('name = "MeZO"', 'name = "long"').replace("over.method.lr = [1e-3, 1e-2]", ""))
    sweep = Sweep.of([load_study(path, seeds=[13])])
    short = load_study(recipe("short"), seeds=[21]).configs()[0]
    Engine(Local(jobs=1), watcher).make(InOrder([*sweep.configs.values(), short]))
    (failed,) = watcher.how("failed")
    assert failed == sweep.trials[0][1].config.run_id
    assert watcher.how("ok") == [sweep.trials[0][0].config.run_id, short.run_id]
    ((_, error),) = sweep.tally().failures
    assert error == (
        "its worker process was ended by SIGKILL, as the system does when memory runs out; "
        "it goes on from its last checkpoint"
    )
    assert multiprocessing.active_children() == []


def test_what_was_made_from_other_data_or_another_model_is_not_taken(
    recipe: Write, tmp_path: Path, tiny_original: Path
) -> None:
    import shutil

    data = tmp_path / "data"
    shutil.copytree(tiny_original, data)
    study = load_study(recipe(), [f"data.source={data}"], seeds=[13])
    sweep = Sweep.of([study])
    for config in sweep.configs.values():
        run(config)
    refuse_changed(sweep, sweep.tally())
    (train,) = data.rglob("train.tsv")
    lines = train.read_text().splitlines()
    train.write_text("\n".join([lines[0], *reversed(lines[1:])]) + "\n")
    with pytest.raises(RunFolderError, match="the data changed since this run was made, as under 3 of 3 finished"):
        refuse_changed(sweep, sweep.tally())


def test_a_folder_of_another_version_and_an_edited_record_count_as_failed(recipe: Write) -> None:
    sweep = made(recipe())
    first, second, *_ = sweep.configs.values()
    for config, change in ((first, {"format": 99}), (second, {"metrics": {}})):
        path = config.folder / "result.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
    errors = [error for _, error in sweep.tally().failures]
    assert len(errors) == 2
    assert "has format 99" in errors[0]
    assert "result.json" in errors[1]


def test_recipes_that_disagree_are_refused(recipe: Write) -> None:
    one, two = recipe("one"), recipe("two")

    def titled(path: Path, title: str, *changes: tuple[str, str]) -> Path:
        text = path.read_text().replace("[study]", f'[study]\ntitle = "{title}"')
        for old, new in changes:
            text = text.replace(old, new)
        path.write_text(text)
        return path

    studies = [load_study(titled(one, "Same")), load_study(titled(two, "same!"))]
    with pytest.raises(ConfigError, match=r"study\.title = 'same!': is the title of .*one\.toml too"):
        Sweep.of(studies)
    with pytest.raises(ConfigError, match="is given twice"):
        Sweep.of([studies[0], studies[0]])
    kept = titled(recipe("two"), "Other", ("[output]", "[output]\nkeep_model = true"))
    with pytest.raises(ConfigError, match=r"output\.keep_model: True, but .*one\.toml makes the same run \w{16} with"):
        Sweep.of([studies[0], load_study(kept)])


@pytest.mark.parametrize("titles", [("实验一", "实验二"), ("Größe", "Grüße"), ("x" * 90 + " one", "x" * 90 + " two")])
def test_titles_of_any_letters_have_plans_of_their_own(recipe: Write, tmp_path: Path, titles: tuple[str, str]) -> None:
    for title in titles:
        path = recipe()
        path.write_text(path.read_text().replace("[study]", f'[study]\ntitle = "{title}"'), encoding="utf-8")
        Sweep.of([load_study(path)]).write_plans()
    assert sorted(plan.title for plan in read_plans(tmp_path / "runs")) == sorted(titles)
    assert all(path.name.isascii() and len(path.name) < 100 for path in (tmp_path / "runs").iterdir())


def test_what_recipes_share_is_made_once_and_noted(recipe: Write) -> None:
    other = recipe("two")
    other.write_text(other.read_text().replace("seeds = [13, 21]", "seeds = [13]"))
    sweep = Sweep.of([load_study(recipe("one")), load_study(other)])
    assert len(sweep.configs) == 6
    assert sweep.notes == [
        "3 runs belong to several studies; made once",
        "studies fill the same cells from other seeds, and the table has the means of all: one: 13, 21; two: 13",
    ]
    elsewhere = Sweep.of([load_study(recipe("one")), load_study(other, out="elsewhere")])
    assert "3 runs belong to several studies with folders of their own; --out makes them once" in elsewhere.notes


def test_a_plan_is_read_as_it_was_written(recipe: Write, tmp_path: Path) -> None:
    sweep = Sweep.of([load_study(recipe())])
    (path,) = sweep.write_plans()
    assert path == tmp_path / "runs" / "study.sweep.json"
    assert read_plans(tmp_path / "runs") == sweep.plans()
    shutil.copytree(tmp_path / "runs", tmp_path / "moved")
    assert {run.folder for plan in read_plans(tmp_path / "moved") for run in plan.runs} == {str(tmp_path / "moved")}
    assert sweep.plans()[0].runs[2].name == "MeZO, SST-2, method.lr=0.001, seed 13"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"holds no plan of a sweep \(\*\.sweep\.json\)"),
        ("{", r"study\.sweep\.json is damaged"),
        ('{"format": 7}', r"has format 7, this version of shoestring reads 1"),
        ('{"format": 1, "title": "x"}', r"is damaged: \d validation errors.*; shoestring sweep writes it anew"),
    ],
)
def test_plans_that_cannot_be_read_say_why(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "study.sweep.json").write_text(text)
    with pytest.raises(RunFolderError, match=message):
        read_plans(tmp_path)


def test_the_time_left_is_that_of_runs_alike(recipe: Write) -> None:
    sweep = Sweep.of([load_study(recipe())])
    tally = sweep.tally()
    assert tally.work_left() is None
    shot, *_, mezo = range(6)
    tally.seen[shot] = type(tally.seen[shot])("done", seconds=2.0)
    assert tally.work_left() == 5 * 2.0
    tally.seen[mezo] = type(tally.seen[mezo])("done", seconds=10.0)
    assert tally.work_left() == 1 * 2.0 + 3 * 10.0
    tally.seen[2] = type(tally.seen[2])("running")
    assert tally.work_left() == 1 * 2.0 + 2.5 * 10.0
    tally.coming = 2
    assert tally.work_left() == 1 * 2.0 + 2.5 * 10.0 + 2 * 6.0
    assert tally.count("to do") == 3 + 2


def test_a_run_that_should_keep_its_model_is_done_only_with_it(recipe: Write) -> None:
    config = load_study(recipe(), ["output.keep_model=true"]).trials()[0]
    run(load_study(recipe()).trials()[0].config)
    assert look(planned(config)).state == "to do"
    plan = Plan(title="x", recipe="y", runs=(planned(config),))
    write_plan(plan, Path(config.config.output.folder), "z")
    assert Tally.of(read_plans(Path(config.config.output.folder))).count("to do") == 1
