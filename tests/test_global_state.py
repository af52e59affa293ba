"""Nothing a run does is felt by its caller: random generators, environment, torch's switches."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tiny
from shoestring.methods.base import METHODS
from shoestring.runs.run import run

pytestmark = pytest.mark.usefixtures("frozen_imports")
FOLDERS = {"masked": "tiny_masked_folder", "causal": "tiny_causal_folder", "head": "tiny_masked_folder"}
# A head takes no prompt, so nothing can be demonstrated to it.
CASES = [(name, kind) for name in METHODS.names() for kind in FOLDERS if (name, kind) != ("in-context", "head")]


def global_states() -> tuple[Any, ...]:
    numpy_state = np.random.get_state()  # noqa: NPY002
    return (
        random.getstate(),
        repr(numpy_state),
        torch.get_rng_state().numpy().tobytes(),
        dict(os.environ),
        torch.is_grad_enabled(),
        torch.get_default_dtype(),
        torch.are_deterministic_algorithms_enabled(),
        torch.get_num_threads(),
    )


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_a_run_leaves_the_process_as_it_found_it(
    name: str, kind: str, tiny_original: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    model = {"kind": kind, "name": str(request.getfixturevalue(FOLDERS[kind]))}
    prompt = {"demonstrations": {"kind": "per-label", "samples": 2}} if name == "in-context" else {}
    method = tiny.short(name).model_dump()
    config = tiny.config(Path(model["name"]), tiny_original, tmp_path, model=model, method=method, prompt=prompt)
    before = global_states()
    record = run(config)
    assert global_states() == before
    assert record.status == "ok"


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_run_does_not_depend_on_the_global_generators(
    kind: str, tiny_original: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    model = {"kind": kind, "name": str(request.getfixturevalue(FOLDERS[kind]))}
    method = {"kind": "adam", "steps": 3, "batch_size": 4, "lr": 1e-3}
    tuning = {"kind": "lora", "dropout": 0.3}
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - what a caller may have done
        config = tiny.config(
            Path(model["name"]), tiny_original, tmp_path / str(seed), model=model, method=method, tuning=tuning
        )
        found.append(run(config).metrics)
    assert found[0] == found[1]
