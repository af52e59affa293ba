"""Tables as parquet files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shoestring.files import make_folder, write_bytes
from shoestring.tables.grouping import NOTHING

if TYPE_CHECKING:
    from shoestring.tables.cells import TableData


def write_parquet(table: TableData, path: Path) -> None:
    """Write, at once, the columns of csv with types of their own; caption and notes are in the schema's metadata.

    Numbers are unscaled, what is not known or not there is null.

    Raises:
        OutputError: if the disk refuses.
    """
    import pyarrow as arrow
    from pyarrow import parquet

    names = [name for column in table.columns for name in column.csv]
    rows = [[None if value == NOTHING else value for cell in row for value in cell.values] for row in table.rows]
    columns = [_column(arrow, [row[at] for row in rows]) for at in range(len(names))]
    about = {"caption": table.caption, "notes": "\n".join(table.notes)}
    made = arrow.Table.from_arrays(columns, names=names).replace_schema_metadata(about)
    content = io.BytesIO()
    parquet.write_table(made, content)
    make_folder(path.parent)
    write_bytes(path, content.getvalue())


def _column(arrow: Any, values: list[Any]) -> Any:
    given = [value for value in values if value is not None]
    if given and all(isinstance(value, int | float) and not isinstance(value, bool) for value in given):
        kind = arrow.int64() if all(isinstance(value, int) for value in given) else arrow.float64()
    elif given and all(isinstance(value, bool) for value in given):
        kind = arrow.bool_()
    else:
        kind, values = arrow.string(), [None if value is None else str(value) for value in values]
    return arrow.array(values, kind)
