"""Where a run's examples come from, and how its train, dev and test sets are made of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from shoestring.config import Settings

Mode = Literal["k-shot", "k-shot-10x", "k-shot-1k-test", "given", "full", "subset"]
DrawnMode = Literal["k-shot", "k-shot-10x", "k-shot-1k-test"]
DRAWN_MODES: tuple[DrawnMode, ...] = ("k-shot", "k-shot-10x", "k-shot-1k-test")


class DataSettings(Settings):
    """The `[data]` section of a recipe."""

    source: str | None = Field(default=None, min_length=1)
    """A folder of original files, a local mirror of the hub, or one csv, tsv, jsonl or json file; the hub unless
    given."""
    mode: Mode = "k-shot"
    """`k-shot`: k examples per label to train on and k for dev; `k-shot-10x`: up to 10 k for dev; `k-shot-1k-test`: at
    most 1,000 test examples; `given`: the source's own train, dev and test; `full`: all of train; `subset`: `num_train`
    and `num_dev` of train and `num_eval` of test, as in the large-model experiments of MeZO."""
    k: PositiveInt = 16
    """Training examples per label, or in all where the task has no labels; in `given` mode part of the folder name
    `<k>-<seed>`; refused in `full` and `subset` mode."""
    num_train: NonNegativeInt | None = None
    """`subset` mode, needed there: training examples, drawn without regard to labels. With 0, and no `num_dev`, the
    source may be a test set alone."""
    num_dev: NonNegativeInt | None = None
    """`subset` mode: dev examples, drawn along with the training examples, of which they are the last; if train is too
    small for both, dev keeps its size. None unless given."""
    num_eval: PositiveInt | None = None
    """`subset` mode: test examples, drawn with the same seed; all of them, in their own order, unless given."""
    per_example: bool = False
    """`subset` mode: a training set of its own for each test example, for in-context learning; the seeds are the
    published ones."""
    seed: int | None = Field(default=None, ge=0, lt=2**32)
    """Seed of the draw, where that is not the run's own (MeZO's `train_set_seed`)."""
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
        if problems := [*problems, *self._about_subsets()]:
            raise ValueError("; ".join(problems))
        return self

    def _about_subsets(self) -> Iterable[str]:
        if self.mode != "subset":
            given = [key for key in ("num_train", "num_dev", "num_eval", "per_example") if self._given(key)]
            yield from (f"data.{key} is for mode 'subset', not for mode {self.mode!r}" for key in given)
            return
        if self.num_train is None:
            yield "mode 'subset' needs data.num_train; 0 where nothing is trained or demonstrated"
        if self._given("k"):
            yield f"data.k={self.k} has no effect in mode 'subset', which counts by data.num_train"
        if self.max_test is not None:
            yield "data.max_test has no effect in mode 'subset', which counts by data.num_eval"
        if not self.per_example:
            return
        if self.num_train == 0:
            yield "data.per_example needs data.num_train, the size of each training set"
        if self.num_dev:
            yield "data.num_dev is for one training set; data.per_example draws many"
        if self.seed is not None:
            yield "data.seed has no effect with data.per_example, whose sets have the published seeds"

    def _given(self, key: str) -> bool:
        return getattr(self, key) != type(self).model_fields[key].default

    @property
    def wants_train(self) -> bool:
        """Whether anything is taken from train; if not, the source may be without it."""
        return self.mode != "subset" or bool(self.num_train) or bool(self.num_dev)
