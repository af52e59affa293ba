"""The benchmark of kernels: that the reference is one, and what is reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from cli.conftest import Shell
from reference import kernel_twin
from shoestring.bench.gram import bench_kernels, check_gram_settings
from shoestring.bench.gram_reference import FORMULAS, ReferenceKernel, blocks
from shoestring.bench.gram_settings import GramReport, GramRow, GramSettings
from shoestring.bench.settings import Timed, Workload
from shoestring.bench.shapes import shape_named
from shoestring.bench.work import prepare
from shoestring.cli.bench import kernels_command_of
from shoestring.cli.gram_tables import gram_table
from shoestring.errors import ModelError, UnknownNameError
from shoestring.kernels import Outputs
from shoestring.models.scoring import SCORERS, model_inputs

SMALL = {"models": ("tiny-masked",), "examples": (2, 3), "tokens": 8, "reference_blocks": 0}
FEW = ["bench", "kernels", "--model", "tiny-masked", "--examples", "2,3", "--tokens", "8", "--threads", "1"]
FEW += ["--formula", "sgd", "--reference-blocks", "1"]


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, frozen_imports: None) -> Shell:
    """Commands in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return Shell()


@pytest.mark.parametrize("name", ["tiny-masked", "tiny"])
@pytest.mark.parametrize("formula", FORMULAS)
def test_the_reference_computes_the_kernel(formula: str, name: str) -> None:
    work = prepare(shape_named(name), "float64", Workload(batch_size=5, tokens=8), torch.device("cpu"))
    scorer = SCORERS.get(work.shape.kind)

    def collate(items: Any) -> dict[str, torch.Tensor]:
        return {name: value[list(items)] for name, value in work.batch.items()}

    outputs = Outputs(work.model, lambda batch: scorer.scores(work.model, batch), collate, difference=True)
    # Not the keys' biases: the signs of their gradients are those of rounding errors.
    names = [name for name, _ in work.model.named_parameters() if not name.endswith(("key.bias", "k_proj.bias"))]
    _, rows = kernel_twin.jacobian(outputs, range(2), names)
    _, columns = kernel_twin.jacobian(outputs, range(2, 5), names)

    def read(run: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        logits = run(model_inputs(work.model, batch)).logits[torch.arange(len(batch["labels"])), batch["position"]]
        scores = (logits.log_softmax(-1) if name == "tiny" else logits).gather(1, batch["option_ids"][:, :, 0])
        return scores[:, 1:] - scores[:, :1]

    kernel = ReferenceKernel(work.model, read)
    made = kernel.rows(formula, collate(range(2)))
    if formula != "sgd":
        for key in made:
            if key not in names:
                made[key].zero_()
    found = kernel.block(formula, made, collate(range(2, 5)))
    torch.testing.assert_close(found, kernel_twin.kernel(formula, rows, columns), rtol=1e-7, atol=1e-9)


def test_blocks_are_all_examples_in_order() -> None:
    assert [list(block) for block in blocks(5, 2)] == [[0, 1], [2, 3], [4]]


def test_both_ways_are_measured_and_agree(global_random_states: None) -> None:
    report = bench_kernels(GramSettings.model_validate({**SMALL, "rounds": 2}))
    assert [(row.formula, row.examples) for row in report.rows] == [(name, n) for name in FORMULAS for n in (2, 3)]
    for row in report.rows:
        assert row.measured == 1.0
        assert len(row.time.seconds) == len(row.reference.seconds) == 2
        assert row.speedup == pytest.approx(row.reference.median / row.time.median)
        assert 0 < row.processor < 100
        # Of signs, those of the keys' biases may differ: 256 of 110,000 weights.
        assert row.difference < (1e-2 if row.formula == "signgd" else 1e-5)
        # The two examples of the check, and all others once each way; the check goes backwards twice.
        assert row.passes == 2 + 2 + 2 + 2 * 2 * row.examples
        assert row.goals == ()
    assert [(one.formula, one.examples) for one in report.growth] == [(name, (2, 3)) for name in FORMULAS]


def test_the_reference_s_time_follows_from_the_blocks_that_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    from shoestring.bench import gram

    real = gram.lap

    def steady(work: Any, device: torch.device) -> float:
        real(work, device)
        return 1.0

    monkeypatch.setattr(gram, "lap", steady)
    settings = {**SMALL, "examples": (3,), "formulas": ("sgd",), "reference_rows": 2, "reference_columns": 2}
    for measured in (0, 1, 3, 100):
        (row,) = bench_kernels(GramSettings.model_validate({**settings, "reference_blocks": measured})).rows
        assert row.reference.median == pytest.approx(2 + 4)  # two blocks of rows, four of both
        assert row.measured == pytest.approx(min(measured or 4, 4) / 4)


def row(**changes: Any) -> GramRow:
    time = Timed(seconds=(1.0,), median=1.0, iqr=0.0)
    given = {"model": "roberta-base", "formula": "sgd", "examples": 32, "time": time, "reference": time, "peak": 10}
    given |= {"reference_peak": 9, "measured": 1.0, "speedup": 15.0, "processor": 1.0, "passes": 1, "difference": 0.0}
    return GramRow.model_validate({**given, **changes})


def test_goals_are_those_of_their_formula_and_stand_in_the_table() -> None:
    from shoestring.bench.gram import _goals

    settings = GramSettings()
    texts = [[goal.text for goal in _goals(row(**changes), settings)] for changes in (
        {}, {"speedup": 14.9, "peak": 9}, {"formula": "signgd"}, {"formula": "asymmetric-signgd"},
        {"examples": 16}, {"model": "tiny-masked"},
    )]  # fmt: skip
    assert texts == [
        [">= 15: yes", "<= 1: NO"], [">= 15: NO", "<= 1: yes"], [">= 5: yes", "<= 1: NO"], [">= 10: yes", "<= 1: NO"],
        [], [],
    ]  # fmt: skip
    assert not list(_goals(row(), settings.model_copy(update={"tokens": 64})))
    report = bench_kernels(GramSettings.model_validate({**SMALL, "formulas": ("sgd",), "examples": (2,)}))
    (only,) = report.rows
    shown = gram_table(
        report.model_copy(update={"rows": (only.model_copy(update={"goals": tuple(_goals(row(), settings))}),)})
    )
    assert shown.rows[0][6].text.endswith(" (>= 15: yes)")
    assert shown.rows[0][8].text.endswith(" (<= 1: NO)")
    assert report.growth == ()


def test_what_cannot_be_measured_is_named() -> None:
    with pytest.raises(UnknownNameError, match="unknown formula of the reference 'sgdd'; did you mean 'sgd'"):
        check_gram_settings(GramSettings(formulas=("sgdd",)))
    with pytest.raises(UnknownNameError, match="unknown shape of a model 'roberta-bas'"):
        check_gram_settings(GramSettings(models=("roberta-bas",)))
    with pytest.raises(ModelError, match="tokens=600: roberta-base reads prompts of at most"):
        check_gram_settings(GramSettings(tokens=600))
    if not torch.cuda.is_available():
        with pytest.raises(ModelError, match="this machine has no CUDA device"):
            check_gram_settings(GramSettings(device="cuda"))


def test_the_command_prints_a_table_writes_a_file_and_says_how_to_repeat_it(shell: Shell, tmp_path: Path) -> None:
    out, _ = shell(*FEW, "--out", "bench.json")
    report = GramReport.model_validate_json((tmp_path / "bench.json").read_text())
    assert [one.examples for one in report.rows] == [2, 3]
    for one in report.rows:
        assert f"{one.time.median:,.2f} ({one.time.iqr:,.2f})" in out
        assert f" {one.speedup:.1f} " in out
    assert "2 -> 3" in out
    assert report.command in out
    assert kernels_command_of(report.settings) == report.command
    program, *arguments = report.command.split()
    assert program == "shoestring"
    shell(*arguments, "--out", "again.json")
    assert GramReport.model_validate_json((tmp_path / "again.json").read_text()).settings == report.settings
    markdown, _ = shell(*FEW, "-f", "markdown", "--no-scratch")
    assert "--no-scratch" in markdown
    assert "| model       | formula " in markdown


USAGE = {
    "examples": (["--examples", "4,x"], "--examples: '4,x' is not of the form 16,32, of numbers from 1 on"),
    "no example": (["--examples", "0"], "--examples: '0' is not of the form"),
    "twice": (["--examples", "4,4"], "--examples: '4' stands twice in '4,4'"),
    "threads": (["--threads", "100000"], "--threads 100000: this process may use"),
    "device": (["--device", "gpu"], "there is no 'gpu'; did you mean 'cpu'?"),
    "place": (["--out", "nowhere/b.json"], "--out nowhere/b.json: there is no folder nowhere"),
}


@pytest.mark.parametrize("case", USAGE)
def test_a_command_used_wrongly_exits_with_2_and_says_what_is_right(shell: Shell, case: str) -> None:
    arguments, message = USAGE[case]
    assert message in shell.usage_error(*FEW, *arguments)


def test_a_formula_the_reference_does_not_have_exits_with_1(shell: Shell) -> None:
    message = "unknown formula of the reference 'sgdd'; did you mean 'sgd'?"
    assert message in shell.error(*FEW, "--formula", "sgdd")
