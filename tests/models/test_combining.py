"""Scores of several inputs become those of one example by the published formulas, written out here candidate by
candidate."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from shoestring.models.combining import calibrated, combined, inputs_of
from shoestring.models.prompted import predictions
from shoestring.prompts.encoding import EncodedPrompt
from shoestring.tasks.load import load_task

PLAIN = EncodedPrompt("test:0", (1, 2), (0, 0), 1, ((5,), (6,), (7,)), 0, 0)


def way(calibrations: int) -> EncodedPrompt:
    return replace(PLAIN, calibrations=(PLAIN,) * calibrations)


def rows(count: int, candidates: int = 3, seed: int = 0) -> list[Tensor]:
    found = 4 * torch.randn(count, candidates, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return list(found)


def softmax(scores: Tensor) -> list[float]:
    total = sum(math.exp(score) for score in scores.tolist())
    return [math.exp(score) / total for score in scores.tolist()]


def test_scores_are_averaged_over_the_ways_of_asking():
    prompt = replace(PLAIN, variants=(PLAIN,) * 4)
    found = rows(5)
    wanted = [sum(float(row[candidate]) for row in found) / 5 for candidate in range(3)]
    torch.testing.assert_close(combined(prompt, found, None), torch.tensor(wanted, dtype=torch.float64))
    assert torch.equal(combined(PLAIN, found[:1], None), found[0])


def test_of_poles_the_value_is_averaged():
    task = load_task("STS-B")
    assert task.range is not None
    prompt = replace(PLAIN, options=((5,), (6,)), variants=(PLAIN,) * 3)
    found = rows(4, candidates=2)
    values = [task.range.low + (task.range.high - task.range.low) * softmax(row)[1] for row in found]
    scores = combined(prompt, found, None, poles=True)
    assert float(predictions(task, scores[None])) == pytest.approx(sum(values) / 4, abs=1e-12)
    assert float(predictions(task, combined(prompt, found, None)[None])) != pytest.approx(sum(values) / 4, abs=1e-3)


def test_surface_form_calibration_of_log_probabilities_is_their_difference_in_each_way_of_asking():
    prompt = replace(way(1), variants=(way(1),))
    found = rows(4)
    wanted = ((found[0] - found[1]) + (found[2] - found[3])) / 2
    torch.testing.assert_close(combined(prompt, found, "surface-form"), wanted)


def test_surface_form_calibration_of_logits_is_the_published_one_but_for_what_all_candidates_share():
    prompt = replace(way(1), variants=(way(1), way(1)))
    found = rows(6)
    published = []
    for scores, without in zip(found[::2], found[1::2], strict=True):
        p, q = softmax(scores), softmax(without)
        published.append([math.log(p[candidate]) - math.log(q[candidate]) for candidate in range(3)])
    wanted = torch.tensor(published, dtype=torch.float64).mean(0)
    ours = combined(prompt, found, "surface-form")
    torch.testing.assert_close(ours - ours[0], wanted - wanted[0])
    torch.testing.assert_close(ours.log_softmax(-1), wanted.log_softmax(-1))


def test_contextual_calibration_divides_by_the_mean_probability_without_content():
    found = rows(4)
    p, priors = softmax(found[0]), [softmax(row) for row in found[1:]]
    wanted = [math.log(p[c]) - math.log(sum(prior[c] for prior in priors) / 3) for c in range(3)]
    torch.testing.assert_close(combined(way(3), found, "contextual"), torch.tensor(wanted, dtype=torch.float64))


def test_a_question_about_nothing_has_equal_scores_after_calibration():
    (row,) = rows(1)
    assert torch.equal(calibrated(row, [row], "surface-form"), torch.zeros(3, dtype=torch.float64))
    torch.testing.assert_close(calibrated(row, [row, row], "contextual"), torch.zeros(3, dtype=torch.float64))


def test_inputs_come_way_by_way_each_followed_by_its_calibrations():
    other = replace(PLAIN, uid="other")
    calibration = replace(PLAIN, uid="nothing")
    prompt = replace(PLAIN, variants=(replace(other, calibrations=(calibration,)),), calibrations=(calibration,) * 2)
    assert [item.uid for item in inputs_of(prompt)] == ["test:0", "nothing", "nothing", "other", "nothing"]
