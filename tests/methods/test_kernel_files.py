"""Kernels of files in the place of those that a run computes: the same answers, and nothing that is not of the run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from methods.test_kernel import THREE, config, subject_of
from shoestring.data.splits import draw
from shoestring.errors import ConfigError, KernelStoreError, UnknownNameError
from shoestring.kernels import Published, Request, compute_kernels, outputs_of, read_published, write_published
from shoestring.kernels.formulas.base import FORMULAS
from shoestring.methods.base import Given
from shoestring.methods.catalog.kernel import KernelRegression
from shoestring.models.prompted import PromptedModel
from shoestring.progress import Silent
from shoestring.runs.record import read_record
from shoestring.runs.run import prepare, run

Splits = dict[str, Any]


def splits_of(subject: PromptedModel, seed: int = 5) -> Splits:
    """Return 8 examples to train on, 4 dev and 6 test examples, no two of one uid."""
    every = tiny.encoded(subject, 18, seed=seed)
    return {"train": every[:8], "dev": every[8:12], "test": every[12:]}


def write(subject: PromptedModel, splits: Splits, folder: Path, formula: str = "sgd") -> dict[str, str]:
    """Write kernels as LM-Kernel-FT does, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    entry = FORMULAS.get(formula)
    for name, items in splits.items():
        names = (formula,) if entry.symmetric else (formula, entry.flipped)
        columns = None if name == "train" else items
        found = compute_kernels(Request(outputs_of(subject), splits["train"], columns, names))
        labels = torch.tensor([prompt.label for prompt in items])
        labels = labels * 2 - 1 if len(subject.task.labels) == 2 else labels
        both = [found[one].values for one in names]
        write_published(folder / f"{name}.pt", Published(both[0], labels, None if entry.symmetric else both[1]))
    return {name: str(folder / f"{name}.pt") for name in splits}


def given_of(subject: PromptedModel, splits: Splits, folder: Path) -> Given:
    order = {name: [prompt.uid for prompt in items] for name, items in splits.items()}
    train, dev = splits["train"], splits["dev"]
    return Given(subject, train, dev, 13, folder, lambda _: None, Silent(), tiny.Unmeasured(), 32, order=order)


