"""CrossFit's files: two columns without a header, read as the tasks of PET scaling."""

from __future__ import annotations

from pathlib import Path

from shoestring.data.settings import DataSettings
from shoestring.data.splits import draw
from shoestring.tasks.load import load_task

LABELS = ("entailment", "neutral", "contradiction")


def crossfit(root: Path, name: str, outputs: tuple[str, ...], count: int = 4) -> None:
    """Write `name`_{train,dev,test}.tsv; a quotation mark is an ordinary character in them."""
    folder = root / name
    folder.mkdir()
    for split in ("train", "dev", "test"):
        rows = (
            f'premise: the "{split} {row} [SEP] hypothesis: h\t{output}\n' for row in range(count) for output in outputs
        )
        (folder / f"{name}_{split}.tsv").write_text("".join(rows))


def test_rows_of_a_label_that_the_task_leaves_out_are_not_drawn(tmp_path: Path) -> None:
    crossfit(tmp_path, "glue-mnli", LABELS)
    splits = draw(load_task("pet/mnli-2"), DataSettings(source=str(tmp_path), k=2), 13)
    assert sorted(str(example.label) for example in splits.train) == ["contradiction"] * 2 + ["entailment"] * 2
    assert len(splits.tests["test"]) == 8
    assert splits.tests["test"][0].sentences == ('premise: the "test 0 [SEP] hypothesis: h',)


def test_labels_may_be_merged(tmp_path: Path) -> None:
    crossfit(tmp_path, "superglue-cb", LABELS)
    splits = draw(load_task("cb-2"), DataSettings(source=str(tmp_path), mode="full"), 13)
    assert [str(example.label) for example in splits.train[:3]] == ["entailment", "contradiction", "contradiction"]


def test_answers_of_generation_tasks_are_the_second_column(tmp_path: Path) -> None:
    crossfit(tmp_path, "samsum", ("A greets B.",))
    splits = draw(load_task("samsum"), DataSettings(source=str(tmp_path), mode="full"), 13)
    assert splits.train[0].golds == ("A greets B.",)
    assert len(splits.dev) == 4
