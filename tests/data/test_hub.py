from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import pytest

from shoestring.data.settings import DataSettings
from shoestring.data.sources import read_source
from shoestring.data.splits import draw
from shoestring.errors import DataError
from shoestring.tasks.load import load_task, task_names
from shoestring.tasks.spec import HubSource, Sources, Task

if TYPE_CHECKING:
    from pathlib import Path

    from datasets import Dataset

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def mirror(folder: Path, config: str | None, splits: dict[str, Dataset]) -> None:
    """Lay out parquet files and a README as the hub does, so that labels keep their names."""
    lines = ["---", "configs:", f"- config_name: {config or 'default'}", "  data_files:"]
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in splits.items():
        name = f"{config or 'data'}-{split}.parquet"
        rows.to_parquet(folder / name)
        lines += [f"  - split: {split}", f"    path: {name}"]
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]))


def rows(texts: list[str], labels: list[int], names: list[str], text: str = "sentence") -> Dataset:
    features = datasets.Features({text: datasets.Value("string"), "label": datasets.ClassLabel(names=names)})
    return datasets.Dataset.from_dict({text: texts, "label": labels}, features=features)


def reversed_sst2(folder: Path, count: int = 8) -> None:
    texts = [f"film {row}" for row in range(count)]
    labels = [row % 2 for row in range(count)]
    # The hub's order of labels is turned round: only their names can tell.
    names = ["positive", "negative"]
    splits = {"train": rows(texts, labels, names), "validation": rows(["a", "b", "c"], [0, 1, -1], names)}
    mirror(folder / "nyu-mll" / "glue", "sst2", splits)


@pytest.mark.parametrize("inside", ["", "nyu-mll/glue"])
def test_a_local_mirror_is_read_and_labels_are_mapped_by_name(inside: str, tmp_path: Path) -> None:
    reversed_sst2(tmp_path)
    tables = read_source(load_task("SST-2"), DataSettings(source=str(tmp_path / inside))).tables
    assert [example.label for example in tables["train"].all()] == ["1", "0"] * 4
    assert [(example.uid, example.label) for example in tables["test"].all()] == [("test:0", "1"), ("test:1", "0")]


def test_k_examples_per_label_are_drawn_from_a_mirror(tmp_path: Path) -> None:
    reversed_sst2(tmp_path)
    splits = draw(load_task("SST-2"), DataSettings(source=str(tmp_path), k=2), 13)
    assert sorted(str(example.label) for example in splits.train) == ["0", "0", "1", "1"]
    assert {example.uid for example in splits.train}.isdisjoint(example.uid for example in splits.dev)


def test_mnli_on_the_hub_has_two_test_sets(tmp_path: Path) -> None:
    names = ["entailment", "neutral", "contradiction"]
    features = datasets.Features(
        {
            "premise": datasets.Value("string"),
            "hypothesis": datasets.Value("string"),
            "label": datasets.ClassLabel(names=names),
        }
    )

    def part(name: str) -> Dataset:
        columns = {"premise": [name] * 3, "hypothesis": ["h"] * 3, "label": [0, 1, 2]}
        return datasets.Dataset.from_dict(columns, features=features)

    names_of = ["train", "validation_matched", "validation_mismatched"]
    mirror(tmp_path / "nyu-mll" / "glue", "mnli", {name: part(name) for name in names_of})
    splits = draw(load_task("MNLI"), DataSettings(source=str(tmp_path), mode="full", dev_share=0.4), 13)
    assert list(splits.tests) == ["test", "test-mismatched"]
    assert splits.tests["test-mismatched"][0].sentences == ("validation_mismatched", "h")
    assert [example.label for example in splits.tests["test"]] == names


def test_values_come_as_numbers(tmp_path: Path) -> None:
    columns = {"sentence1": ["a", "b"], "sentence2": ["c", "d"], "label": [0.5, 4.75]}
    part = datasets.Dataset.from_dict(columns)
    mirror(tmp_path / "nyu-mll" / "glue", "stsb", {"train": part, "validation": part})
    table = read_source(load_task("STS-B"), DataSettings(source=str(tmp_path))).tables["train"]
    assert [example.label for example in table.all()] == [0.5, 4.75]
    assert table.keys == ("0", "1")


def text_labels(
    tmp_path: Path, labels: list[str | None], texts: list[str | None] | None = None, **changes: object
) -> Task:
    columns = {"text": texts or [f"t{row}" for row in range(len(labels))], "label_text": labels}
    part = datasets.Dataset.from_dict(columns)
    mirror(tmp_path / "SetFit" / "CR", None, {"train": part, "test": part})
    task = load_task("cr")
    assert task.sources.hub is not None
    hub = HubSource.model_validate(task.sources.hub.model_dump() | changes)
    return task.model_copy(update={"sources": Sources(hub=hub)})


def test_labels_may_be_plain_texts_and_rows_without_one_are_left_out(tmp_path: Path) -> None:
    task = text_labels(tmp_path, ["positive", None, "negative"])
    table = read_source(task, DataSettings(source=str(tmp_path))).tables["train"]
    assert [(example.uid, example.label) for example in table.all()] == [("train:0", "1"), ("train:2", "0")]


