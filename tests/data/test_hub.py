from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import pytest

from shoestring.data.settings import DataSettings
from shoestring.data.sources import read_source
from shoestring.data.splits import draw
from shoestring.errors import DataError
from shoestring.tasks.jinja import bare_names, is_template
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


def scored(folder: Path, hub: dict[str, object], **task: object) -> list[str | float]:
    """Return the labels read of two rows that are scored -1 and 1."""
    part = datasets.Dataset.from_dict({"text": ["a", "b"], "score": [-1, 1]})
    mirror(folder / "own", None, {"train": part, "validation": part})
    source = {"id": "own", "sentences": ("text",), "label": "score"} | hub
    labels = ({"name": "-1", "word": "bad"}, {"name": "1", "word": "good"})
    made = Task.model_validate(
        {"name": "own", "sentences": ("text",), "labels": labels, "sources": {"hub": source}} | task
    )
    table = read_source(made, DataSettings(source=str(folder))).tables["train"]
    return [example.label for example in table.all()]


def test_minus_one_is_a_label_or_a_value_where_the_task_has_it(tmp_path: Path) -> None:
    assert scored(tmp_path, {}) == ["-1", "1"]
    assert scored(tmp_path, {"labels": {"-1": "-1", "1": "1"}}) == ["-1", "1"]
    scale = {"low": -1.0, "high": 1.0, "threshold": 0.0}
    assert scored(tmp_path, {}, kind="regression", metrics=("pearson",), range=scale) == [-1.0, 1.0]


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
    texts = [name for column in hub.sentences for name in (bare_names(column) if is_template(column) else [column])]
    kinds = {**dict.fromkeys(texts, datasets.Value("string")), hub.label: feature}
    columns = {**{column: ["a"] for column in texts}, hub.label: [label]}
    row: Dataset = datasets.Dataset.from_dict(columns, features=datasets.Features(kinds))
    mirror(folder / hub.id, hub.config, dict.fromkeys(hub.splits.values(), row))


LABELLED = [name for name in task_names() if load_task(name).kind == "classification"]
NAMED = [name for name in LABELLED if (hub := load_task(name).sources.hub) is not None and hub.labels]


def test_every_classification_task_of_the_catalogue_maps_hub_labels_by_name() -> None:
    assert {name for name in LABELLED if load_task(name).sources.hub is not None} == set(NAMED)
    for name in NAMED:
        task = load_task(name)
        assert task.sources.hub is not None
        assert set(task.sources.hub.labels.values()) == set(task.label_names)


# Labels that are texts, that are computed, or that are numbers there.
ODD = ("mpqa", "pet/kilt_fever", "pet/medical_questions_pairs")


@pytest.mark.parametrize("name", [name for name in NAMED if name not in ODD])
def test_labels_that_lost_their_names_are_refused_and_not_read_as_the_tasks_own(name: str, tmp_path: Path) -> None:
    task = load_task(name)
    any_mirror(task, tmp_path, 0, datasets.Value("int64"))
    message = "row 0: the label is the bare number 0: the names of the labels are lost. Allowed: .*; restore them"
    with pytest.raises(DataError, match=message):
        read_source(task, DataSettings(source=str(tmp_path)))


@pytest.mark.parametrize("name", [name for name in NAMED if name != "pet/kilt_fever"])
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


# ---- candidates and right answers ----


def lay_out(task: Task, folder: Path, columns: dict[str, list[object]], kinds: dict[str, object]) -> None:
    """Lay out rows of these columns as every split of the task's data set."""
    hub = task.sources.hub
    assert hub is not None
    features = datasets.Features({name: kinds.get(name, datasets.Value("string")) for name in columns})
    part: Dataset = datasets.Dataset.from_dict(columns, features=features)
    mirror(folder / hub.id, hub.config, dict.fromkeys(hub.splits.values(), part))


COPA: dict[str, list[object]] = {
    "premise": ["It rained.", "He fell."],
    "question": ["effect", "cause"],
    "choice1": ["I got wet.", "He tripped."],
    "choice2": ["It was dry.", "He slept."],
}


@pytest.mark.parametrize("names", [["choice1", "choice2"], ["choice2", "choice1"]])
def test_the_right_choice_is_found_by_name_whatever_the_order_of_the_hubs_numbers(
    names: list[str], tmp_path: Path
) -> None:
    task = load_task("Copa")
    labels: list[object] = [names.index("choice1"), names.index("choice2")]
    lay_out(task, tmp_path, {**COPA, "label": labels}, {"label": datasets.ClassLabel(names=names)})
    first, second = read_source(task, DataSettings(source=str(tmp_path))).tables["train"].all()
    assert (first.candidates, first.golds, first.label) == (
        ("I got wet.", "It was dry."),
        ("I got wet.",),
        "I got wet.",
    )
    assert (second.sentences, second.golds) == (("He fell.", "cause"), ("He slept.",))


