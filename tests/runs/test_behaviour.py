"""Kernel behaviour: what is measured of a run, against loops, and the table of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from reference import kernel_twin
from runs.records import record as made_up
from shoestring.data.splits import draw
from shoestring.errors import RunFolderError
from shoestring.kernels import outputs_of, scores_of
from shoestring.models.evaluation import evaluate
from shoestring.models.sharing import Sharing
from shoestring.runs.behaviour import FILE, Behaviour, Looking, evenly, measure
from shoestring.runs.record import Record
from shoestring.runs.run import prepare, run
from shoestring.tables.behaviour_table import behaviour_table, kernel_behaviour, pairs
from shoestring.tuning.load import load_tuned

KEPT: dict[str, Any] = {"keep_model": True}
SGD = {"kind": "sgd", "steps": 4, "batch_size": 4, "lr": 0.05, "eval_every": 4}


def tuned(model: Path, data: Path, out: Path, /, **sections: Any) -> Record:
    output = {"folder": str(out), "keep_model": True}
    return run(tiny.config(model, data, out, **({"method": SGD, "output": output} | sections)))


@pytest.mark.parametrize("tuning", ["full", "lora", "bitfit", "prefix", "adapter", "apet"])
def test_what_is_measured_is_what_loops_find(
    tuning: str, tiny_masked_folder: Path, tiny_original: Path, tmp_path: Path
) -> None:
    model = {"kind": "masked", "name": str(tiny_masked_folder), "dtype": "float64"}
    found = tuned(tiny_masked_folder, tiny_original, tmp_path, tuning={"kind": tuning}, model=model)
    folder = tmp_path / found.run_id
    seen = measure(folder, Looking(examples=3, batch_size=2))
    config = tiny.config(tiny_masked_folder, tiny_original, tmp_path, method=SGD, tuning={"kind": tuning}, model=model)
    splits = draw(config.task, config.data, config.seed)
    one = prepare(config, splits)
    bare = prepare(config.model_copy(update={"tuning": tiny.config(Path(), Path(), Path()).tuning}), splits).subject
    names = [name for name, param in one.subject.model.named_parameters() if param.requires_grad]
    end = load_tuned(bare.model, folder / "model")
    there = dict(end.named_parameters())
    steps = {n: (there[n] - p).detach().reshape(-1) for n, p in one.subject.model.named_parameters() if n in names}
    assert any(step.abs().max() > 0 for step in steps.values())

    outputs = outputs_of(one.subject)
    tests = one.prompts["test"][:4]
    start, rows = kernel_twin.jacobian(outputs, tests, names)
    slopes = torch.stack([sum((row[0][n] @ steps[n] for n in names), torch.tensor(0.0)) for row in rows])
    expected = (start[:, 0] + slopes).double()
    from shoestring.kernels import displacement, linearised

    found_values = linearised(outputs, tests, displacement(outputs.model, end, names)).values
    torch.testing.assert_close(found_values[:, 0], expected, rtol=1e-8, atol=1e-10)
    whole, _ = kernel_twin.jacobian(outputs, one.prompts["test"], names)
    assert seen.start["test"] == pytest.approx(
        evaluate(one.subject.task, one.prompts["test"], scores_of(whole)), rel=1e-8
    )
    linear = linearised(outputs, one.prompts["test"], displacement(outputs.model, end, names)).values
    assert seen.linearised["test"] == pytest.approx(
        evaluate(one.subject.task, one.prompts["test"], scores_of(linear)), rel=1e-8
    )

    from dataclasses import replace

    after = outputs_of(replace(one.subject, model=end, sharing=Sharing()))
    looked = evenly(one.prompts["train"], 3)
    (_, before), (_, later) = (kernel_twin.jacobian(part, looked, names) for part in (outputs, after))
    for number in range(3):
        a, b = (torch.cat(list(part[number][0].values())) for part in (before, later))
        assert seen.change[number] == pytest.approx(float((b - a).norm() / a.norm()), rel=1e-7)
        assert seen.cosine[number] == pytest.approx(float(a @ b / (a.norm() * b.norm())), rel=1e-7)


def test_what_was_measured_is_kept_until_the_run_is_made_again(
    tiny_masked_folder: Path, tiny_original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = tuned(tiny_masked_folder, tiny_original, tmp_path)
    folder = tmp_path / found.run_id
    seen = measure(folder, Looking(examples=2))
    assert Behaviour.model_validate_json((folder / FILE).read_text()) == seen
    with monkeypatch.context() as patch:
        patch.setattr("shoestring.runs.behaviour.prepare", None)
        assert measure(folder, Looking(examples=2)) == seen
    assert len(measure(folder, Looking(examples=3)).change) == 3
    (folder / FILE).write_text("{")
    assert measure(folder, Looking(examples=2)) == seen
    stale = json.loads((folder / FILE).read_text()) | {"finished": "long ago", "cosine": [0.5, 0.5]}
    (folder / FILE).write_text(json.dumps(stale))
    assert measure(folder, Looking(examples=2)) == seen


def test_a_run_that_begins_at_a_probe_is_measured_from_there(tiny_original: Path, tmp_path: Path) -> None:
    model = tiny.save(tiny.build_model("roberta", "head"), tiny.bpe_tokenizer(), tmp_path / "head")
    settings = {"kind": "head", "name": str(model)}
    still = SGD | {"lr": 0.0, "begin": "linear-probe"}
    found = tuned(model, tiny_original, tmp_path / "runs", model=settings, method=still)
    seen = measure(tmp_path / "runs" / found.run_id, Looking(examples=2))
    assert max(seen.change) < 1e-5
    assert seen.start["test"] == pytest.approx(found.metrics["test"], rel=1e-4)
    assert seen.linearised["test"] == pytest.approx(found.metrics["test"], rel=1e-4)


def test_runs_that_cannot_be_looked_at_are_named(tiny_masked_folder: Path, tiny_original: Path, tmp_path: Path) -> None:
    config = tiny.config(tiny_masked_folder, tiny_original, tmp_path, method={"kind": "zero-shot"})
    run(config)
    with pytest.raises(RunFolderError, match=r"method\.kind='zero-shot' trains nothing, so that no weights moved"):
        measure(config.folder)
    with pytest.raises(
        RunFolderError, match=r"none of these runs fine-tuned to its end by method.kind='sgd' or 'adam' or 'signgd'"
    ):
        kernel_behaviour([tmp_path])
    plain = run(tiny.config(tiny_masked_folder, tiny_original, tmp_path, method=SGD))
    with pytest.raises(RunFolderError, match=r"did not keep its model: run it again with output.keep_model=true"):
        measure(tmp_path / plain.run_id)
    table = kernel_behaviour([tmp_path])
    assert any("1 fine-tuned run kept no model to look at" in note for note in table.notes)


def test_a_run_whose_data_changed_is_refused(tiny_masked_folder: Path, tmp_path: Path) -> None:
    data = tiny.write_original(tmp_path / "data")
    found = tuned(tiny_masked_folder, data, tmp_path / "runs")
    for name in ("train", "dev"):
        path = data / "SST-2" / f"{name}.tsv"
        path.write_text(path.read_text().replace(" film", " movie"))
    with pytest.raises(RunFolderError, match="the data changed since this run was made"):
        measure(tmp_path / "runs" / found.run_id)


def test_runs_end_in_one_table(tiny_masked_folder: Path, tiny_original: Path, tmp_path: Path) -> None:
    found = tuned(tiny_masked_folder, tiny_original, tmp_path)
    others: tuple[dict[str, Any], ...] = ({"solver": "ridge"}, {"solver": {"kind": "descent", "steps": 5}})
    kernel, descent = (
        run(tiny.config(tiny_masked_folder, tiny_original, tmp_path, method={"kind": "kernel"} | one)) for one in others
    )
    table = kernel_behaviour([tmp_path], Looking(examples=2))
    seen = measure(tmp_path / found.run_id, Looking(examples=2))
    (row,) = table.rows
    by_head = {column.head: cell for column, cell in zip(table.columns, row, strict=True)}
    assert [by_head[head].text for head in ("task", "tuned by", "kernel of")] == ["SST-2", "sgd", "sgd"]
    for head, record in (("tuned", found), ("kernel", kernel), ("descent", descent)):
        assert by_head[head].values == (record.metrics["test"]["accuracy"], None, 1)
    assert by_head["zero-shot"].values[0] == seen.start["test"]["accuracy"]
    assert by_head["linearised"].values[0] == seen.linearised["test"]["accuracy"]
    assert by_head["change"].values == (pytest.approx(sum(seen.change) / 2), "yes")


def kernel(test: float, formula: str = "sgd", solver: str = "ridge", **settings: Any) -> Record:
    method = {"kind": "kernel", "formula": formula, "solver": {"kind": solver}, "objective": None}
    made = made_up(test, method="zero-shot", **settings)
    config = {**made.config, "method": method}
    return made.model_copy(update={"config": config, "run_id": f"{formula}{solver}{test}{settings}"})


def behaviour(start: float, linear: float, change: float, cosine: float = 0.9) -> Behaviour:
    both: Mapping[str, Any] = {"start": start, "linearised": linear}
    metrics = {key: {"test": {"accuracy": value}} for key, value in both.items()}
    return Behaviour(run_id="x", finished="now", change=(change,), cosine=(cosine,), **metrics)


def row_of(found: Any, measured: dict[str, Behaviour], number: int = 0) -> dict[str, str]:
    table = behaviour_table(found, measured)
    return {column.head: cell.text for column, cell in zip(table.columns, table.rows[number], strict=True)}


def test_a_row_has_means_over_seeds_and_what_the_paper_asks() -> None:
    runs = [made_up(0.8, method="sgd", seed=13), made_up(0.6, method="sgd", seed=21)]
    kernels = [kernel(0.7, seed=13), kernel(0.58, seed=21), kernel(0.9, seed=42)]
    trained = [kernel(0.5, solver="descent", seed=13), kernel(0.6, solver="descent", seed=21)]
    measured = {runs[0].run_id: behaviour(0.5, 0.7, 1.5, 0.2), runs[1].run_id: behaviour(0.5, 0.5, 3.5, 0.4)}
    row = row_of(pairs([*runs, *kernels, *trained]), measured)
    assert row["tuned"] == "70.0 (10.0, 2)"
    assert row["kernel"] == "64.0 (6.0, 2)"
    assert row["kernel / tuned"] == "91% yes"
    assert row["zero-shot"] == "50.0 (0.0, 2)"
    assert row["of gain"] == "50% yes"
    assert row["change"] == "2.50 no"
    assert row["cosine"] == "0.30"
    assert row["descent"] == "55.0 (5.0, 2)"


def test_what_misses_the_mark_is_said() -> None:
    one = made_up(0.8, method="adam")
    row = row_of(pairs([one, kernel(0.71, "signgd")]), {one.run_id: behaviour(0.5, 0.6, 1.0)})
    assert (row["kernel / tuned"], row["of gain"], row["change"]) == ("89% no", "33% no", "1.00 yes")


def test_what_cannot_be_divided_or_was_not_measured_is_left_open() -> None:
    one, other = made_up(0.5, method="sgd"), made_up(0.6, method="sgd", seed=21)
    row = row_of(pairs([one]), {one.run_id: behaviour(0.5, 0.6, 1.0)})
    assert (row["kernel of"], row["kernel"], row["of gain"]) == ("–", "–", "–")  # noqa: RUF001
    row = row_of(pairs([one, other]), {other.run_id: behaviour(0.5, 0.6, 1.0)})
    assert row["of gain"] == "–"  # noqa: RUF001
    assert row["zero-shot"] == "50.0 (–, 1)"  # noqa: RUF001


def test_kernels_stand_beside_the_optimizer_that_they_describe() -> None:
    runs = [made_up(0.8, method="sgd"), made_up(0.7, method="adam")]
    kernels = [kernel(0.5, name) for name in ("sgd", "signgd", "asymmetric-signgd")]
    found = pairs([*runs, *kernels])
    assert [(pair.method, pair.formula) for pair in found] == [
        ("sgd", "sgd"), ("adam", "signgd"), ("adam", "asymmetric-signgd")
    ]  # fmt: skip
    assert [pair.kernel[13].metrics["test"]["accuracy"] for pair in found] == [0.5] * 3


def test_a_key_that_older_records_lack_is_one_that_is_unset() -> None:
    (pair,) = pairs([made_up(0.8, method="sgd", model__quantization=None), kernel(0.5)])
    assert pair.kernel[13].metrics["test"]["accuracy"] == 0.5


def test_only_runs_of_one_setting_are_compared_and_dev_chooses() -> None:
    runs = [made_up(0.8, method="sgd", method__lr=rate, dev=dev) for rate, dev in ((0.1, 0.6), (0.2, 0.7), (0.3, 0.5))]
    far = [made_up(0.9, method="sgd", data__k=64), made_up(0.1, method="sgd", tuning__kind="lora")]
    found = pairs([*runs, *far, kernel(0.5), kernel(0.6, data__k=64), kernel(0.4, tuning__kind="lora")])
    assert len(found) == 3
    rows = {cells[1].text: (cells[5].text, cells[6].text) for cells in behaviour_table(found, {}).rows}
    assert rows == {
        "k=16, tuning=full": ("80.0 (–, 1)", "50.0 (–, 1)"),  # noqa: RUF001
        "k=64, tuning=full": ("90.0 (–, 1)", "60.0 (–, 1)"),  # noqa: RUF001
        "k=16, tuning=lora": ("10.0 (–, 1)", "40.0 (–, 1)"),  # noqa: RUF001
    }
    chosen = next(pair for pair in found if pair.identity["data.k"] == 16 and pair.identity["tuning.kind"] == "full")
    assert chosen.tuned[13].config["method"]["lr"] == 0.2
    assert evenly([1, 2, 3, 4, 5, 6], 3) == [1, 3, 5]  # type: ignore[list-item]


def test_a_model_named_by_another_path_is_the_same_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "base").mkdir()
    monkeypatch.chdir(tmp_path)
    one = made_up(0.8, method="sgd", model__name="base").model_copy(update={"model_fingerprint": "x"})
    other = kernel(0.5, model__name=str(tmp_path / "base")).model_copy(update={"model_fingerprint": "x"})
    (pair,) = pairs([one, other])
    assert pair.kernel[13].metrics["test"]["accuracy"] == 0.5
