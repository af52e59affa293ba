"""Where a task's examples are: files in their original format, or a data set of the hub."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from shoestring.config import Settings
from shoestring.errors import suggest
from shoestring.tasks.problems import checked

Format = Literal["tsv", "csv", "jsonl"]
TRAIN, DEV, TEST = "train", "dev", "test"


def is_test(split: str) -> bool:
    """Return whether `split` names a test set: `test`, or a further one such as `test-mismatched`."""
    return split == TEST or split.startswith(f"{TEST}-")


class FileSource(Settings):
    """The task's original files: one folder, one file a split."""

    folder: str
    """Folder name under the data root."""
    format: Format
    """How the files are written: tsv has no quoting, csv has, jsonl holds one JSON object a line."""
    header: bool
    """Whether the first line names the columns."""
    sentences: tuple[int | str, ...]
    """Column of each sentence: a 0-based position (negative: from the end), or a name (jsonl, or with a header)."""
    label: int | str
    """Column of the label."""
    files: dict[str, str]
    """File of each split: `train`, `test`, any further test set such as `test-mismatched`; `dev` if there is one."""
    drawn_files: dict[str, str] = {}
    """File of a split in a k-shot folder, where it is not `<split>.<format>` (MNLI: `dev_matched.tsv`)."""
    drawn_by: int | None = None
    """Column the k-shot draw groups rows by, where that is not `label` (QQP: the last one, even in short rows)."""
    cumulative_shuffle: bool = False
    """Each published seed shuffles the rows as the seed before left them, as the published script does with CoLA."""
    glue_last_row: bool = False
    """A last row without final newline is read as one with the row that follows it in a shuffled file, as in CoLA's
    published 1,000-example test sets."""
    skip_short_rows: bool = False
    """Rows with too few columns are skipped, as the published reader of QQP does; otherwise they are an error."""
    ragged: bool = False
    """Rows may differ in length, as in SNLI; otherwise a row longer or shorter than the first line is an error."""
    allow_empty: bool = False
    """A text may be empty; in csv, the texts that pandas reads as missing (`NA`, `null`, ...) become empty."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems = _split_problems(self.files, required=(TRAIN,))
        problems += _split_problems(self.drawn_files)
        named = [column for column in (*self.sentences, self.label) if isinstance(column, str)]
        if named and not self.header and self.format != "jsonl":
            problems.append(f"columns are named ({', '.join(named)}), but the file has no header")
        if self.format == "jsonl" and len(named) != len(self.sentences) + 1:
            problems.append("columns of a jsonl file are names, not positions")
        return checked(self, problems)

    @property
    def drawn(self) -> dict[str, str]:
        """Names of the files in a k-shot folder, by split."""
        splits = (TRAIN, DEV, *(split for split in self.files if is_test(split)))
        return {split: f"{split.replace('-', '_')}.{self.format}" for split in splits} | self.drawn_files


class HubSource(Settings):
    """The task on the Hugging Face hub."""

    id: str
    """Name of the data set, such as `nyu-mll/glue`; in a local mirror, the folder of that name."""
    config: str | None = None
    """Its configuration, such as `sst2`, where it has several."""
    revision: str | None = None
    """Branch, tag or commit; the main branch unless given."""
    sentences: tuple[str, ...]
    """Column of each sentence."""
    label: str
    """Column of the label."""
    labels: dict[str, str] = {}
    """The hub's label name -> this task's: all of them, or none where the names are the same. A number (as text) is a
    name only for a data set whose labels have no others."""
    splits: dict[str, str] = {"train": "train", "test": "validation"}
    """This task's split -> the hub's split."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        return checked(self, _split_problems(self.splits, required=(TRAIN,)))


class Sources(Settings):
    """Where the task's examples come from."""

    files: FileSource | None = None
    hub: HubSource | None = None


def _split_problems(splits: dict[str, str], required: tuple[str, ...] = ()) -> list[str]:
    allowed = (TRAIN, DEV, TEST, f"{TEST}-...")
    wrong = [split for split in splits if split not in (TRAIN, DEV) and not is_test(split)]
    problems = [f"there is no split {split!r}{suggest(split, allowed)}" for split in wrong]
    return problems + [f"split {split!r} is missing" for split in required if split not in splits]