def test_a_label_that_is_none_of_the_tasks_is_refused_with_its_row(tmp_path: Path) -> None:
    task = text_labels(tmp_path, ["positive", "neutral"])
    with pytest.raises(
        DataError, match=r"SetFit/CR, split train, row 1: 'neutral' is not a label of cr there. Allowed: negative, pos"
    ):
        read_source(task, DataSettings(source=str(tmp_path)))


def any_mirror(task: Task, folder: Path, label: object, feature: object) -> None:
    """Lay out one row a split, with this label."""
    hub = task.sources.hub
    assert hub is not None
    assert hub.label is not None
    kinds = {**dict.fromkeys(hub.sentences, datasets.Value("string")), hub.label: feature}
    columns = {**{column: ["a"] for column in hub.sentences}, hub.label: [label]}
    row: Dataset = datasets.Dataset.from_dict(columns, features=datasets.Features(kinds))
    mirror(folder / hub.id, hub.config, dict.fromkeys(hub.splits.values(), row))


LABELLED = [name for name in task_names() if load_task(name).kind == "classification"]
NAMED = [name for name in LABELLED if (hub := load_task(name).sources.hub) is not None and hub.labels]


def test_every_classification_task_of_the_catalogue_maps_hub_labels_by_name() -> None:
    assert {name for name in LABELLED if load_task(name).sources.hub is not None} == set(NAMED)
    for name in NAMED:
        task = load_task(name)
        assert task.sources.hub is not None
        assert sorted(task.sources.hub.labels.values()) == sorted(task.label_names)


@pytest.mark.parametrize("name", [name for name in NAMED if name != "mpqa"])
def test_labels_that_lost_their_names_are_refused_and_not_read_as_the_tasks_own(name: str, tmp_path: Path) -> None:
    task = load_task(name)
    any_mirror(task, tmp_path, 0, datasets.Value("int64"))
    message = "row 0: the label is the bare number 0: the names of the labels are lost. Allowed: .*; restore them"
    with pytest.raises(DataError, match=message):
        read_source(task, DataSettings(source=str(tmp_path)))


@pytest.mark.parametrize("name", NAMED)
def test_names_that_the_task_does_not_map_are_refused(name: str, tmp_path: Path) -> None:
    task = load_task(name)
    any_mirror(task, tmp_path, 0, datasets.ClassLabel(names=["LABEL_0", "LABEL_1"]))
    with pytest.raises(DataError, match=f"row 0: 'LABEL_0' is not a label of {name} there. Allowed: "):
        read_source(task, DataSettings(source=str(tmp_path)))


def test_bare_numbers_are_labels_where_the_task_file_says_which(tmp_path: Path) -> None:
    task = load_task("mpqa")
    any_mirror(task, tmp_path, 1, datasets.Value("int64"))
    table = read_source(task, DataSettings(source=str(tmp_path))).tables["train"]
    assert [example.label for example in table.all()] == ["1"]


def test_a_missing_text_is_refused_with_its_row(tmp_path: Path) -> None:
    task = text_labels(tmp_path, ["positive", "negative"], ["fine", None])
    with pytest.raises(DataError, match="row 1: the column 'text' is not text but None"):
        read_source(task, DataSettings(source=str(tmp_path)))


def test_a_missing_column_names_the_nearest(tmp_path: Path) -> None:
    task = text_labels(tmp_path, ["positive"], label="label")
    with pytest.raises(DataError, match="the column 'label' is missing; did you mean 'label_text'"):
        read_source(task, DataSettings(source=str(tmp_path)))


def test_a_data_set_without_labels_is_refused(tmp_path: Path) -> None:
    reversed_sst2(tmp_path)
    bare = {"train": rows(["a"], [-1], ["x"]), "validation": rows(["a"], [-1], ["x"])}
    mirror(tmp_path / "nyu-mll" / "glue", "sst2", bare)
    with pytest.raises(DataError, match="has no labelled rows"):
        read_source(load_task("SST-2"), DataSettings(source=str(tmp_path)))


def test_a_configuration_that_the_mirror_lacks_is_named(tmp_path: Path) -> None:
    reversed_sst2(tmp_path)
    with pytest.raises(DataError, match=r"\(cola\), split train: cannot be loaded: .*cola"):
        read_source(load_task("CoLA"), DataSettings(source=str(tmp_path)))


def test_the_hub_is_asked_for_the_tasks_id_config_and_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []

    def unreachable(*names: object, **options: object) -> None:
        asked.append((*names, options["split"], options["revision"]))
        raise ConnectionError("Couldn't reach the hub")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    message = "cannot be loaded: Couldn't reach the hub; without a network, give data.source"
    with pytest.raises(DataError, match=message):
        read_source(load_task("trec"), DataSettings())
    with pytest.raises(DataError, match=message):
        read_source(load_task("SST-2"), DataSettings(revision="abc"))
    assert asked[0] == ("CogComp/trec", None, "train", "refs/convert/parquet")
    assert asked[1] == ("nyu-mll/glue", "sst2", "train", "abc")


def test_the_progress_bar_setting_is_put_back(tmp_path: Path) -> None:
    from datasets.utils import are_progress_bars_disabled

    reversed_sst2(tmp_path)
    before = are_progress_bars_disabled()
    read_source(load_task("SST-2"), DataSettings(source=str(tmp_path)))
    assert are_progress_bars_disabled() == before
