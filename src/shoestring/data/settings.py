"""Where a run's examples come from, and how its train, dev and test sets are made of them."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, PositiveInt, model_validator

from shoestring.config import Settings

Mode = Literal["k-shot", "k-shot-10x", "k-shot-1k-test", "given", "full"]
DrawnMode = Literal["k-shot", "k-shot-10x", "k-shot-1k-test"]
DRAWN_MODES: tuple[DrawnMode, ...] = ("k-shot", "k-shot-10x", "k-shot-1k-test")


class DataSettings(Settings):
    """The `[data]` section of a recipe."""

    source: str | None = None
    """A folder of original files, a local mirror of the hub, or one csv, tsv or jsonl file; the hub unless given."""
    mode: Mode = "k-shot"
    """`k-shot`: k examples per label to train on and k for dev; `k-shot-10x`: up to 10 k for dev; `k-shot-1k-test`: at
    most 1,000 test examples; `given`: the source's own train, dev and test; `full`: all of train."""
    k: PositiveInt = 16
    """Training examples per label; in `given` mode part of the folder name `<k>-<seed>`; refused in `full` mode."""
    allow_fewer: bool = False
    """Whether a label with fewer than 2 k examples gives what it has, as in the published files; else an error."""
    dev_share: float | None = Field(default=None, gt=0, lt=1)
    """`full` mode, where the source has no dev set: share of train drawn for dev (0.1 unless given)."""
    tests: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Test sets to read, such as `test` and `test-mismatched`; all that the task has unless given."""
    test_source: str | None = None
    """File or folder of the test examples, where that is not `source`."""
    max_test: PositiveInt | None = None
    """At most so many examples of each test set: the first of one fixed random order, the same for every seed."""
    text_columns: tuple[str, ...] | None = None
    """Columns of the texts, where `source` is one file with named columns; the task's own unless given."""
    label_column: str | None = None
    """Column of the label, where `source` is one file with named columns; the task's own, or `label`, unless given."""
    revision: str | None = None
    """Revision of the hub data set (branch, tag or commit); the task's own unless given."""

    @model_validator(mode="after")
    def _nothing_ignored(self) -> Self:
        problems: list[str] = []
        if self.revision is not None and self.source is not None:
            problems.append("data.revision is for the hub; a source on this machine has no revisions")
        if self.allow_fewer and self.mode not in DRAWN_MODES:
            problems.append(f"data.allow_fewer is for k-shot draws, not for mode {self.mode!r}")
        if self.dev_share is not None and self.mode != "full":
            problems.append(f"data.dev_share is for mode 'full', not for mode {self.mode!r}")
        if self.mode == "full" and self.k != type(self).model_fields["k"].default:
            problems.append(f"data.k={self.k} has no effect in mode 'full', which takes all of train")
        if problems:
            raise ValueError("; ".join(problems))
        return self
