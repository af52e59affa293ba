"""From folders of runs to a page on disk."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from shoestring.files import make_folder, write_text
from shoestring.report.data import Limits, page_data
from shoestring.report.logs import Logs
from shoestring.report.page import render
from shoestring.report.refusing import elsewhere, noted
from shoestring.runs.collect import read_records
from shoestring.tables.table import Layout

PAGE = "index.html"


def write_report(
    runs: Iterable[Path],
    out: Path,
    layout: Layout | None = None,
    *,
    title: str | None = None,
    limits: Limits | None = None,
) -> Path:
    """Write the page of the runs in these folders; return its path. It is whole or not there.

    Args:
        runs: folders of runs, or run folders.
        out: a file that ends in `.html`, or a folder, in which the page is `index.html`.
        layout: what the table shows; the rows of every figure are its rows.
        title: the page's title; by default the names of the folders.
        limits: how much of many runs the page holds.

    Raises:
        RunFolderError: if there are no runs, or none has finished.
        UnknownNameError: if the layout names a key or a metric that no run has.
        OutputError: if the page cannot be written.
    """
    places = [Path(path) for path in runs]
    layout = layout or Layout()
    logs = Logs(read_records(places))
    with noted(logs.found.notes):
        data = page_data(logs.found.records, logs, layout, limits)
    page = render(data, title or ", ".join(dict.fromkeys(path.resolve().name for path in places)))
    file = out if out.suffix.lower() in (".html", ".htm") else out / PAGE
    with elsewhere("--html"):
        make_folder(file.parent)
        write_text(file, page)
    return file