@pytest.mark.parametrize(
    ("labels", "settings"),
    [
        (("terrible", "great"), {"solver": {"kind": "ridge", "f0_scaling": 1.0}}),
        (("terrible", "great"), {"formula": "signgd", "grid": {"regularization": [0.0, 0.1]}}),
        (("terrible", "great"), {"formula": "asymmetric-signgd", "solver": {"kind": "asymmetric", "mix": 0.5}}),
        (("terrible", "great"), {"formula": "asymmetric-signgd-flipped", "solver": "ridge"}),
        (("terrible", "great"), {"solver": {"kind": "descent", "steps": 5}}),
        (THREE, {"solver": "ridge"}),
    ],
)
def test_kernels_of_files_give_what_the_run_would_compute(
    labels: tuple[str, ...], settings: dict[str, Any], tmp_path: Path
) -> None:
    subject = subject_of(labels)
    splits = splits_of(subject)
    # The published files have signs on the side of the training examples first.
    formula = settings.get("formula", "sgd").replace("-flipped", "")
    files = write(subject, splits, tmp_path / "files", formula)
    own, other = (
        KernelRegression(**settings, **more).fit(given_of(subject, splits, tmp_path / str(number)))
        for number, more in enumerate(({}, {"files": files}))
    )
    test = splits["test"]
    scores = own.predictor.predict(test, 4)
    torch.testing.assert_close(other.predictor.predict(test, 4), scores, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(other.predictor.predict(test[2:5], 4), scores[2:5], rtol=1e-9, atol=1e-9)
    assert other.facts.get("selected") == own.facts.get("selected")
    assert sorted(other.facts["files"]) == ["dev", "test", "train"]
    assert all(len(digest) == 16 for digest in other.facts["files"].values())


SWAPPED = [1, 0, *range(2, 6)]


def altered(**changes: Callable[[Published], Published]) -> Callable[..., dict[str, str]]:
    """Return what writes the right files and changes some of them."""

    def make(subject: PromptedModel, splits: Splits, folder: Path) -> dict[str, str]:
        files = write(subject, splits, folder)
        for name, change in changes.items():
            write_published(Path(files[name]), change(read_published(Path(files[name]))))
        return files

    return make


def truncated(subject: PromptedModel, splits: Splits, folder: Path) -> dict[str, str]:
    files = write(subject, splits, folder)
    path = Path(files["train"])
    path.write_bytes(path.read_bytes()[:500])
    return files


def gone(subject: PromptedModel, splits: Splits, folder: Path) -> dict[str, str]:
    files = write(subject, splits, folder)
    Path(files["train"]).unlink()
    return files


def elsewhere(subject: PromptedModel, splits: Splits, folder: Path) -> dict[str, str]:
    model = tiny.build_model("roberta", "masked", seed=3).double()
    return write(dataclasses.replace(subject, model=model), splits, folder)


OTHER = "of other examples, another model or other weights than this run: the kernel of "
ORDER = "of another task or seed, or of examples in another order: "
REFUSED: dict[str, tuple[Callable[..., dict[str, str]], str]] = {
    "seed": (lambda one, _, folder: write(one, splits_of(one, seed=8), folder), OTHER + "train:"),
    "rows": (altered(test=lambda f: dataclasses.replace(f, kernel=f.kernel.flip(0))), "test.pt is " + OTHER),
    "model": (elsewhere, OTHER),
    "labels": (
        altered(train=lambda f: dataclasses.replace(f, labels=-f.labels)),
        ORDER + "train:0 has the label 0 in this run and 1 there",
    ),
    "order": (
        altered(test=lambda f: Published(f.kernel[:, :, SWAPPED], f.labels[SWAPPED])),
        "test.pt is " + ORDER + "train:12",
    ),
    "task": (
        lambda _, __, folder: write(subject_of(THREE), splits_of(subject_of(THREE)), folder),
        r"of another task or split: its kernel is \[8, 3, 8, 3\], and this run has \[8, 1, 8, 1\]",
    ),
    "number": (
        lambda one, splits, folder: write(one, {**splits, "train": splits["train"][:6]}, folder),
        r"its kernel is \[6, 1, 6, 1\], and this run has \[8, 1, 8, 1\]",
    ),
    "both directions": (
        lambda one, splits, folder: write(one, splits, folder, "asymmetric-signgd"),
        "holds both directions, of an asymmetric formula, but method.formula='sgd'",
    ),
    "truncated": (truncated, "train.pt is damaged"),
    "not finite": (altered(train=lambda f: dataclasses.replace(f, kernel=f.kernel * float("nan"))), OTHER),
    "gone": (gone, "train.pt: there is no such file"),
    "a split": (
        lambda one, splits, folder: write(one, {key: splits[key] for key in ("train", "dev")}, folder),
        r"method\.files has no kernel of the split 'test'; it has train, dev",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_kernels_that_are_not_of_the_run_are_refused(kind: str, tmp_path: Path) -> None:
    make, message = REFUSED[kind]
    subject = subject_of()
    splits = splits_of(subject)
    files = make(subject, splits, tmp_path / "files")

    def solve() -> None:
        outcome = KernelRegression(files=files).fit(given_of(subject, splits, tmp_path))
        outcome.predictor.predict(splits["test"], 4)

    with pytest.raises(KernelStoreError, match=message):
        solve()


def test_a_file_of_one_direction_is_refused_to_an_asymmetric_formula(tmp_path: Path) -> None:
    subject = subject_of()
    splits = splits_of(subject)
    method = KernelRegression(files=write(subject, splits, tmp_path / "files"), formula="asymmetric-signgd")
    with pytest.raises(KernelStoreError, match=r"holds one direction, but method\.formula='asymmetric-signgd'"):
        method.fit(given_of(subject, splits, tmp_path))


def test_a_split_that_there_is_not_and_examples_of_none_are_named(tmp_path: Path) -> None:
    subject = subject_of()
    splits = splits_of(subject)
    files = write(subject, splits, tmp_path / "files")
    with pytest.raises(UnknownNameError, match=r"method\.files: unknown split 'tset'; did you mean 'test'"):
        KernelRegression(files=files | {"tset": files["test"]}).fit(given_of(subject, splits, tmp_path))
    outcome = KernelRegression(files=files).fit(given_of(subject, splits, tmp_path))
    stranger = dataclasses.replace(splits["test"][0], uid="elsewhere:3")
    with pytest.raises(KernelStoreError, match="elsewhere:3 is in no split of this run"):
        outcome.predictor.predict([stranger], 4)


def test_a_run_takes_kernels_of_files(tiny_masked_folder: Path, tiny_original: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"method": {"kind": "kernel", "solver": "ridge"}, "tuning": {"kind": "bitfit"}}
    own = config(tiny_masked_folder, tiny_original, tmp_path / "own", **settings)
    prepared = prepare(own, draw(own.task, own.data, own.seed))
    files = write(prepared.subject, dict(prepared.prompts), tmp_path / "files")
    method = {"method": settings["method"] | {"files": files}}
    other = config(tiny_masked_folder, tiny_original, tmp_path / "other", **(settings | method))
    records = [run(one) for one in (own, other)]
    assert records[0].metrics == records[1].metrics
    assert records[1].facts["files"].keys() == {"train", "dev", "test"}
    elsewhere = config(tiny_masked_folder, tiny_original, tmp_path / "third", seed=21, **(settings | method))
    with pytest.raises(KernelStoreError, match="of other examples, another model or other weights than this run"):
        run(elsewhere)
    failed = read_record(elsewhere.folder)
    assert failed is not None
    assert failed.status == "failed"


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ({"files": {"test": "x.pt"}}, "files has no kernel of the training examples, `train`; it has test"),
        ({"files": {"train": "x.pt"}, "cosine": True}, "cosine has no effect on kernels of files"),
        ({"files": {"train": "x.pt"}, "projection": 3}, "projection has no effect on kernels of files"),
    ],
)
def test_settings_that_files_leave_no_room_for_are_refused(method: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(Path("model"), Path("data"), Path("out"), method={"kind": "kernel"} | method)
