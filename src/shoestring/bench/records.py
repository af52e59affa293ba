"""The benchmark of tables: records of a published study are made up, written, read and put into tables."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pydantic import Field

from shoestring.bench.settings import Timed
from shoestring.bench.timing import lap, timed
from shoestring.config import Settings
from shoestring.progress import Progress
from shoestring.runs.collect import read_records
from shoestring.runs.environment import environment
from shoestring.runs.record import Memory, PassCounts, Record, SplitSizes, Weights, now, write_record
from shoestring.seeds import numpy_stream
from shoestring.studies.against import compare
from shoestring.studies.recipes import find_recipe
from shoestring.studies.study import Study, Trial, load_study
from shoestring.tables.table import tabulate

RECIPE = "mezo/roberta-large-k16"
GOAL = 2.0
"""Seconds that the command may take."""
_PROGRAM = "import sys; sys.argv[0] = 'shoestring'; from shoestring.cli.main import main; main()"


class RecordSettings(Settings):
    """What is measured, and how often."""

    records: int = Field(default=2000, ge=1)
    """Records, of the study of MeZO on RoBERTa-large."""
    rounds: int = Field(default=3, ge=1)
    """Rounds that are counted, after one that is not."""


class RecordRow(Settings):
    """One thing that is done with all records."""

    what: str
    time: Timed


class RecordReport(Settings):
    """What was measured, of what, where and how."""

    command: str
    settings: RecordSettings
    rows: tuple[RecordRow, ...]
    environment: dict[str, Any]
    started: str
    seconds: float


def bench_records(settings: RecordSettings, command: str, progress: Progress) -> RecordReport:
    """Measure reading records, tables of them, and the whole command."""
    begin, started = time.perf_counter(), now()
    cpu = torch.device("cpu")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        study = study_of(settings.records)
        with progress.bar("write records", settings.records) as bar:
            for trial in study.trials()[: settings.records]:
                record = made_up(trial)
                (folder / record.run_id).mkdir()
                write_record(folder / record.run_id, record)
                bar.advance()
        records = read_records([folder]).records
        tasks: dict[str, Callable[[], object]] = {
            "read the records": lambda: read_records([folder]),
            "make the table": lambda: tabulate(records),
            "make it beside published numbers": lambda: compare(study_of(settings.records), records),
            "shoestring table": lambda: _shell("table", place),
        }
        rows: list[RecordRow] = []
        with progress.bar("measure", len(tasks) * (settings.rounds + 1)) as bar:
            for what, work in tasks.items():
                seconds: list[float] = []
                for number in range(settings.rounds + 1):
                    found = lap(work, cpu)
                    seconds += [found] if number else []
                    bar.advance()
                rows.append(RecordRow(what=what, time=timed(seconds)))
    return RecordReport(
        command=command,
        settings=settings,
        rows=tuple(rows),
        environment=environment(cpu),
        started=started,
        seconds=time.perf_counter() - begin,
    )


def study_of(records: int) -> Study:
    """Return the study with as many seeds as it takes to have so many runs."""
    path = find_recipe(RECIPE)
    each = load_study(path, seeds=[1]).count
    return load_study(path, seeds=range(1, 2 + (records - 1) // each))


def made_up(trial: Trial) -> Record:
    """Return a record of a trial, with numbers out of a hat, and all else as a real one has it."""
    config = trial.config
    stream = numpy_stream(trial.seed, "made up", config.run_id)
    dev, test = (float(value) for value in stream.uniform(0.4, 0.9, 2))
    metrics = {name: {config.task.metric: value, "loss": 1 - value} for name, value in (("dev", dev), ("test", test))}
    steps = int(getattr(config.method, "steps", 0))
    backward = steps if config.method.needs_backward else 0
    passes = {"forward": 2 * steps - backward, "backward": backward}
    return Record(
        run_id=config.run_id,
        status="ok",
        config=config.model_dump(mode="json"),
        metrics=metrics,
        facts={"steps": steps, "selected_step": steps // 2, "resumed_from": 0},
        passes=PassCounts(**passes, forward_examples=64 * passes["forward"], backward_examples=64 * backward),
        seconds={"fit": float(steps), "predict": 4.2},
        memory=Memory(weights=1 << 30, fit=1 << 28, predict=1 << 27, how="VmHWM"),
        weights=Weights(total=355_000_000, trained=355_000_000),
        split=SplitSizes(digest="0123456789abcdef", train=32, dev=32, tests={"test": 1000}, truncated=0),
        model_fingerprint="0123456789abcdef",
        environment=environment(torch.device("cpu")),
        started="2025-01-01T00:00:00+00:00",
        finished="2025-01-01T01:00:00+00:00",
    )


def _shell(*words: str) -> None:
    subprocess.run([sys.executable, "-c", _PROGRAM, *words], check=True, capture_output=True)
