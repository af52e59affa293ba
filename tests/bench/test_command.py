from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.conftest import Shell
from shoestring.bench.settings import Report
from shoestring.cli import bench, bench_options
from shoestring.cli.bench import command_of
from shoestring.cli.bench_tables import steps_table
from shoestring.tables.formats import as_text

FEW = ["--model", "tiny", "--dtype", "float32", "--directions", "gaussian", "--engine", "replay", "--closure", "plain"]
FEW += ["--batch-size", "2", "--tokens", "8", "--rounds", "2", "--noise-elements", "500", "--threads", "1"]
ZEROTH = ["bench", "zeroth", *FEW]


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, frozen_imports: None) -> Shell:
    """Commands in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return Shell()


def test_tables_and_file_say_the_same(shell: Shell, tmp_path: Path) -> None:
    out, _ = shell(*ZEROTH, "--out", "bench.json")
    found = Report.model_validate_json((tmp_path / "bench.json").read_text())
    assert [row.step for row in found.steps] == ["floor", "reference", "quick floor", "mezo"]
    for row in found.steps:
        assert row.time is not None
        line = next(line for line in out.splitlines() if line.startswith("tiny") and f"  {row.step} " in line)
        assert f"{row.time.median * 1e3:,.2f} ({row.time.iqr * 1e3:,.2f})" in line
        assert f" {row.of_floor:.2f} " in line
    assert "torch.normal  add" in out
    assert found.environment["device"] in out
    assert f"torch {found.environment['packages']['torch']}" in out
    assert found.command in out
    assert list(tmp_path.iterdir()) == [tmp_path / "bench.json"]


@pytest.mark.parametrize(("more", "lengths"), [((), "8"), (("--shortest", "4"), "4 to 8")])
def test_the_command_in_the_report_measures_the_same_again(
    shell: Shell, tmp_path: Path, more: tuple[str, ...], lengths: str
) -> None:
    out, _ = shell(*ZEROTH, *more, "--out", "one.json")
    assert f"batch 2, {lengths} tokens, 2 candidates" in out
    first = json.loads((tmp_path / "one.json").read_text())
    program, *arguments = first["command"].split()
    assert program == "shoestring"
    shell(*arguments, "--out", "two.json")
    second = json.loads((tmp_path / "two.json").read_text())
    assert second["settings"] == first["settings"]
    assert command_of(Report.model_validate(second).settings) == first["command"]


def test_refusals_and_warnings_are_notes_of_the_table(shell: Shell, tmp_path: Path) -> None:
    shell(*ZEROTH, "--out", "bench.json")
    found = Report.model_validate_json((tmp_path / "bench.json").read_text())
    *others, last = found.steps
    warned = last.model_copy(update={"warned": ("it drifts",)})
    refused = last.model_copy(update={"refused": "not with me", "time": None, "closure": "per-example"})
    table = steps_table(found.model_copy(update={"steps": (*others, warned, refused)}))
    assert table.notes[-2:] == (
        "warning: it drifts [tiny float32 mezo gaussian replay plain]",
        "refused: not with me [tiny float32 mezo gaussian replay per-example]",
    )
    assert "  refused  " in next(line for line in as_text(table).splitlines() if " per-example " in line)


def test_tables_in_markdown(shell: Shell) -> None:
    out, _ = shell(*ZEROTH, "-f", "markdown")
    assert "| model | dtype " in out
    assert "| backend " in out


def test_every_engine_there_is_is_measured_unless_some_are_named(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    from shoestring.zeroth.engines.base import ENGINES

    monkeypatch.setattr(ENGINES, "names", lambda: ("replay",))
    place = ZEROTH.index("--engine")
    out, _ = shell(*ZEROTH[:place], *ZEROTH[place + 2 :])
    assert "--engine replay" in out


USAGE = {
    "dtype": (["--dtype", "float3"], "--dtype: there is no 'float3'; did you mean 'float32'?"),
    "closure": (["--closure", "plane"], "--closure: there is no 'plane'; did you mean 'plain'?"),
    "twice": (["--model", "tiny,tiny"], "--model: 'tiny' stands twice in 'tiny,tiny'"),
    "nothing": (["--engine", ","], "--engine: ',' names nothing"),
    "device": (["--device", "gpu"], "there is no 'gpu'; did you mean 'cpu'?"),
    "format": (["-f", "md"], "there is no 'md'"),
    "threads": (["--threads", "100000"], "--threads 100000: this process may use"),
    "rounds": (["--rounds", "0"], "Invalid value for '--rounds'"),
    "candidates": (["--candidates", "1"], "Invalid value for '--candidates'"),
    "tokens": (["--tokens", "3"], "Invalid value for '--tokens'"),
    "place": (["--out", "nowhere/b.json"], "--out nowhere/b.json: there is no folder nowhere"),
    "folder": (["--out", "."], "--out . is a folder, where a file is meant"),
}


@pytest.mark.parametrize("case", USAGE)
def test_a_command_used_wrongly_exits_with_2_and_says_what_is_right(shell: Shell, case: str) -> None:
    arguments, message = USAGE[case]
    assert message in shell.usage_error(*ZEROTH, *arguments)


ERRORS = {
    "model": (["--model", "opt-126m"], "unknown shape of a model 'opt-126m'; did you mean 'opt-125m'? Allowed: opt"),
    "optimizer": (["--optimizer", "mezzo"], "unknown zeroth-order optimizer 'mezzo'; did you mean 'mezo'?"),
    "engine": (["--engine", "pared"], "unknown engine 'pared'"),
    "directions": (["--directions", "gauss"], "unknown directions 'gauss'; did you mean 'gaussian'?"),
    "too long": (["--tokens", "5000"], "tokens=5000: tiny reads prompts of at most 2047 tokens"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_a_mistake_exits_with_1_and_a_message(shell: Shell, case: str) -> None:
    arguments, message = ERRORS[case]
    assert message in shell.error(*ZEROTH, *arguments)


def test_the_options_name_what_the_settings_allow() -> None:
    from typing import get_args

    from shoestring.bench.settings import Closure, Device, DType

    assert get_args(DType) == bench_options.DTYPES
    assert get_args(Closure) == bench.CLOSURES
    assert get_args(Device) == bench_options.DEVICES
