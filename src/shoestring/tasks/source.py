"""Where a task's examples are: files in their original format, or a data set of the hub."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Literal, Self

from pydantic import model_validator

from shoestring.config import Settings
from shoestring.errors import suggest
from shoestring.tasks.derived import DERIVED
from shoestring.tasks.jinja import is_template
from shoestring.tasks.problems import checked, repeated

Format = Literal["tsv", "csv", "jsonl", "json"]
TREES: tuple[Format, ...] = ("jsonl", "json")
"""Formats whose rows are records with named fields, rather than lines of columns."""
TRAIN, DEV, TEST = "train", "dev", "test"


def is_test(split: str) -> bool:
    """Return whether `split` names a test set: `test`, or a further one such as `test-mismatched`."""
    return split == TEST or split.startswith(f"{TEST}-")


class FileSource(Settings):
    """The task's original files: one folder, one file a split."""

    folder: str
    """Folder name under the data root."""
    format: Format
    """How the files are written: tsv has no quoting, csv has, jsonl holds one JSON object a line, json is one JSON
    document: a list of objects, or what `each` leads to."""
    header: bool = False
    """Whether the first line names the columns."""
    each: tuple[str, ...] = ()
    """json and jsonl: where the rows are inside a record: lists of records, one inside the other, such as
    `["passage.questions", "answers"]`; `*` stands for every value of a table. The names of columns are then looked up
    in the innermost record first, then outwards."""
    derive: str | None = None
    """json and jsonl: name of the published rule that makes further fields of a row: `drop` makes `answers`, `record`
    makes `candidates` and `golds`, `wsc-fixed` corrects `span1_text` and `span2_text`."""
    sentences: tuple[int | str, ...]
    """Column of each sentence: a 0-based position (negative: from the end), or a name (json, jsonl, or with a header;
    `target.span1_text` is the field of a field). In json and jsonl any column may be computed, by a Jinja text or
    expression over the row's fields: `{{ choices[0] }}`."""
    label: int | str | None = None
    """Column of the label. Of a multiple-choice task: of the right candidate's column, or of its 0-based number in a
    list of candidates."""
    labels: dict[str, str] = {}
    """What the files say -> the label's name (multiple choice: the candidate's column), such as
    `{ true = "entailment", false = "not_entailment" }`: all of them, or none where the names are the same. Numbers and
    truth values are written as in JSON."""
    candidates: tuple[int | str, ...] | str | None = None
    """Multiple choice: the columns of the candidates, or the one field that lists them."""
    golds: int | str | None = None
    """Column of the right answer as text, or of the list of all right answers (`answers.text`): for generation tasks,
    and for multiple choice instead of `label`."""
    skip_labels: tuple[str, ...] = ()
    """Labels in the files whose rows are left out."""
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
    """A text, or a right answer of a generation task, may be empty; in csv, the texts that pandas reads as missing
    (`NA`, `null`, ...) become empty."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems = _split_problems(self.files, required=(TRAIN,))
        problems += _split_problems(self.drawn_files)
        problems += self._column_problems()
        if self.derive is not None and self.derive not in DERIVED.names():
            problems.append(
                f"there is no rule {self.derive!r} to derive fields by{suggest(self.derive, DERIVED.names())}"
            )
        return checked(self, [*problems, *answer_problems(self)])

    def _column_problems(self) -> Iterable[str]:
        columns = [column for column in (*self.sentences, *self.answer_columns) if column is not None]
        named = [column for column in columns if isinstance(column, str)]
        if self.is_tree:
            if len(named) != len(columns):
                yield f"columns of a {self.format} file are names, not positions"
            given = [key for key in _OF_COLUMNS if getattr(self, key) != type(self).model_fields[key].default]
            yield from (
                f"{key} is for tsv and csv, which have columns; {self.format} has named fields" for key in given
            )
            return
        yield from (f"{name!r} is computed, which is for json and jsonl files" for name in named if is_template(name))
        if named and not self.header:
            yield f"columns are named ({', '.join(named)}), but the file has no header"
        if isinstance(self.candidates, str):
            yield f"a column of a {self.format} file holds one text; candidates are several columns there"
        yield from (f"{key} is for json and jsonl files" for key in ("each", "derive") if getattr(self, key))

    @property
    def is_tree(self) -> bool:
        """Whether rows are records with named fields, rather than lines of columns."""
        return self.format in TREES

    @property
    def answer_columns(self) -> tuple[int | str | None, ...]:
        """The columns of label, right answers and candidates; None where there is none."""
        several = self.candidates if isinstance(self.candidates, tuple) else (self.candidates,)
        return (self.label, self.golds, *several)

    @property
    def drawn(self) -> dict[str, str]:
        """Names of the files in a k-shot folder, by split."""
        splits = (TRAIN, DEV, *(split for split in self.files if is_test(split)))
        return {split: f"{split.replace('-', '_')}.{self.format}" for split in splits} | self.drawn_files


_OF_COLUMNS = ("header", "drawn_by", "cumulative_shuffle", "glue_last_row", "skip_short_rows", "ragged")


class HubSource(Settings):
    """The task on the Hugging Face hub."""

    id: str
    """Name of the data set, such as `nyu-mll/glue`; in a local mirror, the folder of that name."""
    config: str | None = None
    """Its configuration, such as `sst2`, where it has several."""
    revision: str | None = None
    """Branch, tag or commit; the main branch unless given."""
    sentences: tuple[str, ...]
    """Column of each sentence; `answers.text` is the field of a column that holds records. Any column may be computed
    from a row's columns, by a Jinja text or expression: `sentence: {{ sentence }}`, `{{ choices.text }}`."""
    label: str | None = None
    """Column of the label. Of a multiple-choice task: of the right candidate's column, or of its 0-based number in a
    list of candidates."""
    labels: dict[str, str] = {}
    """The hub's label name -> this task's (multiple choice: the candidate's column): all of them, or none where the
    names are the same. A number (as text) is a name only for a data set whose labels have no others."""
    candidates: tuple[str, ...] | str | None = None
    """Multiple choice: the columns of the candidates, or the one column that lists them."""
    golds: str | None = None
    """Column of the right answer as text, or of the list of all right answers (`answers.text`): for generation tasks,
    and for multiple choice instead of `label`."""
    skip_labels: tuple[str, ...] = ()
    """Labels in the data set whose rows are left out."""
    splits: dict[str, str] = {"train": "train", "test": "validation"}
    """This task's split -> the hub's split."""
    allow_empty: ClassVar[bool] = True

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        return checked(self, [*_split_problems(self.splits, required=(TRAIN,)), *answer_problems(self)])


