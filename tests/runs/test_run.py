from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

import tiny
from shoestring.data.splits import draw
from shoestring.errors import DataError, LabelWordError, OutputError, RunFolderError, ShoestringError
from shoestring.methods.catalog.mezo import MeZO
from shoestring.methods.catalog.zero_shot import ZeroShot
from shoestring.models.prompted import PromptedModel
from shoestring.runs.config import RunConfig
from shoestring.runs.record import Record, read_record, write_record
from shoestring.runs.run import finished, prepare, run
from shoestring.tuning.catalog.full import Full

pytestmark = pytest.mark.usefixtures("frozen_imports")
SHORT = {"kind": "mezo", "steps": 4, "batch_size": 4, "eval_every": 2, "lr": 1e-3, "log_every": 1}


@pytest.fixture(scope="module")
def config(tiny_masked_folder: Path, tiny_original: Path, tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """A config that was run."""
    found = tiny.config(tiny_masked_folder, tiny_original, tmp_path_factory.mktemp("runs"), method=SHORT)
    run(found)
    return found


@pytest.fixture
def record(config: RunConfig) -> Record:
    found = read_record(config.folder)
    assert found is not None
    return found


def jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_run_folder_holds_these_files_and_no_others(config: RunConfig) -> None:
    assert config.folder.name == config.run_id
    names = {entry.name for entry in config.folder.iterdir()}
    assert names == {
        ".lock", "config.json", "metrics.jsonl", "predictions.jsonl", "result.json", "split.json", "trajectory.bin",
    }  # fmt: skip


def test_a_test_set_alone_is_enough_where_nothing_is_trained(
    tiny_masked_folder: Path, tiny_original: Path, tmp_path: Path
) -> None:
    (tmp_path / "SST-2").mkdir()
    shutil.copy(tiny_original / "SST-2" / "dev.tsv", tmp_path / "SST-2")
    alone = {"k": 16, "mode": "subset", "num_train": 0, "num_eval": 9}
    done = run(tiny.config(tiny_masked_folder, tmp_path, tmp_path / "runs", data=alone, method={"kind": "zero-shot"}))
    assert set(done.metrics) == {"test"}
    assert done.split is not None
    assert (done.split.train, done.split.dev, done.split.tests) == (0, 0, {"test": 9})
    assert len(jsonl(tmp_path / "runs" / done.run_id / "predictions.jsonl")) == 9


def test_a_train_set_that_leaves_nothing_for_dev_is_refused_where_dev_is_needed(
    tiny_masked_folder: Path, tiny_original: Path, tmp_path: Path
) -> None:
    everything = {"k": 10_000, "allow_fewer": True}
    config = tiny.config(tiny_masked_folder, tiny_original, tmp_path, data=everything, method=SHORT)
    with pytest.raises(
        DataError, match=r"task SST-2: .*leaves none for dev, which method.kind='mezo' needs; a smaller"
    ):
        run(config)
    assert not any(tmp_path.iterdir())
    done = run(tiny.config(tiny_masked_folder, tiny_original, tmp_path, data=everything, method={"kind": "zero-shot"}))
    assert set(done.metrics) == {"test"}


def test_the_record_says_what_was_run_and_what_it_cost(config: RunConfig, record: Record) -> None:
    assert (record.run_id, record.status, record.error) == (config.run_id, "ok", None)
    assert record.config == config.model_dump(mode="json")
    assert (record.task, record.main_metric) == ("SST-2", "accuracy")
    assert {split: set(values) for split, values in record.metrics.items()} == {
        "dev": {"accuracy", "loss"},
        "test": {"accuracy", "loss"},
    }
    assert record.facts["steps"] == 4
    assert record.facts["selected_step"] in (2, 4)
    assert record.passes is not None
    assert record.passes.model_dump() == {
        "forward": 8, "backward": 0, "forward_examples": 32, "backward_examples": 0,
    }  # fmt: skip
    assert record.seconds["fit"] > 0
    assert record.seconds["predict"] > 0
    assert record.memory is not None
    assert record.weights is not None
    assert record.weights.total == record.weights.trained == record.memory.weights // 4
    assert record.split is not None
    assert (record.split.train, record.split.dev, record.split.tests) == (8, 8, {"test": 24})
    assert record.split.truncated == 0
    assert record.environment["packages"]["torch"]
    assert {"shoestring", "commit", "dirty", "python", "platform", "device", "threads", "products"} <= set(
        record.environment
    )
    assert record.started <= record.finished


def test_predictions_are_those_the_metrics_were_computed_from(config: RunConfig, record: Record) -> None:
    rows = jsonl(config.folder / "predictions.jsonl")
    for split, count in (("dev", 8), ("test", 24)):
        mine = [row for row in rows if row["split"] == split]
        assert len(mine) == len({row["uid"] for row in mine}) == count
        right = sum(row["label"] == row["prediction"] for row in mine) / count
        assert right == pytest.approx(record.metrics[split]["accuracy"])
        for row in mine:
            assert row["prediction"] == str(int(row["scores"][1] > row["scores"][0]))


def test_the_log_holds_every_step_and_evaluation(config: RunConfig) -> None:
    lines = jsonl(config.folder / "metrics.jsonl")
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4]
    assert [line["step"] for line in lines if "eval_accuracy" in line] == [2, 4]


