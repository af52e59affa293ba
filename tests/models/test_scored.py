"""Candidates that part before their answers begin: only the answers' own tokens are scored."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import tiny
from reference import scoring_twin
from shoestring.models.batch import collate
from shoestring.prompts.encoding import EncodedPrompt

pytestmark = pytest.mark.usefixtures("frozen_imports")
# The first candidate's tokens begin with two of the prompt, the second's with one.
PARTED = EncodedPrompt("train:0", (0, 31, 32), (0,) * 3, 2, ((7, 8, 9), (20, 21)), 1, 0, scored=(1, 1))
PLAIN = EncodedPrompt("train:1", (0, 41), (0,) * 2, 1, ((17,), (18, 19)), 0, 0)


def test_the_mask_of_what_is_scored_covers_the_end_of_each_candidate() -> None:
    batch = collate([PARTED, PLAIN], pad_id=1)
    assert batch["option_mask"].tolist() == [[[1, 1, 1], [1, 1, 0]], [[1, 0, 0], [1, 1, 0]]]
    assert batch["option_scored"].tolist() == [[[0, 0, 1], [0, 1, 0]], [[1, 0, 0], [1, 1, 0]]]


@pytest.mark.parametrize("architecture", ["opt", "llama"])
def test_what_stands_before_an_answer_is_read_and_not_scored(architecture: str) -> None:
    subject = tiny.prompted(architecture, "causal", dtype=torch.float64)
    whole = [replace(PARTED, ids=(0, 31, 32, *option[:-1]), options=(option[-1:],), scored=(), label=0)
             for option in PARTED.options]  # fmt: skip
    wanted = [scoring_twin.causal_scores(subject.model, [one])[0][0] for one in whole]
    wanted = [wanted, scoring_twin.causal_scores(subject.model, [PLAIN])[0]]
    found = subject.predict([PARTED, PLAIN], batch_size=2)
    torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.float64))
    with torch.no_grad():
        log_probs, counts = subject.answer_log_probs(subject.collate([PARTED]))
    assert counts.tolist() == [1.0]
    torch.testing.assert_close(log_probs[0], found[0, 1])


def test_what_is_taught_is_what_batches_hold() -> None:
    taught = replace(PLAIN, ids=(0, 40, 41, 42), position=3)
    batch = collate([replace(PLAIN, taught=taught), PARTED], pad_id=1)
    assert batch["input_ids"].tolist() == [[0, 40, 41, 42], [0, 31, 32, 1]]
    assert batch["position"].tolist() == [3, 2]
