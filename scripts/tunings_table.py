"""Write docs/tuning.md's table of tunings: accuracy of each method, trained weights, bytes of what is saved.

shoestring demo --export playground
shoestring sweep recipes/tunings/demo.toml --out runs-tunings
python scripts/tunings_table.py runs-tunings
"""

from __future__ import annotations

import sys
from pathlib import Path

from shoestring.runs.collect import read_records
from shoestring.runs.folder import MODEL
from shoestring.runs.record import Record
from shoestring.tables.arranging import Arrangement, Layout, arrange
from shoestring.tables.grouping import Mark
from shoestring.tables.views import mean_and_spread

_TOKENIZER = ("tokenizer", "special_tokens", "vocab", "merges", "added_tokens", "chat_template")


def table(folder: Path) -> str:
    """Return the table in markdown, full tuning first, then from many weights to few."""
    found = arrange(read_records([folder]).records, Layout(by=("tuning.kind",), columns="method.kind"))
    methods = [place.mark.name.partition("=")[2] or place.mark.name for place in found.places]
    lines = [f"| `tuning.kind` | weights | saved, kB | {' | '.join(f'`{name}`' for name in methods)} |"]
    lines.append("|---|---|---|" + "---|" * len(methods))
    rows = sorted(found.marks, key=lambda mark: -max(run.trained_weights for run in _records(found, mark)))
    return "\n".join([*lines, *(_row(found, mark, folder) for mark in rows)])


def _row(found: Arrangement, mark: Mark, folder: Path) -> str:
    records = _records(found, mark)
    saved = max(_bytes(folder / record.run_id / MODEL) for record in records)
    cells = [f"`{mark.texts[0]}`", f"{max(run.trained_weights for run in records):,}", f"{saved / 1000:,.1f}"]
    for place in found.places:
        values = [run.metrics[place.test][place.metric] for run in found.chosen.get((mark, place), {}).values()]
        mean, spread, _ = mean_and_spread(values or [float("nan")])
        cells.append(f"{100 * mean:.1f} ({100 * (spread or 0):.1f})")
    return f"| {' | '.join(cells)} |"


def _records(found: Arrangement, mark: Mark) -> list[Record]:
    return [record for picked in found.row(mark) for record in picked.values()]


def _bytes(folder: Path) -> int:
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(_TOKENIZER)]
    return sum(path.stat().st_size for path in files)


if __name__ == "__main__":
    sys.stdout.write(table(Path(sys.argv[1])) + "\n")