def test_the_split_is_written_by_uid(config: RunConfig, record: Record) -> None:
    split = json.loads((config.folder / "split.json").read_text())
    assert record.split is not None
    assert split["digest"] == record.split.digest
    assert [len(split[name]) for name in ("train", "dev", "test")] == [8, 8, 24]
    assert not set(split["train"]) & set(split["dev"])


def never(*_: Any, **__: Any) -> Any:
    raise AssertionError("a finished run loads no model")


def test_the_same_config_again_reuses_the_result_without_loading_a_model(
    config: RunConfig, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shoestring.runs.run.load_model", never)
    assert run(config) == record


def test_force_makes_the_run_again_with_the_same_numbers(config: RunConfig, record: Record) -> None:
    before = jsonl(config.folder / "metrics.jsonl")
    again = run(config, force=True)
    assert (again.metrics, again.facts, again.passes) == (record.metrics, record.facts, record.passes)
    assert jsonl(config.folder / "metrics.jsonl") == before


def test_the_output_settings_change_no_number(config: RunConfig, record: Record, tmp_path: Path) -> None:
    output = {"folder": str(tmp_path), "eval_batch_size": 3, "eval_tokens": 50, "keep_model": True}
    found = run(RunConfig.model_validate(config.model_dump() | {"output": output}))
    assert found.run_id == record.run_id
    for split, metrics in found.metrics.items():
        assert metrics == pytest.approx(record.metrics[split], rel=1e-5)


def test_a_kept_model_gives_the_same_scores_zero_shot(
    tiny_masked_folder: Path, tiny_original: Path, tmp_path: Path
) -> None:
    made = tiny.config(tiny_masked_folder, tiny_original, tmp_path, method=SHORT, output={"keep_model": True})
    trained = run(made)
    again = tiny.config(made.folder / "model", tiny_original, tmp_path, method={"kind": "zero-shot"})
    assert run(again).metrics["test"] == pytest.approx(trained.metrics["test"], rel=1e-5)
    config = json.loads((made.folder / "model" / "config.json").read_text())
    assert config.get("use_cache") == json.loads((tiny_masked_folder / "config.json").read_text()).get("use_cache")


def asking_for_the_model(config: RunConfig, folder: Path) -> tuple[RunConfig, RunConfig]:
    """Return a config and the same one with `keep_model`."""
    table = config.model_dump() | {"output": {"folder": str(folder)}}
    return RunConfig.model_validate(table), RunConfig.model_validate(
        table | {"output": {"folder": str(folder), "keep_model": True}}
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_run_is_finished_when_nothing_is_left_to_make(config: RunConfig, tmp_path: Path) -> None:
    mine, keeping = asking_for_the_model(config, tmp_path)
    assert finished(mine) is None
    made = run(mine)
    assert finished(mine) == made
    assert finished(keeping) is None
    again = run(keeping)
    assert finished(keeping) == finished(mine) == again
    assert again.metrics == made.metrics
    assert {entry.name for entry in mine.folder.iterdir()} == {
        ".lock", "config.json", "metrics.jsonl", "model", "predictions.jsonl", "result.json", "split.json",
        "trajectory.bin",
    }  # fmt: skip


def test_a_finished_run_stays_as_it_is_until_it_has_been_made_again_for_its_model(
    config: RunConfig, tmp_path: Path
) -> None:
    mine, keeping = asking_for_the_model(config, tmp_path)
    made = run(mine)
    before = contents(mine.folder)
    for error in (KeyboardInterrupt, ZeroDivisionError):
        interrupted(keeping, error)
        assert contents(mine.folder) == before
        assert run(mine) == finished(mine) == made
        assert not (mine.folder / "model").exists()
    done = run(keeping)
    assert done.facts["resumed_from"] == 2
    assert (done.metrics, done.status) == (made.metrics, "ok")
    assert read_record(mine.folder) == done
    assert (mine.folder / "model" / "tokenizer.json").is_file()
    assert not (mine.folder / "again").exists()


DISK = "Error while serializing: I/O error: No space left on device (os error 28)"


@pytest.mark.parametrize(
    ("error", "raised", "message"),
    [
        (KeyboardInterrupt(), KeyboardInterrupt, None),
        (SafetensorError(DISK), OutputError, "/model cannot be written: No space left on device"),
    ],
    ids=["ctrl-c", "full disk"],
)
def test_a_model_is_kept_whole_or_not_at_all(
    error: BaseException,
    raised: type[BaseException],
    message: str | None,
    config: RunConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mine, keeping = asking_for_the_model(config, tmp_path)
    made = run(mine)

    def save(self: Any, model: Any, folder: Path) -> None:
        folder.mkdir()
        (folder / "config.json").write_text("half")
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Full, "save", save)
        with pytest.raises(raised, match=message):
            run(keeping)
    assert not list(mine.folder.rglob("*model"))
    assert finished(mine) == made
    (mine.folder / "again" / ".model").mkdir()  # as a kill would leave it
    assert run(keeping).status == "ok"
    assert json.loads((mine.folder / "model" / "config.json").read_text())["model_type"] == "roberta"


def test_a_good_record_stays_when_ctrl_c_comes_just_behind_it(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, _ = asking_for_the_model(config, tmp_path)

    def write(folder: Path, record: Record) -> None:
        write_record(folder, record)
        raise KeyboardInterrupt

    monkeypatch.setattr("shoestring.runs.run.write_record", write)
    with pytest.raises(KeyboardInterrupt):
        run(mine)
    assert finished(mine) is not None


def test_mistakes_in_prompts_cost_no_loading_of_weights(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shoestring.runs.run.load_model", never)
    wrong = RunConfig.model_validate(config.model_dump() | {"prompt": {"label_words": {"1": "greatfilm"}}})
    with pytest.raises(LabelWordError, match="'greatfilm' is"):
        run(wrong)


def test_a_copied_folder_is_not_taken_for_the_run_of_another_config(config: RunConfig, tmp_path: Path) -> None:
    other = RunConfig.model_validate(config.model_dump() | {"seed": 14, "output": {"folder": str(tmp_path)}})
    shutil.copytree(config.folder, other.folder)
    with pytest.raises(RunFolderError, match=r"holds a run of another config.*--force"):
        run(other)


@pytest.mark.parametrize("what", ["data", "model"])
def test_data_or_model_that_changed_under_a_finished_run_is_noticed(
    what: str, tiny_original: Path, tiny_masked_folder: Path, tmp_path: Path
) -> None:
    data, model = tmp_path / "data", tmp_path / "model"
    shutil.copytree(tiny_original, data)
    shutil.copytree(tiny_masked_folder, model)
    config = tiny.config(model, data, tmp_path / "runs", method={"kind": "zero-shot"})
    first = run(config)
    if what == "data":
        path = data / "SST-2" / "dev.tsv"
        path.write_text(path.read_text().replace("film", "plot", 1))
    else:
        tiny.save(tiny.build_model("roberta", "masked", seed=1), tiny.bpe_tokenizer(), model)
    with pytest.raises(RunFolderError, match=f"the {what} changed since this run was made; --force"):
        run(config)
    assert read_record(config.folder) == first
    assert run(config, force=True).status == "ok"


def interrupted(config: RunConfig, error: type[BaseException] = KeyboardInterrupt, step: int = 3) -> list[str]:
    """Start a run, stop it at a step, and return the notes on what stopped it."""
    original = MeZO.optimizer

    def optimizer(self: Any, params: Any, seed: int) -> Any:
        made = original(self, params, seed)
        estimate = made.estimate

        def watched(closure: Any) -> Any:
            if made.param_groups[0]["steps"] == step - 1:
                raise error
            return estimate(closure)

        made.estimate = watched
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MeZO, "optimizer", optimizer)
        with pytest.raises(error) as caught:
            run(config)
    return getattr(caught.value, "__notes__", [])


def test_ctrl_c_before_the_first_checkpoint_speaks_of_none(config: RunConfig, tmp_path: Path) -> None:
    mine = RunConfig.model_validate(config.model_dump() | {"output": {"folder": str(tmp_path)}})
    told = "the same command begins this run again: there was no checkpoint yet"
    assert interrupted(mine, step=1) == [told]
    found = read_record(mine.folder)
    assert found is not None
    assert found.error == f"interrupted; {told}"
    assert interrupted(mine) == ["the same command goes on from the last checkpoint"]


def test_ctrl_c_leaves_a_cancelled_record_and_the_next_run_goes_on(
    config: RunConfig, record: Record, tmp_path: Path
) -> None:
    mine = RunConfig.model_validate(config.model_dump() | {"output": {"folder": str(tmp_path)}})
    interrupted(mine)
    found = read_record(mine.folder)
    assert found is not None
    assert (found.status, found.metrics) == ("cancelled", {})
    assert found.error == "interrupted; the same command goes on from the last checkpoint"
    assert (mine.folder / "checkpoints" / "checkpoint-2").is_dir()
    done = run(mine)
    assert done.facts == record.facts | {"resumed_from": 2}
    assert (done.metrics, done.passes, done.weights) == (record.metrics, record.passes, record.weights)
    for name in ("predictions.jsonl", "metrics.jsonl", "split.json"):
        assert jsonl_or_json(mine.folder / name) == jsonl_or_json(config.folder / name)
    assert {entry.name for entry in mine.folder.iterdir()} == {entry.name for entry in config.folder.iterdir()}


def jsonl_or_json(path: Path) -> Any:
    return jsonl(path) if path.suffix == ".jsonl" else json.loads(path.read_text())


def test_force_starts_an_interrupted_run_from_the_beginning(config: RunConfig, tmp_path: Path) -> None:
    mine = RunConfig.model_validate(config.model_dump() | {"output": {"folder": str(tmp_path)}})
    interrupted(mine)
    assert run(mine, force=True).facts["resumed_from"] == 0


def test_a_reworded_task_still_resumes_its_run(config: RunConfig, tmp_path: Path) -> None:
    mine = RunConfig.model_validate(config.model_dump() | {"output": {"folder": str(tmp_path)}})
    interrupted(mine)
    task = mine.task.model_copy(update={"title": "reworded", "golden": ()})
    reworded = RunConfig.model_validate(mine.model_dump() | {"task": task.model_dump()})
    assert reworded.run_id == mine.run_id
    assert run(reworded).facts["resumed_from"] == 2


def test_an_interrupted_run_does_not_go_on_with_other_data(
    config: RunConfig, tiny_original: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_original, tmp_path / "data")
    changed = {"output": {"folder": str(tmp_path)}, "data": {"source": str(tmp_path / "data"), "k": 4}}
    mine = RunConfig.model_validate(config.model_dump() | changed)
    interrupted(mine)
    path = tmp_path / "data" / "SST-2" / "train.tsv"
    path.write_text(path.read_text().replace(" a ", " the ").replace("film", "plot"))
    with pytest.raises(RunFolderError, match="the data changed since this run was begun; --force"):
        run(mine)
    assert run(mine, force=True).status == "ok"


def test_an_interrupted_run_does_not_go_on_with_another_model_even_if_it_left_no_record(
    tiny_masked_folder: Path, tiny_original: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_masked_folder, tmp_path / "model")
    mine = tiny.config(tmp_path / "model", tiny_original, tmp_path / "runs", method=SHORT)
    interrupted(mine)
    (mine.folder / "result.json").unlink()  # as after a power cut
    tiny.save(tiny.build_model("roberta", "masked", seed=1), tiny.bpe_tokenizer(), tmp_path / "model")
    with pytest.raises(RunFolderError, match="the model changed since this run was begun; --force"):
        run(mine)
    assert run(mine, force=True).status == "ok"


def test_the_record_names_the_model_that_was_loaded_not_what_lies_there_later(
    tiny_masked_folder: Path, tiny_original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_masked_folder, tmp_path / "model")
    (tmp_path / "model" / "README.md").write_text("a model")
    mine = tiny.config(tmp_path / "model", tiny_original, tmp_path / "runs", method={"kind": "zero-shot"})
    fit = ZeroShot.fit

    def replaced(self: Any, given: Any) -> Any:
        tiny.save(tiny.build_model("roberta", "masked", seed=1), tiny.bpe_tokenizer(), tmp_path / "model")
        return fit(self, given)

    with monkeypatch.context() as patch:
        patch.setattr(ZeroShot, "fit", replaced)
        found = run(mine)
    assert found.model_fingerprint == json.loads((mine.folder / "split.json").read_text())["model"]
    with pytest.raises(RunFolderError, match="the model changed since this run was made"):
        run(mine)
    tiny.save(tiny.build_model("roberta", "masked"), tiny.bpe_tokenizer(), tmp_path / "model")
    (tmp_path / "model" / "README.md").write_text("reworded")
    assert run(mine) == found


@pytest.mark.parametrize("when", ["fit", "warm-up"])
def test_an_error_of_the_system_is_not_taken_for_the_disks_and_leaves_a_record(
    when: str, config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, _ = asking_for_the_model(config, tmp_path)

    def no_memory(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    if when == "fit":
        monkeypatch.setattr("shoestring.training.objectives.cross_entropy.CrossEntropy.losses", no_memory)
    else:
        monkeypatch.setattr(PromptedModel, "predict", no_memory)
    with pytest.raises(OSError, match="Cannot allocate memory"):
        run(mine)
    found = read_record(mine.folder)
    assert found is not None
    where = f"; the last good weights are those of {config.model.name}"
    assert (found.status, found.error) == ("failed", f"OSError: [Errno 12] Cannot allocate memory{where}")


def test_an_unforeseen_error_leaves_a_failed_record_with_its_kind_and_the_last_weights(
    config: RunConfig, tmp_path: Path
) -> None:
    mine = RunConfig.model_validate(config.model_dump() | {"output": {"folder": str(tmp_path)}})
    interrupted(mine, ZeroDivisionError)
    found = read_record(mine.folder)
    assert found is not None
    assert found.status == "failed"
    assert found.error is not None
    assert found.error.startswith("ZeroDivisionError: ; the last good weights are in")
    assert "checkpoint-2" in found.error


def test_a_head_on_a_causal_model_is_padded_with_the_token_it_looks_for(tiny_original: Path, tmp_path: Path) -> None:
    """Such a head reads the last token that is not padding, as the model's config names it."""
    tokenizer = tiny.bpe_tokenizer()
    tokenizer.pad_token = None
    model = tiny.build_model("llama", "head", num_labels=2, pad_token_id=1)
    config = tiny.config(
        tiny.save(model, tokenizer, tmp_path / "model"),
        tiny_original,
        tmp_path / "runs",
        model={"kind": "head", "dtype": "float64"},
        method={"kind": "zero-shot"},
    )
    prepared = prepare(config, draw(config.task, config.data, config.seed))
    prompts = prepared.prompts["dev"]
    one_by_one = torch.cat([prepared.subject.predict([prompt], 1) for prompt in prompts])
    torch.testing.assert_close(prepared.subject.predict(prompts, 8), one_by_one)


def test_a_run_is_made_by_one_process(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    said = r"started by 4 processes at once; start it with one.*shoestring\.kernels\.compute_kernels"
    with pytest.raises(RunFolderError, match=said):
        run(config)


def test_a_regression_task_runs_with_prompts_and_with_a_head(tiny_masked_folder: Path, tmp_path: Path) -> None:
    lines = [f"{text}\t{number / 4}\n" for number, (text, _) in enumerate(tiny.rows(21, 1))]
    (tmp_path / "data.tsv").write_text("sentence\tlabel\n" + "".join(lines))
    task = tiny.task_of(**tiny.REGRESSION).model_dump()
    for kind in ("masked", "head"):
        config = tiny.config(
            tiny_masked_folder,
            tmp_path / "data.tsv",
            tmp_path / "runs",
            task=task,
            model={"kind": kind},
            method=SHORT | {"kind": "adam"},
        )
        found = run(config)
        assert set(found.metrics["test"]) == {"pearson", "loss"}
        row = jsonl(config.folder / "predictions.jsonl")[0]
        assert isinstance(row["label"], float)
        assert isinstance(row["prediction"], float)
        assert len(row["scores"]) == (2 if kind == "masked" else 1)


def test_errors_of_a_run_are_of_the_packages_own_kind() -> None:
    assert issubclass(RunFolderError, ShoestringError)


def test_memory_does_not_count_what_a_first_run_in_a_process_imports(
    tiny_masked_folder: Path, tiny_original: Path, tmp_path: Path
) -> None:
    """Importing the Trainer takes a hundred MiB; a step of the tiny model takes one or two."""
    config = tiny.config(tiny_masked_folder, tiny_original, tmp_path / "runs", method={**SHORT, "steps": 1})
    (tmp_path / "config.json").write_text(config.model_dump_json())
    program = (
        "import sys; from shoestring.runs.config import RunConfig; from shoestring.runs.run import run; "
        "print(run(RunConfig.model_validate_json(open(sys.argv[1]).read())).memory.fit)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "config.json")], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 40 * 2**20
