from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runs.records import record
from shoestring.errors import OutputError, UnknownNameError
from shoestring.runs.record import Record, SplitSizes
from shoestring.tables.parquet import write_parquet
from shoestring.tables.significance import paired
from shoestring.tables.table import Layout, TableData, tabulate

SEEDS = (13, 21, 42, 87, 100)
MEZO, ADAM = (0.60, 0.62, 0.58, 0.61, 0.59), (0.70, 0.71, 0.66, 0.73, 0.70)


def runs(method: str, numbers: tuple[float, ...], **settings: Any) -> list[Record]:
    return [record(value, seed=seed, method=method, **settings) for seed, value in zip(SEEDS, numbers, strict=False)]


def column(table: TableData, head: str = "SST-2") -> dict[str, Any]:
    at = [one.head for one in table.columns].index(head)
    return {row[1].text: row[at] for row in table.rows}


def test_a_median_has_its_range() -> None:
    cell = column(tabulate(runs("mezo", (0.9, 0.5, 0.6)), Layout(median=True)))["mezo"]
    assert cell.text == "60.0 (50.0 to 90.0, 3)"
    assert cell.values == (0.6, 0.5, 0.9, 3)
    assert column(tabulate(runs("mezo", (0.9, 0.5)), Layout(median=True)))["mezo"].values[0] == pytest.approx(0.7)
    table = tabulate(runs("mezo", (0.9,)), Layout(median=True, columns="seed"))
    assert "90.0" in [cell.text for cell in table.rows[0]]
    assert "median (lowest to highest" in tabulate(runs("mezo", (0.9,)), Layout(median=True)).caption


def test_rows_are_compared_with_one_of_them_on_the_same_seeds() -> None:
    table = tabulate(runs("mezo", MEZO) + runs("adam", ADAM), Layout(versus="mezo"))
    found, expected = column(table), paired(ADAM, MEZO)
    assert found["mezo"].text == "60.0"
    assert found["adam"].values == (expected.mean, expected.sd, 5, expected.t, expected.flips)
    assert found["adam"].text == f"+10.0 (1.4, 5) {expected.t:.0e} 0.062"
    assert "difference to minilm-mlm, mezo on the same splits" in table.caption
    assert "not corrected for the number of comparisons" in " ".join(table.notes)
    assert [part for one in table.columns for part in one.csv][2:7] == [
        f"SST-2 accuracy {part}" for part in ("difference", "sd", "pairs", "p t", "p flips")
    ]


def test_a_seed_without_a_partner_is_left_out_and_one_pair_has_no_p() -> None:
    table = tabulate(runs("mezo", MEZO[:1]) + runs("adam", ADAM[:2]), Layout(versus="mezo"))
    assert column(table)["adam"].text == "+10.0 (–, 1)"  # noqa: RUF001
    table = tabulate(runs("mezo", MEZO, task="trec") + runs("adam", ADAM), Layout(versus="mezo"))
    assert column(table)["adam"].text == "–"  # noqa: RUF001
    assert column(table)["mezo"].text == "–"  # noqa: RUF001


def test_runs_on_other_data_are_no_pair() -> None:
    def drawn(run: Record, digest: str) -> Record:
        return run.model_copy(update={"split": SplitSizes(digest=digest, train=1, dev=1, tests={}, truncated=0)})

    mine = [drawn(run, "a") for run in runs("adam", ADAM[:3])]
    base = [drawn(run, digest) for run, digest in zip(runs("mezo", MEZO[:3]), "aab", strict=True)]
    table = tabulate(mine + base, Layout(versus="mezo"))
    assert column(table)["adam"].values[2] == 2
    assert "not paired, the data being others: seeds 42" in table.notes


def test_a_row_to_compare_with_that_is_none_or_several_is_refused() -> None:
    both = runs("mezo", MEZO) + runs("adam", ADAM)
    with pytest.raises(UnknownNameError, match=r"unknown row 'adma'; did you mean 'adam'\? Allowed: adam, mezo$"):
        tabulate(both, Layout(versus="adma"))
    with pytest.raises(
        UnknownNameError, match=r"unknown single row 'minilm-mlm'.*Allowed: 'minilm-mlm, adam', 'minilm-mlm, mezo'$"
    ):
        tabulate(both, Layout(versus="minilm-mlm"))


def test_parquet_has_the_columns_of_csv_with_types(tmp_path: Path) -> None:
    from pyarrow import parquet

    table = tabulate(runs("mezo", MEZO) + runs("adam", ADAM[:1]), Layout())
    write_parquet(table, tmp_path / "deep" / "table.parquet")
    found = parquet.read_table(tmp_path / "deep" / "table.parquet")
    assert found.column_names == [name for one in table.columns for name in one.csv]
    rows = {row["method"]: row for row in found.to_pylist()}
    assert rows["mezo"]["SST-2 accuracy mean"] == pytest.approx(0.6)
    assert rows["adam"]["SST-2 accuracy sd"] is None
    assert str(found.schema.field("SST-2 accuracy n").type) == "int64"
    assert str(found.schema.field("model").type) == "string"
    assert found.schema.metadata[b"caption"].decode() == table.caption
    assert "missing seeds" in found.schema.metadata[b"notes"].decode()


def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        write_parquet(tabulate(runs("mezo", MEZO)), tmp_path / "file" / "table.parquet")
