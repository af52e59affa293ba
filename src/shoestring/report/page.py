"""The page: one HTML file with its style, its script and its data in it, which asks nothing of any network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from importlib import resources
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

Json = dict[str, Any]
_PAGE = "page"
NOTES_SHOWN = 4


def render(data: Json, title: str) -> str:
    """Return the page of `page_data`. Its table is there without a script; all else is drawn from the data."""
    folder = resources.files("shoestring.report").joinpath(_PAGE)
    text = folder.joinpath("page.html").read_text(encoding="utf-8")
    parts = {
        "title": escape(title),
        "facts": escape(_facts(data)),
        "style": folder.joinpath("style.css").read_text(encoding="utf-8"),
        "script": "\n".join(_scripts(folder)),
        "table": _table(data),
        "caption": escape(data["caption"][:1].upper() + data["caption"][1:]),
        "notes": _notes(data["notes"]),
        "data": embedded(data),
    }
    # Split once: what is put in is never looked into for further places.
    pieces = text.split("{{")
    return pieces[0] + "".join(_filled(piece, parts) for piece in pieces[1:])


def embedded(data: Json) -> str:
    """Return JSON that no HTML parser takes for anything else, whatever texts are in it."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def _filled(piece: str, parts: dict[str, str]) -> str:
    name, _, rest = piece.partition("}}")
    return parts[name.strip()] + rest


def _scripts(folder: Traversable) -> list[str]:
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".js")), key=lambda file: file.name)
    return [file.read_text(encoding="utf-8") for file in files]


def _table(data: Json) -> str:
    columns, rows = data["table"]["columns"], data["table"]["rows"]
    heads = "".join(
        f'<th scope="col" class="{column["align"]}"><button type="button" class="sort">{escape(column["head"])}'
        "</button></th>"
        for column in columns
    )
    body = "\n".join(_row(at, row, columns) for at, row in enumerate(rows))
    return f"<thead><tr>{heads}</tr></thead>\n<tbody>\n{body}\n</tbody>"


def _row(at: int, row: Sequence[Json], columns: Sequence[Json]) -> str:
    cells = []
    for number, (cell, column) in enumerate(zip(row, columns, strict=True)):
        value = cell["values"][0]
        key = "" if value is None else f' data-value="{escape(str(value))}"'
        tag = 'th scope="row"' if number == 0 else "td"
        cells.append(f'<{tag} class="{column["align"]}"{key}>{escape(cell["text"])}</{tag.split()[0]}>')
    return f'<tr data-row="{at}">{"".join(cells)}</tr>'


def _notes(notes: Sequence[str]) -> str:
    """Return notes as a list; many of them are folded."""
    if not notes:
        return ""
    items = [f"<li{' class=inner' if note.startswith('  ') else ''}>{escape(note.strip())}</li>" for note in notes]
    if len(items) <= NOTES_SHOWN:
        return f'<ul class="notes">{"".join(items)}</ul>'
    return f'<details class="notes"><summary>{len(items)} notes</summary><ul>{"".join(items)}</ul></details>'


def _facts(data: Json) -> str:
    runs = data["runs"]
    parts = [_count(runs["total"], "run"), _count(runs["tasks"], "task"), _count(runs["seeds"], "seed")]
    if runs["unfinished"]:
        parts.append(f"{runs['unfinished']:,} of the runs did not finish")
    return ", ".join(parts)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
