"""What holds for every granularity, scorer and architecture."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import tiny
from shoestring.seeds import isolated
from shoestring.tuning.apet.scoring import SCORERS
from shoestring.tuning.catalog.apet import APET
from tuning.apet.conftest import MODELS, chosen, count, loss_of, trained, tune

pytestmark = pytest.mark.usefixtures("frozen_imports")
GRANULARITIES = ("element", "row", "tensor", "module")
BUDGET = 700
CASES = [(one, scorer, *model) for one in GRANULARITIES for scorer in SCORERS.names() for model in MODELS]


@pytest.mark.parametrize(("granularity", "scorer", "architecture", "kind"), CASES)
def test_outputs_stay_the_budget_is_kept_and_only_chosen_weights_move(
    granularity: str, scorer: str, architecture: str, kind: str
) -> None:
    subject = tiny.prompted(architecture, kind)
    prompts = tiny.encoded(subject, 4)
    before, start = subject.predict(prompts, 4), tiny.weights(subject.model)
    head = sum(value.numel() for name, value in start.items() if kind == "head" and name.startswith("classifier"))
    model = tune(subject, APET.model_validate({"budget": BUDGET, "granularity": granularity, "scorer": scorer}))
    # To the last digits: a head that is no plain layer any more is applied for the whole vocabulary.
    torch.testing.assert_close(subject.predict(prompts, 4), before, rtol=1e-6, atol=1e-6)
    if granularity == "element":
        assert count(model) == BUDGET + head
    else:
        assert 0 < count(model) <= BUDGET + head
    optimizer = torch.optim.SGD(trained(model), lr=0.1)
    loss_of(subject)().backward()
    optimizer.step()
    pristine = {name for name, param in model.named_parameters() if not param.requires_grad}
    for name, param in model.named_parameters():
        if name in pristine:
            assert torch.equal(param, start[name]), name
    tuned = subject.predict(prompts, 4)
    assert not torch.equal(tuned, before)
    places = chosen(model)
    APET().merge(subject.model)
    torch.testing.assert_close(subject.predict(prompts, 4), tuned, rtol=1e-4, atol=1e-5)
    assert {name for name, _ in model.named_parameters()} == start.keys()
    for name, param in model.named_parameters():
        moved = (param != start[name]).view(-1).nonzero().view(-1).tolist()
        assert set(moved) <= set(places.get(name, ())), name


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("scorer", SCORERS.names())
def test_a_choice_depends_on_its_seed_and_on_nothing_else(granularity: str, scorer: str) -> None:
    tuning = APET.model_validate({"budget": 300, "granularity": granularity, "scorer": scorer})

    def choice(seed: int, global_seed: int) -> dict[str, list[int]]:
        with isolated(global_seed):
            return chosen(tune(tiny.prompted("roberta", "masked"), tuning, seed))

    assert choice(1, 1) == choice(1, 2)
    if scorer == "random":
        assert choice(1, 1) != choice(2, 1)


COUNTED: dict[str, dict[str, Any]] = {
    "element": {},
    "fisher": {"scorer": "fisher"},
    "tensor": {"granularity": "tensor"},
    "magnitude": {"granularity": "row", "scorer": "magnitude"},
    "inserted": {"over": "half", "insert": ["lora"], "scorer": "magnitude"},
    "inserted rows": {"over": "inserted", "insert": ["lora"], "scorer": "magnitude", "granularity": "row"},
    "published": {"compat": "pet-scaling", "budget": 1500},
}


@pytest.mark.parametrize(("architecture", "kind"), MODELS)
@pytest.mark.parametrize("case", COUNTED)
def test_the_declared_count_is_the_counted_one(architecture: str, kind: str, case: str) -> None:
    tuning = APET.model_validate({"budget": 400, "seed": 5, **COUNTED[case]})
    subject = tiny.prompted(architecture, kind)
    before = tiny.weights(subject.model)
    declared = tuning.count(subject.model)
    assert tiny.equal(tiny.weights(subject.model), before)
    assert declared == count(tune(subject, tuning, 0))


def test_the_seed_of_the_settings_goes_before_that_of_the_run() -> None:
    runs = [
        chosen(APET(budget=50, seed=own).apply(tiny.build_model("opt", "causal"), seed))
        for own, seed in ((None, 1), (1, 2), (2, 1))
    ]
    assert runs[0] == runs[1] != runs[2]
