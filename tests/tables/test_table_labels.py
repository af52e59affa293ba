from __future__ import annotations

from runs.records import record
from shoestring.tables.table import Layout, tabulate


def test_values_of_several_lines_are_labels_of_one() -> None:
    runs = [record(prompt__template=f"*sent_0*{gap}It was*mask*") for gap in ("\n", "\n\n", r"\n", "\t")]
    labels = {row[0].text for row in tabulate(runs, Layout(by=("prompt.template",))).rows}
    assert len(labels) == 4
    assert r"*sent_0*\n\nIt was*mask*" in labels
    assert not any(len(label.splitlines()) > 1 for label in labels)


def test_heads_of_keys_with_one_last_part_are_told_apart() -> None:
    table = tabulate([record()], Layout(by=("method.kind", "tuning.kind", "method.lr"), costs=False))
    assert [column.head for column in table.columns[:3]] == ["method.kind", "tuning.kind", "lr"]