@pytest.mark.parametrize("names", [["False", "True"], ["True", "False"]])
def test_truth_values_are_found_by_name_whatever_the_order_of_the_hubs_numbers(
    names: list[str], tmp_path: Path
) -> None:
    task = load_task("WIC")
    columns: dict[str, list[object]] = {"word": ["a"], "sentence1": ["b"], "sentence2": ["c"], "label": [1]}
    lay_out(task, tmp_path, columns, {"label": datasets.ClassLabel(names=names)})
    (example,) = read_source(task, DataSettings(source=str(tmp_path))).tables["train"].all()
    assert example.label == names[1].lower()


def test_boolqs_answers_are_truth_values(tmp_path: Path) -> None:
    task = load_task("BoolQ")
    columns: dict[str, list[object]] = {"question": ["q", "r"], "answer": [True, False], "passage": ["p", "p"]}
    lay_out(task, tmp_path, columns, {"answer": datasets.Value("bool")})
    table = read_source(task, DataSettings(source=str(tmp_path))).tables["train"]
    assert [(example.sentences, example.label) for example in table.all()] == [
        (("p", "q"), "true"),
        (("p", "r"), "false"),
    ]


def test_candidates_and_right_answers_may_be_lists(tmp_path: Path) -> None:
    task = load_task("ReCoRD")
    texts = datasets.Sequence(datasets.Value("string"))
    columns: dict[str, list[object]] = {
        "passage": ["p"],
        "query": ["@placeholder"],
        "entities": [["Ann", "Bob", "Rome"]],
        "answers": [["Rome", "Ann"]],
    }
    lay_out(task, tmp_path, columns, {"entities": texts, "answers": texts})
    (example,) = read_source(task, DataSettings(source=str(tmp_path))).tables["train"].all()
    assert (example.candidates, example.golds, example.label) == (("Ann", "Bob", "Rome"), ("Rome", "Ann"), "Rome")


def squad(folder: Path, answers: list[list[str]]) -> Task:
    task = load_task("SQuAD")
    kinds = {"answers": datasets.Sequence({"text": datasets.Value("string"), "answer_start": datasets.Value("int32")})}
    count = len(answers)
    columns: dict[str, list[object]] = {"title": ["T"] * count, "context": ["C"] * count, "question": ["Q"] * count}
    columns["answers"] = [{"text": texts, "answer_start": [0] * len(texts)} for texts in answers]
    lay_out(task, folder, columns, kinds)
    return task


def test_right_answers_may_be_the_field_of_a_column(tmp_path: Path) -> None:
    task = squad(tmp_path, [["a", "b"], ["c"]])
    table = read_source(task, DataSettings(source=str(tmp_path))).tables["train"]
    assert [(example.golds, example.label, example.candidates) for example in table.all()] == [
        (("a", "b"), "a", ()), (("c",), "c", ()),
    ]  # fmt: skip
    assert table.keys == ("", "")


def test_a_question_without_a_right_answer_is_refused_with_its_row(tmp_path: Path) -> None:
    task = squad(tmp_path, [["a"], []])
    with pytest.raises(
        DataError, match="rajpurkar/squad, split train, row 1: there is no right answer: the list is empty"
    ):
        read_source(task, DataSettings(source=str(tmp_path)))


def test_a_missing_field_of_a_column_is_named(tmp_path: Path) -> None:
    task = squad(tmp_path, [["a"]])
    assert task.sources.hub is not None
    hub = task.sources.hub.model_copy(update={"golds": "answers.txt"})
    wrong = task.model_copy(update={"sources": Sources(hub=hub)})
    with pytest.raises(
        DataError, match=r"split train: the column 'answers' has no field 'txt', which 'answers\.txt' needs"
    ):
        read_source(wrong, DataSettings(source=str(tmp_path)))


def test_right_answers_that_are_no_candidates_are_refused_with_their_row(tmp_path: Path) -> None:
    task = load_task("ReCoRD")
    texts = datasets.Sequence(datasets.Value("string"))
    columns: dict[str, list[object]] = {"passage": ["p"], "query": ["q"], "entities": [["Ann"]], "answers": [["Anne"]]}
    lay_out(task, tmp_path, columns, {"entities": texts, "answers": texts})
    with pytest.raises(DataError, match="row 0: the right answer 'Anne' is none of the candidates; did you mean 'Ann'"):
        read_source(task, DataSettings(source=str(tmp_path)))


def test_no_training_split_is_asked_of_the_hub_where_nothing_is_trained(tmp_path: Path) -> None:
    task = squad(tmp_path, [["a"], ["b"]])
    (tmp_path / "rajpurkar" / "squad" / "data-train.parquet").unlink()
    readme = tmp_path / "rajpurkar" / "squad" / "README.md"
    readme.write_text(readme.read_text().replace("  - split: train\n    path: data-train.parquet\n", ""))
    splits = draw(task, DataSettings(source=str(tmp_path), mode="subset", num_train=0), 13)
    assert (splits.train, len(splits.tests["test"])) == ((), 2)
