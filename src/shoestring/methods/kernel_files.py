"""Kernels that were computed elsewhere, in the files of LM-Kernel-FT, as what a run solves."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from shoestring.errors import KernelStoreError, UnknownNameError
from shoestring.kernels.compute import Request, compute_kernels
from shoestring.kernels.formulas.base import FORMULAS
from shoestring.kernels.outputs import Outputs, batches_of, outputs_of
from shoestring.kernels.published import Published, read_published
from shoestring.kernels.solvers.gram import Gram
from shoestring.kernels.solvers.targets import targets_of
from shoestring.models.prompted import evaluating

if TYPE_CHECKING:
    from shoestring.methods.base import Given
    from shoestring.methods.catalog.kernel import KernelRegression
    from shoestring.progress import Progress
    from shoestring.prompts.encoding import EncodedPrompt

Prompts = Sequence["EncodedPrompt"]
TRAIN = "train"
_TOLERANCE = 0.02
"""How far entries may be from those computed here, next to the product of the norms of both gradients: another
implementation rounds otherwise, and signs of small gradients turn."""
_TWO = 2


@dataclass(frozen=True)
class KernelFiles:
    """Kernels of files, one for each split: training examples against the split's, in the run's order of examples.

    What a file can be told from is compared with the run's own examples: numbers of examples and outputs, labels, and
    the entries of the first and the last example of both sides with those that the run's model gives.
    """

    method: KernelRegression
    given: Given
    parameters: Sequence[str]
    _read: dict[str, Published] = field(default_factory=dict)
    _checked: set[str] = field(default_factory=set)

    @property
    def resumed(self) -> bool:
        """Return False: nothing is computed."""
        return False

    @property
    def facts(self) -> dict[str, Any]:
        """Digests of the files, for the record."""
        found = {}
        for split, path in self.method.files.items():
            with Path(path).open("rb") as file:
                found[split] = hashlib.file_digest(file, "sha256").hexdigest()[:16]
        return {"files": found}

    def gram(self, rows: Prompts, columns: Prompts | None, batch_size: int, progress: Progress) -> Gram:
        """Return the kernel of training examples and others, or themselves.

        Raises:
            UnknownNameError: if a file is given for a split that there is not.
            KernelStoreError: if a file is missing or damaged, or of other examples, labels, outputs, formula or model.
        """
        items = rows if columns is None else columns
        split, places = self._place(TRAIN if columns is None else None, items)
        outputs = outputs_of(self.given.subject)
        whole = self._file(split, rows, outputs)
        part = torch.tensor(places)
        self._check(split, whole, items, places, outputs)
        values, flipped = whole.kernel[:, :, part], whole.kernel[:, :, part]
        if whole.flipped is not None:
            flipped = whole.flipped[:, :, part]
        starts = self._starts(outputs, items, batch_size, progress) if self._needs_start() else None
        return Gram(values, starts, flipped, {"formula": self.method.formula})

    def _order(self) -> Mapping[str, Sequence[str]]:
        own = {TRAIN: self.given.train, "dev": self.given.dev}
        return self.given.order or {name: [prompt.uid for prompt in prompts] for name, prompts in own.items()}

    def _place(self, split: str | None, items: Prompts) -> tuple[str, list[int]]:
        """Return the split that examples are of, and their places in it."""
        order = self._order()
        for name in self.method.files:
            if name not in order:
                raise UnknownNameError("split", name, order, "method.files")
        names = [split] if split is not None else [name for name in order if name != TRAIN]
        for name in names:
            places = {uid: place for place, uid in enumerate(order[name])}
            if all(prompt.uid in places for prompt in items):
                return name, [places[prompt.uid] for prompt in items]
        raise KernelStoreError(f"{items[0].uid} is in no split of this run, so method.files has no kernel of it")

    def _file(self, split: str, rows: Prompts, outputs: Outputs) -> Published:
        """Return a split's file, whose sizes and formula are those of the run."""
        if split in self._read:
            return self._read[split]
        if split not in self.method.files:
            raise KernelStoreError(
                f"method.files has no kernel of the split {split!r}; it has {', '.join(self.method.files)}"
            )
        path = Path(self.method.files[split])
        found = read_published(path)
        formula = FORMULAS.get(self.method.formula)
        if (found.flipped is None) != formula.symmetric:
            has = "one direction" if found.flipped is None else "both directions, of an asymmetric formula"
            raise KernelStoreError(f"{path} holds {has}, but method.formula={self.method.formula!r}")
        if found.flipped is not None and formula.left.name != "sign":
            found = Published(found.flipped, found.labels, found.kernel)
        with torch.no_grad():
            count = outputs.values(rows[:1]).shape[1]
        wanted = (len(rows), count, len(self._order()[split]), count)
        if tuple(found.kernel.shape) != wanted:
            raise KernelStoreError(
                f"{path} is of another task or split: its kernel is {list(found.kernel.shape)}, and this run has "
                f"{list(wanted)}, training examples x outputs x examples of {split} x outputs"
            )
        self._read[split] = found
        return found

    def _check(self, split: str, whole: Published, items: Prompts, places: Sequence[int], outputs: Outputs) -> None:
        """Compare labels, and once for each split some entries."""
        path, task, train = self.method.files[split], self.given.subject.task, self.given.train
        labels = torch.tensor([prompt.label for prompt in items], dtype=torch.float64)
        # Of two labels the published files have -1 and 1.
        signs = targets_of(task, items, 1)[:, 0] if len(task.labels) == _TWO and task.range is None else labels
        known = whole.labels.double()[torch.tensor(places)]
        if not (torch.equal(known, labels) or torch.equal(known, signs)):
            bad = int(((known != labels) & (known != signs)).int().argmax())
            raise KernelStoreError(
                f"{path} is of another task or seed, or of examples in another order: {items[bad].uid} has the label "
                f"{items[bad].label} in this run and {known[bad]:g} there"
            )
        if split in self._checked:
            return
        rows, columns = (sorted({0, count - 1}) for count in (len(train), len(items)))
        formula = FORMULAS.get(self.method.formula)
        request = Request(
            outputs, [train[n] for n in rows], [items[n] for n in columns], (formula.name,), self.parameters
        )
        mine = compute_kernels(request, self.method.compute)[formula.name]
        theirs = whole.kernel[torch.tensor(rows)][:, :, torch.tensor([places[n] for n in columns])]
        size = mine.row_norms[:, :, None, None] * mine.column_norms
        gaps = (theirs - mine.values).abs() / size.clamp_min(torch.finfo(size.dtype).tiny)
        worst = gaps.nan_to_num(torch.inf).argmax()
        if not float(gaps.view(-1)[worst]) <= _TOLERANCE:
            row, _, column, _ = (int(place) for place in torch.unravel_index(worst, gaps.shape))
            raise KernelStoreError(
                f"{path} is of other examples, another model or other weights than this run: the kernel of "
                f"{train[rows[row]].uid} and {items[columns[column]].uid} is {float(theirs.reshape(-1)[worst]):.6g} "
                f"there and {float(mine.values.reshape(-1)[worst]):.6g} with this run's model, prompt, seed and tuning"
            )
        self._checked.add(split)

    def _needs_start(self) -> bool:
        return any(solver.scaling is not None for _, solver in self.method.solvers())

    def _starts(self, outputs: Outputs, items: Prompts, batch_size: int, progress: Progress) -> Tensor:
        """Return the outputs of the run's model [M, C], which files do not have."""
        found: list[Tensor] = []
        places = batches_of(outputs, items, batch_size)
        with torch.no_grad(), evaluating(outputs.model), progress.bar("outputs", len(items)) as bar:
            for batch in places:
                found.append(outputs.values([items[place] for place in batch]).to("cpu", torch.float64))
                bar.advance(len(batch))
        order = torch.tensor([place for batch in places for place in batch]).argsort()
        return torch.cat(found)[order]
