from __future__ import annotations

import json
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
import torch

from cli.conftest import Shell
from shoestring.bench import scoring
from shoestring.bench.scoring import bench_scoring
from shoestring.bench.scoring_settings import ScoringReport, ScoringRow, ScoringSettings, scoring_goals
from shoestring.bench.settings import Timed
from shoestring.cli.bench_scoring import command_of
from shoestring.errors import ModelError, UnknownNameError

pytestmark = pytest.mark.usefixtures("frozen_imports")
SMALL = ScoringSettings.model_validate(
    {
        "model": "tiny",
        "prompting": {"examples": 6, "tokens": 6, "shots": 2, "shot_tokens": 40, "candidate_tokens": 2, "own": 2},
        "training": {"batch_size": 2, "tokens": 8, "candidates": (2, 3)},
        "rounds": 2,
    }
)
FEW = ["--model", "tiny", "--examples", "6", "--tokens", "6", "--shots", "2", "--shot-tokens", "40", "--rounds", "1"]
FEW += ["--batch-size", "2", "--train-tokens", "8", "--train-candidates", "2,3", "--threads", "1"]
SCORING = ["bench", "scoring", *FEW]


@pytest.fixture(scope="module")
def report(frozen_imports: None) -> ScoringReport:
    return bench_scoring(SMALL, "the command")


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Shell:
    """Commands in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return Shell()


def test_every_case_is_measured_both_ways_with_equal_scores(report: ScoringReport) -> None:
    assert [(row.case, row.candidates, row.tokens) for row in report.rows] == [
        ("zero-shot", 2, 8),
        ("common demonstrations", 2, 88),
        ("own demonstrations", 2, 84),
        ("forward", 2, 8),
        ("forward", 3, 8),
        ("backward", 2, 8),
        ("backward", 3, 8),
    ]
    for row in report.rows:
        assert len(row.reference.seconds) == len(row.ours.seconds) == 2
        assert row.speedup == pytest.approx(row.reference.median / row.ours.median)
        assert row.difference < 1e-5
        assert row.goals == ()


def test_a_difference_of_scores_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring._OneByOne, "_score", lambda *_: -1.0)
    found = bench_scoring(SMALL.model_copy(update={"rounds": 1}))
    assert [row.difference > 1e-2 for row in found.rows[:4]] == [True, True, True, False]


def test_nothing_is_left_on_the_model_and_random_states_are_left_alone(global_random_states: None) -> None:
    bench_scoring(SMALL.model_copy(update={"rounds": 1}))


def test_a_report_survives_json(report: ScoringReport) -> None:
    text = json.dumps(report.model_dump(mode="json"), allow_nan=False)
    assert ScoringReport.model_validate_json(text) == report


def test_the_bar_reaches_its_end() -> None:
    counts = [0, 0]

    class Told:
        def bar(self, label: str, total: int) -> AbstractContextManager[Told]:
            counts[1] = total
            return nullcontext(self)

        def advance(self, steps: int = 1) -> None:
            counts[0] += steps

        def note(self, text: str) -> None:
            raise AssertionError(text)

    bench_scoring(SMALL, progress=Told())
    assert counts == [21, 21]


def row_of(case: str, speedup: float, candidates: int = 2) -> ScoringRow:
    time = Timed(seconds=(1.0,), median=1.0, iqr=0.0)
    figures = {"case": case, "candidates": candidates, "tokens": 9, "speedup": speedup, "difference": 0.0}
    return ScoringRow.model_validate({**figures, "reference": time, "ours": time})


def test_goals_stand_beside_the_rows_they_are_about() -> None:
    told = {
        (case, count): [goal.text for goal in scoring_goals(row_of(case, speedup, count), ScoringSettings())]
        for case, count, speedup in (
            ("zero-shot", 2, 4.0),
            ("common demonstrations", 2, 29.0),
            ("own demonstrations", 2, 2.5),
            ("forward", 2, 1.7),
            ("backward", 3, 2.7),
            ("forward", 6, 4.5),
            ("forward", 5, 4.5),
        )
    }
    assert list(told.values()) == [
        [">= 4: yes"], [">= 30: NO"], [">= 2.5: yes"], [">= 1.8: NO"], [">= 2.6: yes"], [">= 4.5: yes"], [],
    ]  # fmt: skip


@pytest.mark.parametrize("change", [{"model": "tiny"}, {"dtype": "bfloat16"}, {"device": "cuda"}], ids=str)
def test_other_models_and_sizes_have_no_goals(change: dict[str, str]) -> None:
    row = row_of("zero-shot", 4.0)
    assert scoring_goals(row, ScoringSettings().model_copy(update=change)) == ()
    sizes = ScoringSettings.model_validate({"training": {"tokens": 32}})
    assert scoring_goals(row, sizes) == scoring_goals(row, SMALL) == ()
    assert scoring_goals(row, ScoringSettings.model_validate({"training": {"candidates": (2,)}, "threads": 9})) != ()


def test_table_and_file_say_the_same(shell: Shell, tmp_path: Path) -> None:
    out, _ = shell(*SCORING, "--out", "bench.json")
    found = ScoringReport.model_validate_json((tmp_path / "bench.json").read_text())
    names = ["zero-shot", "common demonstrations", "own demonstrations", *["training batch, forward"] * 2]
    lines = [line for line in out.splitlines() if "(" in line]
    for name, row in zip(names, found.rows, strict=False):
        figures = f"{row.ours.median * 1e3:,.1f} ({row.ours.iqr * 1e3:,.1f})"
        assert any(line.startswith(name) and figures in line and f"{row.speedup:.2f}" in line for line in lines)
    assert found.environment["device"] in out
    assert f"torch {found.environment['packages']['torch']}" in out
    assert found.command in out
    assert command_of(found.settings) == found.command


def test_the_command_in_the_report_measures_the_same_again(shell: Shell, tmp_path: Path) -> None:
    shell(*SCORING, "--out", "one.json")
    first = json.loads((tmp_path / "one.json").read_text())
    program, *arguments = first["command"].split()
    assert program == "shoestring"
    out, _ = shell(*arguments, "--out", "two.json", "-f", "markdown")
    assert json.loads((tmp_path / "two.json").read_text())["settings"] == first["settings"]
    assert "| case " in out


USAGE = {
    "dtype": (["--dtype", "float3"], "there is no 'float3'; did you mean 'float32'?"),
    "numbers": (["--train-candidates", "2,x"], "--train-candidates: '2,x' is not of the form 2,3, of numbers from 2"),
    "one": (["--train-candidates", "1"], "--train-candidates: '1' is not of the form 2,3, of numbers from 2 on"),
    "place": (["--out", "nowhere/b.json"], "--out nowhere/b.json: there is no folder nowhere"),
    "threads": (["--threads", "100000"], "--threads 100000: this process may use"),
    "shots": (["--shots", "0"], "Invalid value for '--shots'"),
}


@pytest.mark.parametrize("case", USAGE)
def test_a_command_used_wrongly_exits_with_2_and_says_what_is_right(shell: Shell, case: str) -> None:
    arguments, message = USAGE[case]
    assert message in shell.usage_error(*SCORING, *arguments)


def test_an_unknown_model_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="unknown shape of a model 'opt-126m'; did you mean 'opt-125m'"):
        bench_scoring(SMALL.model_copy(update={"model": "opt-126m"}))


def test_a_masked_model_is_refused() -> None:
    with pytest.raises(ModelError, match="model=tiny-masked: candidates follow the prompt of a causal model"):
        bench_scoring(SMALL.model_copy(update={"model": "tiny-masked"}))


def test_prompts_that_are_too_long_are_refused() -> None:
    long = ScoringSettings.model_validate({"model": "tiny", "prompting": {"shots": 60}})
    with pytest.raises(ModelError, match="up to 2806 tokens and tiny reads 2048: lower shots, shot_tokens or tokens"):
        bench_scoring(long)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(ModelError, match="device='cuda': this machine has no CUDA device; use cpu"):
        bench_scoring(SMALL.model_copy(update={"device": "cuda"}))


@pytest.mark.gpu
def test_on_a_gpu_both_ways_give_equal_scores_too() -> None:
    found = bench_scoring(SMALL.model_copy(update={"device": "cuda"}))
    assert all(row.difference < 1e-4 for row in found.rows)
