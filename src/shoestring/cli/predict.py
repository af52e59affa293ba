"""`shoestring predict`: answers of a finished run to new texts."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shoestring.cli import options

if TYPE_CHECKING:
    from shoestring.data.unlabelled import Unlabelled
    from shoestring.runs.loaded import Answer
    from shoestring.tasks.spec import Task

FORMATS = ("csv", "tsv", "jsonl")
_SCORE = "score."


def predict(  # noqa: PLR0913 - typer reads the options from here
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")],
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="csv, tsv, jsonl, json or txt; - or nothing: standard input.")
    ] = "-",
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to write (csv, tsv or jsonl); by default to the screen.")
    ] = None,
    format_: Annotated[
        str | None,
        typer.Option("--format", "-f", metavar="|".join(FORMATS), callback=options.one_of(FORMATS), help="How."),
    ] = None,
    text_columns: options.TextColumns = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Most inputs of a forward pass.")] = None,
    model: Annotated[
        str | None, typer.Option(metavar="BASE", help="The base model, where it is not where the run had it.")
    ] = None,
    device: Annotated[str | None, typer.Option(metavar="NAME", help="Where to run; by default as the run did.")] = None,
) -> None:
    """Label new texts with what a run learnt: each row as it came, with prediction, probability and scores.

    Columns have the names of the task's texts, or those that --text-columns gives. Standard input is one text a line,
    or JSON objects. What a zeroth-order run did not keep is made again from its log; a run by gradients has to have
    kept its model (output.keep_model=true).

        shoestring predict runs/0123456789abcdef new.csv --out labelled.csv
        echo "A fine film." | shoestring predict runs/0123456789abcdef
    """
    wanted = format_ or _format_of(out, file)
    if out is not None and out.exists() and file != "-" and out.resolve() == Path(file).resolve():
        raise typer.BadParameter(f"--out {out} is the file that is read; choose another")
    from shoestring.cli import screen

    with screen.waiting("loading torch and transformers"):
        from shoestring.data.unlabelled import read_unlabelled, unlabelled_lines
        from shoestring.runs.export import finished_run
        from shoestring.runs.loaded import load_run, task_of
    task, columns = task_of(run, finished_run(run)), options.names(text_columns or "")
    # Mistakes in the file are found before a model is loaded.
    found = (
        unlabelled_lines(task, sys.stdin.read(), columns) if file == "-" else read_unlabelled(task, Path(file), columns)
    )
    _refuse_written(task, found, wanted, file)
    with screen.progress() as progress:
        loaded = load_run(run, model=model, device=device, progress=progress)
        answers = loaded.answers(found.examples, batch_size=batch_size, progress=progress)
        lines = _WRITERS[wanted](task, found, answers)
        if out is None:
            for line in lines:
                typer.echo(line, nl=False)
            return
        from shoestring.files import write_lines

        write_lines(out, lines)
    count = "1 row" if len(found.rows) == 1 else f"{len(found.rows)} rows"
    screen.err().print(f"{out}: {count}, labelled by {loaded.task.name}, {run.name}", markup=False)


def _refuse_written(task: Task, found: Unlabelled, kind: str, file: str) -> None:
    """Refuse rows with a column of a name that an answer's has."""
    from shoestring.errors import DataError

    columns = _answer_columns(task)
    # jsonl has the scores as an object of their own.
    written = ["scores" if kind == "jsonl" and name.startswith(_SCORE) else name for name in columns]
    if taken := next((name for name in found.columns if name in written), None):
        where = "standard input" if file == "-" else file
        raise DataError(where, f"has a column {taken!r}, which predict writes; call it something else")


def _format_of(out: Path | None, file: str) -> str:
    """Return the format to write: that of `out`, else that of the file that is read where it can be written."""
    kind = (out or Path(file)).suffix.lower().removeprefix(".")
    if kind in FORMATS:
        return kind
    if out is not None:
        raise typer.BadParameter(f"--out {out}: the name should end in .{', .'.join(FORMATS)}, or give --format")
    return "jsonl" if kind == "json" else "tsv"


def _jsonl(_: Task, found: Unlabelled, answers: Iterable[Answer]) -> Iterator[str]:
    for row, answer in zip(found.rows, answers, strict=True):
        yield json.dumps({**row, **answer.row()}, ensure_ascii=False) + "\n"


def _csv(task: Task, found: Unlabelled, answers: Iterable[Answer]) -> Iterator[str]:
    columns = _answer_columns(task)
    yield _csv_line([*found.columns, *columns])
    for row, answer in zip(found.rows, answers, strict=True):
        yield _csv_line([_cell(value) for value in (*map(row.get, found.columns), *_values(answer, columns))])


def _tsv(task: Task, found: Unlabelled, answers: Iterable[Answer]) -> Iterator[str]:
    columns = _answer_columns(task)
    yield "\t".join([*found.columns, *columns]) + "\n"
    for row, answer in zip(found.rows, answers, strict=True):
        # tsv has no quoting: what would part columns or lines becomes a space.
        cells = map(_cell, (*map(row.get, found.columns), *_values(answer, columns)))
        yield "\t".join(cell.translate(_ONE_LINE) for cell in cells) + "\n"


_ONE_LINE = str.maketrans("\t\r\n", "   ")
_WRITERS: dict[str, Callable[[Any, Any, Any], Iterator[str]]] = {"csv": _csv, "tsv": _tsv, "jsonl": _jsonl}


def _answer_columns(task: Task) -> list[str]:
    if task.range is not None or not task.has_scores:
        return ["prediction"]
    titles = ["title"] if any(label.title for label in task.labels) else []
    scores = [_SCORE + name for name in task.label_names] or ["scores"]
    return ["prediction", *titles, "probability", *scores]


def _values(answer: Answer, columns: Sequence[str]) -> list[Any]:
    found = answer.row() | {_SCORE + name: value for name, value in (answer.scores or {}).items()}
    values = (found.get(name) for name in columns)
    return [f"{value:.6g}" if isinstance(value, float) else value for value in values]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _csv_line(cells: Sequence[str]) -> str:
    line = io.StringIO(newline="")
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue()
