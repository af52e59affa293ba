"""What the trainer and the objectives refuse."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tiny
from shoestring.errors import ModelError, OptimizerError
from shoestring.methods.catalog.mezo import MeZO
from shoestring.training.fit import train
from shoestring.training.objective import OBJECTIVES

pytestmark = pytest.mark.usefixtures("frozen_imports")


def test_an_optimizer_that_needs_gradients_is_refused_where_none_are_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(MeZO, "optimizer", lambda self, model, seed: torch.optim.SGD(model.parameters(), lr=self.lr))
    with pytest.raises(OptimizerError, match="SGD is no ZerothOrder optimizer, yet needs no backward pass"):
        train(tiny.job(tiny.prompted("roberta", "masked"), tmp_path, MeZO(steps=1, lr=1e-3)), log=lambda line: None)


def test_values_without_a_range_have_no_place_between_two_poles() -> None:
    subject = tiny.prompted("roberta", "masked")
    batch = subject.collate(tiny.encoded(subject, 3))
    with pytest.raises(ModelError, match=r"task tiny has no \[range\], so its values cannot be placed between two"):
        OBJECTIVES.get("regression").losses(subject, batch)
