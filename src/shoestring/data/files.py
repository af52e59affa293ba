"""Files of examples in lines of columns, read as the published code reads them and not one slip more tolerantly.

tsv has no quoting: a `"` is an ordinary character. csv has quoting, and a quoted text may hold line breaks. A byte
order mark is not part of the text.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shoestring.data.answers import Row, to_example
from shoestring.data.csv_fields import fields_of_any_length
from shoestring.data.place import Place
from shoestring.data.records import read_records
from shoestring.data.table import Table, draw_key
from shoestring.data.text import BOM, read_text
from shoestring.errors import DataError, suggest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from shoestring.data.example import Example
    from shoestring.tasks.spec import FileSource, Task

# What pandas 1.x, with which the published splits were made, reads as a missing value; later versions add "None".
MISSING = frozenset(
    {"#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>"}
    | {"N/A", "NA", "NULL", "NaN", "n/a", "nan", "null"}
)


@dataclass(frozen=True)
class RawFile:
    """A file, cut into rows and columns.

    Attributes:
        header: the header line as published files repeat it, or "".
        rows: each row as published files repeat it; only the last one may lack its newline.
        lines: the 1-based line that each row starts on.
        columns: the columns' names, or [] where they have none.
        parts: the columns of each row; None for tsv, whose rows are large, many and quickly split.
    """

    path: Path
    header: str
    rows: list[str]
    lines: Sequence[int]
    columns: list[str]
    parts: list[list[str]] | None

    def cells(self, row: int) -> list[str]:
        """Return the columns of one row."""
        if self.parts is not None:
            return self.parts[row]
        # The published script would repeat a byte order mark; its reader drops it.
        return self.rows[row].removesuffix("\n").removeprefix(BOM).split("\t")

    def text(self, rows: Sequence[int]) -> str:
        """Return the text of a published file of these rows, in this order."""
        return self.header + "".join([self.rows[row] for row in rows])

    @property
    def unended(self) -> int | None:
        """The row without a final newline, which becomes one line with whatever follows it."""
        return len(self.rows) - 1 if self.rows and not self.rows[-1].endswith("\n") else None


def read_file(path: Path, source: FileSource) -> RawFile:
    """Cut a tsv or csv file into rows and columns.

    Raises:
        DataError: if the file is missing, empty, not UTF-8, or not of the format; names the line.
    """
    text = read_text(path)
    raw = _csv(path, text, source) if source.format == "csv" else _tsv(path, text, source.header)
    if not raw.rows:
        raise DataError(str(path), "has a header but no rows" if raw.header else "is empty")
    return raw


def read_table(task: Task, source: FileSource, path: Path, split: str) -> Table:
    """Read one split from one file of any format; the uid of an example is `<split>:<0-based row>`.

    Raises:
        DataError: as `read_file`, and if a row is empty or malformed, a column is missing, a label is none of the
            task's, candidates or right answers are not as they should be, or a text is empty where that is not allowed;
            names the line.
    """
    if source.is_tree:
        return read_records(task, source, path, split)
    return to_table(task, source, read_file(path, source), split)


def to_table(task: Task, source: FileSource, raw: RawFile, split: str) -> Table:
    """Read every row of `raw` as an example; see `read_table`."""
    reader = _Reader.of(task, source, raw)
    rows = range(len(raw.rows))
    examples = tuple(reader.example(f"{split}:{row}", raw.cells(row), raw.lines[row]) for row in rows)

    def glue(row: int, following: int) -> Example | None:
        joined = (raw.rows[row] + raw.rows[following]).removesuffix("\n")
        return reader.example(f"{split}:{row}", joined.split("\t"), raw.lines[row])

    keys = tuple(reader.key(row) for row in rows)
    if not source.glue_last_row or raw.unended is None:
        return Table(str(raw.path), keys, examples)
    return Table(str(raw.path), keys, examples, raw.unended, glue)


@dataclass(frozen=True)
class _Reader:
    """Turns columns into examples; `None` is the place of a column that the source has not."""

    task: Task
    source: FileSource
    raw: RawFile
    sentences: tuple[int, ...]
    label: int | None
    golds: int | None
    candidates: tuple[int, ...]
    needed: int
    width: int

    @classmethod
    def of(cls, task: Task, source: FileSource, raw: RawFile) -> _Reader:
        sentences = tuple(_position(raw, column) for column in source.sentences)
        answers = [None if column is None else _position(raw, column) for column in source.answer_columns]
        label, golds, *others = answers
        candidates = tuple(place for place in others if place is not None)
        places = [*sentences, *(place for place in answers if place is not None)]
        # Columns counted from the end come after those counted from the start, or a short row would be read twice over.
        needed = max([place + 1 for place in places if place >= 0], default=0)
        needed += max([-place for place in places if place < 0], default=0)
        width = len(raw.columns or raw.cells(0))
        return cls(task, source, raw, sentences, label, golds, candidates, needed, width)

    def example(self, uid: str, cells: list[str], line: int) -> Example | None:
        place, count = Place(str(self.raw.path), line), len(cells)
        if not any(cells):
            raise place.error("the row is empty")
        if count < self.needed and self.source.skip_short_rows:
            return None
        if count < self.needed or (count != self.width and not self.source.ragged):
            least = self.source.ragged or self.width < self.needed  # The task asks for a column that no row has.
            needed = f"at least {self.needed}" if least else str(self.width)
            raise place.error(f"the row has {_columns(count)}, not {needed}")
        if self.label is not None and cells[self.label] in self.source.skip_labels:
            return None
        row = Row(
            uid,
            tuple(self._text(cells[at], name, place) for at, name in zip(self.sentences, self.names, strict=True)),
            label=None if self.label is None else cells[self.label],
            candidates=[cells[at] for at in self.candidates],
            golds=None if self.golds is None else cells[self.golds],
        )
        return to_example(self.task, self.source, row, place)

    def key(self, row: int) -> str:
        """Return what the published script groups a row by; it strips the line before it splits it."""
        source = self.source
        if not self.task.labels or self.label is None:
            return ""
        cells = self.raw.rows[row].strip().split("\t") if source.format == "tsv" else self.raw.cells(row)
        column = self.label if source.drawn_by is None else source.drawn_by
        if not -len(cells) <= column < len(cells):
            return ""
        label = source.labels.get(cells[column], cells[column])
        return label if self.task.range is None else draw_key(self.task, float(label))

    @property
    def names(self) -> tuple[str, ...]:
        return self.task.sentences

    def _text(self, cell: str, name: str, place: Place) -> str:
        if self.source.format == "csv" and self.source.allow_empty and cell in MISSING:
            return ""
        if not cell.strip() and not self.source.allow_empty:
            raise place.error(f"the text {name!r} is empty")
        return cell


def _tsv(path: Path, text: str, header: bool) -> RawFile:
    # As Python's text files: all three line ends become "\n", and nothing else ends a line.
    rows = io.StringIO(text.replace("\r\n", "\n").replace("\r", "\n")).readlines()
    if not header:
        return RawFile(path, "", rows, range(1, len(rows) + 1), [], None)
    columns = rows[0].removesuffix("\n").removeprefix(BOM).split("\t")
    return RawFile(path, rows[0], rows[1:], range(2, len(rows) + 1), columns, None)


def _csv(path: Path, text: str, source: FileSource) -> RawFile:
    rows: list[str] = []
    cells: list[list[str]] = []
    lines: list[int] = []
    for line, row in csv_rows(path, text.removeprefix(BOM)):
        rows.append(_csv_line(["" if source.allow_empty and cell in MISSING else cell for cell in row]))
        cells.append(row)
        lines.append(line)
    if not source.header:
        return RawFile(path, "", rows, lines, [], cells)
    return RawFile(path, rows[0], rows[1:], lines[1:], cells[0], cells[1:])


def csv_rows(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the 1-based line that each row of a csv text starts on, and its cells.

    Raises:
        DataError: if it is not csv; names the line.
    """
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[tuple[int, list[str]]] = []
    line = 1
    try:
        with fields_of_any_length():
            for row in reader:
                rows.append((line, row))
                line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(str(path), f"the row is not csv: {error}; is a quotation mark left open?", line) from None
    yield from rows


def _csv_line(cells: list[str]) -> str:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerow(cells)
    return out.getvalue()


def _position(raw: RawFile, column: int | str) -> int:
    if isinstance(column, int):
        return column
    count = Counter(raw.columns)[column]
    if count != 1:
        what = "stands twice" if count else f"is missing{suggest(column, raw.columns)}"
        raise DataError(str(raw.path), f"the column {column!r} {what}", 1)
    return raw.columns.index(column)


def _columns(count: int) -> str:
    return "1 column" if count == 1 else f"{count} columns"