AnySource = FileSource | HubSource


class Sources(Settings):
    """Where the task's examples come from."""

    files: FileSource | None = None
    hub: HubSource | None = None


def answer_problems(source: AnySource) -> Iterable[str]:
    """Yield what is wrong with a source's columns of answers, whatever the task."""
    if (source.label is None) == (source.golds is None):
        yield "what is right is said by `label` or by `golds`, by one of them"
    if source.skip_labels and source.label is None:
        yield "`skip_labels` leaves out labels, but there is no `label`"
    if source.labels and source.label is None:
        yield "`labels` says what labels are called, but there is no `label`"
    if source.candidates is None or isinstance(source.candidates, str):
        return
    names = [str(column) for column in source.candidates]
    yield from repeated("candidate", names)
    if len(names) < 2:
        yield "candidates are two columns or more, or the name of one that lists them"
    wrong = [name for name in source.labels.values() if name not in names]
    yield from (
        f"`labels` leads to {name!r}, which is no column of a candidate{suggest(name, names)}" for name in wrong
    )


def _split_problems(splits: dict[str, str], required: tuple[str, ...] = ()) -> list[str]:
    allowed = (TRAIN, DEV, TEST, f"{TEST}-...")
    wrong = [split for split in splits if split not in (TRAIN, DEV) and not is_test(split)]
    problems = [f"there is no split {split!r}{suggest(split, allowed)}" for split in wrong]
    return problems + [f"split {split!r} is missing" for split in required if split not in splits]
