from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shoestring.bench import records
from shoestring.bench.records import RecordSettings, bench_records, made_up, study_of
from shoestring.cli.bench_records import records_table
from shoestring.progress import Silent
from shoestring.runs.collect import read_records
from shoestring.tables.table import tabulate


def test_records_are_made_of_a_published_study_and_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def shell(command: str, place: str) -> None:
        asked.append(len(read_records([Path(place)]).records))

    monkeypatch.setattr(records, "_shell", shell)
    report = bench_records(RecordSettings(records=7, rounds=2), "again", Silent())
    assert asked == [7, 7, 7]
    assert [row.what for row in report.rows][-1] == "shoestring table"
    assert all(len(row.time.seconds) == 2 for row in report.rows)
    table = records_table(report)
    assert table.rows[-1][1].text.endswith("(goal: below 2)")
    assert table.notes[-1] == "again"


def test_there_are_as_many_runs_as_are_asked_for() -> None:
    each = study_of(1).count
    assert study_of(each).count == each
    assert study_of(each + 1).count == 2 * each
    trials: Any = study_of(1).trials()
    table = tabulate([made_up(trial) for trial in trials[:3]])
    assert not [note for note in table.notes if "missing" in note and "SST-2" in note]
