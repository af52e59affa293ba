"""What a budget buys."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

import tiny
from reference import apet_twin
from shoestring.errors import ConfigError, ModelError, UnknownNameError
from shoestring.training.objective import OBJECTIVES
from shoestring.tuning.apet.choose import Chooser
from shoestring.tuning.apet.elementwise import Elementwise
from shoestring.tuning.apet.scorers.magnitude import Magnitude
from shoestring.tuning.apet.scorers.random import Random
from shoestring.tuning.apet.sites import sites_of
from shoestring.tuning.catalog.apet import APET
from shoestring.tuning.catalog.lora import LoRA
from tuning.apet.conftest import chosen, count, look, tune

pytestmark = pytest.mark.usefixtures("frozen_imports")


@pytest.mark.parametrize("architecture", ["roberta", "gpt2", "llama", "opt"])
@pytest.mark.parametrize("budget", [1, 4096, "lora", 0.05])
def test_budgets_of_elements_are_exact(architecture: str, budget: int | float | str) -> None:
    kind = "masked" if architecture == "roberta" else "causal"
    model = tiny.build_model(architecture, kind)
    wanted = budget
    if isinstance(budget, float):
        wanted = round(budget * sum(param.numel() for param in model.parameters()))
    elif isinstance(budget, str):
        wanted = count(LoRA().apply(tiny.build_model(architecture, kind), 0))
    tuned = APET(budget=budget).apply(model, 3)
    assert count(tuned) == wanted
    places = chosen(tuned)
    assert sum(map(len, places.values())) == wanted
    assert all(one == sorted(set(one)) for one in places.values())


@pytest.mark.parametrize("scorer", ["random", "magnitude", "fisher"])
def test_a_budget_of_all_weights_trains_whole_tensors(scorer: str) -> None:
    subject = tiny.prompted("opt", "causal")
    names = [name for name, _ in subject.model.named_parameters()]
    model = tune(subject, APET.model_validate({"budget": 1.0, "scorer": scorer}))
    assert [name for name, param in model.named_parameters() if param.requires_grad] == names


def test_random_elements_are_anywhere_with_the_same_chance() -> None:
    layer = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    sites = sites_of(layer)
    total, budget, draws = sum(site.size for site in sites), 5, 600
    seen: Counter[tuple[str, int]] = Counter()
    for seed in range(draws):
        choice = Chooser("element", Random(), seed).choose(sites, budget)
        for site in sites:
            places = choice.get(site.name, torch.empty(0))
            seen.update((site.name, place) for place in (range(site.size) if places is None else places.tolist()))
    assert len(seen) == total
    chance = budget / total
    error = (draws * chance * (1 - chance)) ** 0.5
    assert all(abs(number - draws * chance) < 4.5 * error for number in seen.values())


@pytest.mark.parametrize("granularity", ["row", "tensor", "module"])
def test_random_portions_are_drawn_with_the_same_chance_whatever_their_size(granularity: Any) -> None:
    layers = nn.Sequential(*(nn.Linear(3, 2, bias=False) for _ in range(3)), nn.Linear(3, 2, bias=False))
    sites = sites_of(layers)
    price = 3 if granularity == "row" else 6
    seen = Counter(name for seed in range(400) for name in Chooser(granularity, Random(), seed).choose(sites, price))
    error = (400 * 0.25 * 0.75) ** 0.5
    assert all(abs(seen[site.name] - 100) < 4 * error for site in sites)


@pytest.mark.parametrize("largest", [True, False])
def test_the_largest_or_smallest_weights_of_all_tensors_are_chosen_ties_in_order(largest: bool) -> None:
    layers = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 6))
    for number, param in enumerate(layers.parameters()):
        param.data = torch.randint(-3, 4, param.shape, generator=torch.Generator().manual_seed(number)).float()
    sites = sites_of(layers)
    sign = 1 if largest else -1
    weights = [
        (-sign * abs(float(value)), place, name, inside)
        for place, (name, inside, value) in enumerate(
            (site.name, inside, value) for site in sites for inside, value in enumerate(site.param.detach().view(-1))
        )
    ]
    for budget in (1, 7, 20, 41):
        choice = Chooser("element", Magnitude(largest=largest), 0).choose(sites, budget)
        wanted: dict[str, list[int]] = {}
        for _, _, name, inside in sorted(weights)[:budget]:
            wanted.setdefault(name, []).append(inside)
        sizes = {site.name: site.size for site in sites}
        found = {name: list(range(sizes[name])) if one is None else one.tolist() for name, one in choice.items()}
        assert found == {name: sorted(places) for name, places in wanted.items()}


@pytest.mark.parametrize("granularity", ["row", "tensor", "module"])
def test_portions_are_bought_from_the_best_to_the_worst_while_they_can_be_paid(granularity: Any) -> None:
    model = tiny.build_model("roberta", "masked")
    sites = sites_of(model)
    portions: dict[tuple[str, int], list[torch.Tensor]] = {}
    for site in sites:
        rows = site.param.detach().view(len(site.param) if site.param.ndim > 1 else 1, -1)
        for number, row in enumerate(rows):
            module = site.name.rpartition(".")[0]
            key = {"row": (site.name, number), "tensor": (site.name, 0), "module": (module, 0)}[granularity]
            portions.setdefault(key, []).append(row)
    ranks = [float(torch.cat([row.double().abs() for row in rows]).mean()) for rows in portions.values()]
    prices = [sum(map(len, rows)) for rows in portions.values()]
    for budget in (100, 1111):
        bought = apet_twin.greedy(prices, ranks, budget)
        wanted = {list(portions)[place][0] for place in bought}
        choice = Chooser(granularity, Magnitude(), 0).choose(sites, budget)
        names = {name.rpartition(".")[0] for name in choice} if granularity == "module" else set(choice)
        assert names == wanted
        size = sum(
            next(site.size for site in sites if site.name == name) if one is None else len(one)
            for name, one in choice.items()
        )
        assert size == sum(prices[place] for place in bought)


def test_fisher_scores_are_squared_gradients_of_one_example_after_another() -> None:
    subject, twin = (tiny.prompted("roberta", "masked", dtype=torch.float64) for _ in range(2))
    prompts = tiny.encoded(twin, 5)
    objective = OBJECTIVES.get("cross-entropy")
    wanted = apet_twin.squared_gradients(
        twin.model, lambda number: objective.loss(twin, twin.collate([prompts[number]])), range(5)
    )
    tuning = APET.model_validate({"scorer": {"kind": "fisher", "examples": 64}})
    sites = sites_of(subject.model)
    scores = tuning.scorer.scores(sites, 3, look(subject, 5))
    for site in sites:
        found = scores.of([site], site.size)
        torch.testing.assert_close(found.double(), wanted[site.name].view(-1), rtol=1e-5, atol=1e-9)
    assert subject.passes.backward == 5


def test_movement_is_how_far_weights_go_and_the_weights_come_back() -> None:
    subject, twin = (tiny.prompted("gpt2", "causal", dtype=torch.float64) for _ in range(2))
    before = tiny.weights(subject.model)
    tuning = APET.model_validate({"scorer": {"kind": "movement", "steps": 3, "lr": 1e-3, "batch_size": 64}})
    sites = sites_of(subject.model)
    scores = tuning.scorer.scores(sites, 3, look(subject, 5))
    assert tiny.equal(tiny.weights(subject.model), before)
    batch = twin.collate(tiny.encoded(twin, 5))
    masks = {name: torch.ones(param.numel()) for name, param in twin.model.named_parameters()}
    objective = OBJECTIVES.get("cross-entropy")
    apet_twin.train(
        twin.model, masks, lambda: objective.loss(twin, batch), lambda params: torch.optim.Adam(params, lr=1e-3), 3
    )
    for site, after in zip(sites, twin.model.parameters(), strict=True):
        wanted = (after - before[site.name]).abs().view(-1)
        torch.testing.assert_close(scores.of([site], site.size).double(), wanted, rtol=1e-3, atol=1e-6)


def test_the_score_of_a_portion_is_the_mean_over_its_weights() -> None:
    layers = nn.Sequential(nn.Linear(2, 3))
    weight, bias = sites_of(layers)
    scores = Elementwise({"0.weight": torch.arange(6.0), "0.bias": torch.tensor([10.0, 20.0, 30.0])})
    assert scores.of([weight], 3).tolist() == [0.5, 2.5, 4.5]
    assert scores.of([weight, bias], 1).tolist() == [75 / 9]


def test_only_weights_in_scope_are_chosen_by_any_of_their_names() -> None:
    model = APET(budget=50, scope=r"layer\.1\..*(query|value)\.weight").apply(tiny.build_model("bert", "masked"), 1)
    assert {name.split("layer.")[1] for name in chosen(model)} == {
        "1.attention.self.query.weight",
        "1.attention.self.value.weight",
    }
    tied = APET(budget=50, scope="lm_head").apply(tiny.build_model("gpt2", "causal"), 1)
    assert chosen(tied).keys() == {"transformer.wte.weight"}


def test_half_of_the_budget_is_for_what_is_inserted() -> None:
    model = APET(budget=301, over="half", insert=("lora",)).apply(tiny.build_model("opt", "causal"), 1)
    places = chosen(model)
    inserted = sum(len(one) for name, one in places.items() if "lora_" in name)
    assert (inserted, count(model)) == (150, 301)
    only = APET(budget=301, over="inserted", insert=("lora",)).apply(tiny.build_model("opt", "causal"), 1)
    assert all("lora_" in name for name in chosen(only))
    assert count(only) == 301


ERRORS: dict[str, tuple[dict[str, Any], str]] = {
    "too much": ({"budget": 10**9}, r"tuning\.budget=1,000,000,000 is more than the [\d,]+ weights .* kind=\"full\""),
    "too much in scope": ({"budget": 4096, "scope": "bias"}, r"more than the [\d,]+ weights .* wider tuning\.scope"),
    "nothing in scope": (
        {"scope": "self.qurey"},
        r"tuning\.scope='self\.qurey' matches no weights to choose from; the nearest are .*self\.query",
    ),
    "no portion": (
        {"budget": 2, "granularity": "row", "scope": r"(query|key)\.weight"},
        r"tuning\.budget=2 buys no row: the smallest, .*weight, has 32 weights; granularity=\"element\" meets every",
    ),
    "no module": (
        {"budget": 30, "granularity": "module"},
        r"buys no module: the smallest, .*token_type_embeddings, has 64 wei",
    ),
    "itself": ({"budget": "apet"}, r"is its own budget"),
    "examples": ({"scorer": "fisher"}, r'tuning\.scorer="fisher" looks at training examples, and none were given'),
    "no addition": ({"over": "half", "insert": ["bitfit"]}, r"tuning\.insert: 'bitfit' adds no weights"),
    "published budget": (
        {"budget": "prefix", "compat": "pet-scaling"},
        r'tuning\.budget="prefix": PET scaling has lora, adapter, soft_prompt, bitfit',
    ),
    "published nothing": ({"budget": 1, "compat": "pet-scaling"}, r"tuning\.budget=1 buys nothing"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_what_cannot_be_bought_is_refused(case: str) -> None:
    table, message = ERRORS[case]
    with pytest.raises(ModelError, match=message):
        APET.model_validate(table).apply(tiny.build_model("bert", "masked"), 0)


def test_counting_refuses_what_applying_refuses() -> None:
    with pytest.raises(ModelError, match="is more than the"):
        APET(budget=10**9).count(tiny.build_model("bert", "masked"))
    tuning = APET.model_validate({"granularity": "row", "scorer": "fisher"})
    with pytest.raises(ModelError, match="looks at training examples"):
        tuning.count(tiny.build_model("bert", "masked"))


def test_an_unknown_tuning_as_a_budget_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown tuning 'lorra'; did you mean 'lora'"):
        APET(budget="lorra").apply(tiny.build_model("bert", "masked"), 0)


def test_a_model_is_not_tuned_twice() -> None:
    model = APET(budget=10).apply(tiny.build_model("bert", "masked"), 0)
    with pytest.raises(ModelError, match="has been tuned by APET already; merge it, or load the base anew"):
        APET(budget=10).apply(model, 0)
    APET(budget=10).merge(model)
    assert count(APET(budget=10).apply(model, 0)) == 10


def test_a_gradient_that_is_not_finite_scores_nothing() -> None:
    subject = tiny.prompted("bert", "masked")
    next(subject.model.parameters()).data.fill_(torch.inf)
    with pytest.raises(ModelError, match=r"has a gradient that is not finite.*model\.dtype=float32"):
        tune(subject, APET.model_validate({"budget": 10, "scorer": "fisher"}))
    assert all(param.grad is None for param in subject.model.parameters())


SETTINGS: dict[str, tuple[dict[str, Any], str]] = {
    "zero": ({"budget": 0}, "0 weights: at least 1 is needed"),
    "negative": ({"budget": -3}, "-3 weights: at least 1 is needed"),
    "whole": ({"budget": 1e9}, r"1000000000\.0 is a fraction .* a number of weights is written 1000000000"),
    "fraction": ({"budget": 1.5}, "1.5 weights: .* a fraction above 0 and up to 1.0"),
    "pattern": ({"scope": "("}, "is not a regular expression"),
    "nothing inserted": ({"over": "half"}, r"over=\"half\" and insert=\[\]"),
    "inserted for nothing": ({"insert": ["lora"]}, r"over=\"backbone\" and insert=\['lora'\]"),
    "compat": ({"compat": "pet-scaling", "granularity": "row"}, "decides what is chosen from.*leave out granularity"),
    "scorer": ({"scorer": "fischer"}, "fischer"),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_settings_that_make_no_sense_are_refused(case: str) -> None:
    table, message = SETTINGS[case]
    with pytest.raises(ValidationError, match=message):
        APET.model_validate(table)


def test_a_config_says_what_is_wrong_with_a_budget() -> None:
    from shoestring.config import build

    with pytest.raises(ConfigError, match="budget: 0 weights: at least 1 is needed"):
        build(APET, {"budget": 0}, "recipe")
    with pytest.raises(ConfigError, match=r"scorer\.kind: there is no 'fischer'; did you mean 'fisher'"):
        build(APET, {"scorer": "fischer"}, "recipe")
