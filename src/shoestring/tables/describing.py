"""One line for a run, as messages name it."""

from __future__ import annotations

from pathlib import PurePath
from textwrap import shorten
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shoestring.runs.record import Record

FAILURES_SHOWN = 5


def describe(record: Record) -> str:
    """Return one line that tells a run from others and, where it did not finish, what its error was."""
    method, model = record.config["method"]["kind"], PurePath(record.config["model"]["name"]).name
    error = (record.error or "").strip().splitlines()
    why = f": {shorten(error[0], 120, placeholder=' ...')}" if error else ""
    return f"{record.task}, {model}, {method}, seed {record.config['seed']}, run {record.run_id}: {record.status}{why}"
