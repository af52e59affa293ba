"""Limits on dev: a run that stays below them ends early, says so, and never counts as finished."""

from __future__ import annotations

from pathlib import Path

import pytest

import tiny
from shoestring.errors import PrunedError, RunFolderError
from shoestring.runs.config import RunConfig
from shoestring.runs.limits import Limits, dev_values, limits_of
from shoestring.runs.record import read_record
from shoestring.runs.run import run
from shoestring.studies.plan import Tally, look, planned
from shoestring.studies.trials import Trial
from shoestring.tables.table import tabulate


def test_limits_are_medians_of_three_runs_at_least() -> None:
    earlier = [{1: 0.5, 2: 0.6}, {1: 0.7, 2: 0.8}, {1: 0.1, 3: 0.9}]
    assert limits_of("accuracy", higher=True, earlier=earlier) == Limits("accuracy", True, {1: 0.5}, 3)
    assert limits_of("accuracy", higher=True, earlier=earlier[:2]) is None


@pytest.mark.parametrize(("higher", "values"), [(True, (0.6, 0.4, 0.3)), (False, (0.4, 0.6, 0.7))])
def test_the_best_so_far_is_what_counts(higher: bool, values: tuple[float, float, float]) -> None:
    best, *_ = values
    kept = Limits("loss", higher, {2: best, 3: best}, 5).watch()
    for step, value in enumerate(values, start=1):
        kept({"step": step, "eval_loss": value})
    kept({"step": 2, "loss": 0.0})  # Not a line of an evaluation.
    ended = Limits("loss", higher, {3: best + (0.01 if higher else -0.01)}, 5).watch()
    ended({"step": 2, "eval_loss": best})
    with pytest.raises(
        PrunedError, match=r"pruned at step 3: the best loss on dev so far is 0\.\d, worse than .* of 5"
    ):
        ended({"step": 3, "eval_loss": values[2]})


def test_what_was_reached_before_a_run_was_killed_counts() -> None:
    limits = Limits("accuracy", True, {4: 0.5}, 3)
    limits.watch({2: 0.6, 6: 0.1})({"step": 4, "eval_accuracy": 0.4})
    with pytest.raises(PrunedError, match="pruned at step 4"):  # What stands behind the step is made again.
        limits.watch({2: 0.3, 6: 0.9})({"step": 4, "eval_accuracy": 0.4})


def test_values_on_dev_are_read_from_a_log_that_a_kill_tore(tmp_path: Path) -> None:
    assert dev_values(tmp_path, "accuracy") == {}
    text = '{"step": 2, "eval_accuracy": 0.5}\n{"step": 3, "loss": 1.0}\n{"step": 4, "eval_acc'
    (tmp_path / "metrics.jsonl").write_text(text)
    assert dev_values(tmp_path, "accuracy") == {2: 0.5}


@pytest.mark.usefixtures("frozen_imports")
def test_a_pruned_run_says_so_counts_nowhere_and_can_be_made_to_its_end(
    tiny_masked_folder: Path, tiny_original: Path, tmp_path: Path
) -> None:
    def config(out: str) -> RunConfig:
        method = {"kind": "mezo", "steps": 6, "batch_size": 4, "lr": 1e-3, "eval_every": 2}
        return tiny.config(tiny_masked_folder, tiny_original, tmp_path / out, method=method)

    mine = config("runs")
    with pytest.raises(PrunedError, match="pruned at step 4"):
        run(mine, limits=Limits("accuracy", True, {2: 0.0, 4: 1.1}, 3))
    record = read_record(mine.folder)
    assert record is not None
    assert (record.status, record.metrics) == ("pruned", {})
    assert dev_values(mine.folder, "accuracy").keys() == {2, 4}
    with pytest.raises(RunFolderError, match="there is no finished run"):
        tabulate([record])
    trial = planned(Trial(mine, "", {}, 13))
    assert look(trial).state == "pruned"
    assert Tally([trial], [look(trial)]).count("pruned") == 1
    whole, alone = run(mine), run(config("alone"))
    assert whole.metrics == alone.metrics
    assert whole.facts["resumed_from"] == 2
    assert (mine.folder / "predictions.jsonl").read_bytes() == (
        config("alone").folder / "predictions.jsonl"
    ).read_bytes()
