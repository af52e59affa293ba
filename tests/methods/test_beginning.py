"""Training that begins at a linear probe against the same model with scikit-learn's solution put in by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from shoestring.errors import ConfigError, DataError, ModelError, TrajectoryError
from shoestring.methods.base import METHODS, Given, Outcome
from shoestring.methods.catalog.linear_probe import LinearProbe
from shoestring.models.prompted import PromptedModel
from shoestring.progress import Silent
from shoestring.prompts.encoding import EncodedPrompt
from shoestring.runs.config import load_config
from shoestring.runs.replay import replay_run
from shoestring.runs.run import run
from shoestring.tuning.catalog.full import Full
from shoestring.tuning.catalog.lora import LoRA

pytestmark = pytest.mark.usefixtures("frozen_imports", "global_random_states")
WORDS = ("terrible", "great", "fine")
C = 0.5
PROBE: dict[str, Any] = {"kind": "linear-probe", "strengths": (C,), "tolerance": 1e-10}
# Architecture, kind of model, labels; a causal model's output layer has no bias, nor has Llama's classifier.
CASES = {
    "head": ("roberta", "head", 3),
    "head without biases": ("llama", "head", 3),
    "two labels": ("roberta", "head", 2),
    "masked": ("roberta", "masked", 3),
    "causal": ("llama", "causal", 3),
}
CASE = pytest.mark.parametrize("case", CASES)


def subject_of(case: str) -> PromptedModel:
    architecture, kind, labels = CASES[case]
    subject = tiny.prompted(
        architecture, kind, task=tiny.task_of(WORDS[:labels]), dtype=torch.float64, labels=labels, pad_token_id=1
    )
    Full(embeddings="untied" if kind == "masked" else "as-is").apply(subject.model, seed=0)
    return subject


def prompts_of(subject: PromptedModel, count: int = 12, seed: int = 5) -> list[EncodedPrompt]:
    labels = len(subject.task.labels)
    return [replace(one, label=number % labels) for number, one in enumerate(tiny.encoded(subject, count, seed))]


def fit(name: str, subject: PromptedModel, folder: Path, **changes: Any) -> Outcome:
    short = {"steps": 2, "eval_every": 1, "batch_size": 12, "lr": 1e-3, "select": "last"}
    method = METHODS.get(name)(**((short if METHODS.get(name).trains else {}) | changes))
    train, dev = prompts_of(subject), prompts_of(subject, 6, seed=6)
    return method.fit(Given(subject, train, dev, 13, folder, lambda line: None, Silent(), tiny.Unmeasured(), 4))


def put_by_hand(subject: PromptedModel) -> None:
    """Read the last layer's input with a hook of its own, ask scikit-learn, and write its solution row by row."""
    from sklearn.linear_model import LogisticRegression

    model, train, features = subject.model, prompts_of(subject), []
    head = {"roberta": "classifier.out_proj", "llama": "score"}[model.config.model_type]
    layer: Any = model.get_submodule(head) if not subject.scorer.has_vocabulary else model.get_output_embeddings()
    bias = layer.bias is not None
    for prompt in train:
        seen: list[torch.Tensor] = []
        handle = layer.register_forward_pre_hook(lambda _, given, seen=seen: seen.append(given[0]))
        with torch.no_grad():
            model(input_ids=torch.tensor([prompt.ids]))
        handle.remove()
        states = seen[0]
        at = prompt.position if prompt.position is not None else len(prompt.ids) - 1
        features.append(states[0] if states.ndim == 2 else states[0, at])
    solver = LogisticRegression(C=C, fit_intercept=bias, tol=1e-10, max_iter=5000)
    solver.fit(torch.stack(features).numpy(), [prompt.label for prompt in train])
    weight, shift = torch.from_numpy(solver.coef_), torch.from_numpy(solver.intercept_)
    if len(solver.classes_) == 2:
        weight, shift = torch.cat([-weight, weight]) / 2, torch.cat([-shift, shift]) / 2
    for label in range(len(solver.classes_)):
        row = train[0].options[label][0] if subject.scorer.has_vocabulary else label
        layer.weight.data[row] = weight[label]
        if bias:
            layer.bias.data[row] = shift[label]


@CASE
@pytest.mark.parametrize("kind", ["adam", "sgd", "mezo"])
def test_training_goes_on_from_the_solution_put_in_by_hand(case: str, kind: str, tmp_path: Path) -> None:
    subject, twin = subject_of(case), subject_of(case)
    done = fit(kind, subject, tmp_path / "one", begin=PROBE)
    put_by_hand(twin)
    wanted = fit(kind, twin, tmp_path / "two")
    prompts = prompts_of(subject, 5, seed=7)
    found, other = (outcome.predictor.predict(prompts, 4) for outcome in (done, wanted))
    torch.testing.assert_close(found, other, atol=2e-6, rtol=2e-6)
    begin = done.facts["begin"]
    assert begin["c"] == C
    assert begin["converged"]
    assert begin["features"] == 32
    assert "begin" not in wanted.facts


@pytest.mark.parametrize("case", ["head", "masked"])
def test_kernels_are_of_the_model_with_the_solution(case: str, tmp_path: Path) -> None:
    subject, twin = subject_of(case), subject_of(case)
    done = fit("kernel", subject, tmp_path / "one", begin=PROBE)
    put_by_hand(twin)
    prompts = prompts_of(subject, 5, seed=7)
    found, wanted = (o.predictor.predict(prompts, 4) for o in (done, fit("kernel", twin, tmp_path / "two")))
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
    assert done.facts["begin"]["c"] == C


@CASE
def test_before_the_first_step_scores_are_those_of_the_probe(case: str, tmp_path: Path) -> None:
    subject = subject_of(case)
    probe = {**PROBE, "intercept": CASES[case][0] != "llama"}
    prompts = prompts_of(subject, 5, seed=7)
    wanted = fit("linear-probe", subject, tmp_path / "one", **probe).predictor.predict(prompts, 4)
    found = fit("adam", subject, tmp_path / "two", begin=PROBE, lr=0.0).predictor.predict(prompts, 4)
    torch.testing.assert_close(found.log_softmax(-1), wanted, atol=1e-6, rtol=1e-6)


def test_values_begin_at_ridge_regression(tmp_path: Path) -> None:
    task = tiny.task_of(**tiny.REGRESSION)
    subject = tiny.prompted("roberta", "head", task=task, dtype=torch.float64, labels=1)
    train = [replace(p, label=float(n % 6)) for n, p in enumerate(tiny.encoded(tiny.prompted("roberta", "head"), 12))]

    def fitted(kind: str, **changes: Any) -> torch.Tensor:
        method = METHODS.get(kind)(**changes)
        given = Given(subject, train, train, 13, tmp_path / kind, lambda line: None, Silent(), tiny.Unmeasured(), 4)
        return method.fit(given).predictor.predict(train, 4)

    wanted = fitted("linear-probe", strengths=(0.1,))
    found = fitted("adam", lr=0.0, steps=1, begin={"kind": "linear-probe", "strengths": (0.1,)})
    torch.testing.assert_close(found, wanted, atol=1e-9, rtol=1e-9)


def test_a_layer_without_biases_has_a_probe_without_and_standardised_features_change_nothing_of_that() -> None:
    from shoestring.methods.probing import Data, fit_linear

    x = torch.randn(20, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64) * 3 + 1
    prompts = [EncodedPrompt(f"train:{n}", (1,), (0,), 0, (), n % 2, 0) for n in range(20)]
    settings = LinearProbe(intercept=False, standardise=True, tolerance=1e-10)
    made = fit_linear(settings, Data(prompts, x.numpy()), C, classes=True)
    weight = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight], max_iter=500, tolerance_grad=1e-11, line_search_fn="strong_wolfe")
    signs = torch.tensor([2.0 * (n % 2) - 1 for n in range(20)])

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        z = signs * ((x / x.std(0, correction=0)) @ weight)
        loss = -C * torch.nn.functional.logsigmoid(z).sum() + (weight**2).sum() / 2
        loss.backward()
        return loss

    optimizer.step(closure)
    wanted = weight.detach() / x.std(0, correction=0)
    torch.testing.assert_close(torch.from_numpy(made.weight), torch.stack([-wanted, wanted]) / 2, atol=1e-6, rtol=1e-6)
    assert made.bias.tolist() == [0.0, 0.0]


def test_what_cannot_hold_a_probe_is_refused(tmp_path: Path) -> None:
    tied = tiny.prompted("roberta", "masked")
    with pytest.raises(ModelError, match=r'method\.begin: input and output embedding .* one matrix.*="untied"'):
        fit("adam", tied, tmp_path, begin="linear-probe")
    frozen = tiny.prompted("llama", "causal")
    LoRA(r=2).apply(frozen.model, seed=0)
    with pytest.raises(ModelError, match=r"does not train lm_head\.weight, which .* tuning\.also"):
        fit("adam", frozen, tmp_path, begin="linear-probe")
    long = tiny.prompted("llama", "causal", task=tiny.task_of(("terrible", "quite unheard of")))
    with pytest.raises(ModelError, match=r"a label word of tiny is more than one token .* other prompt\.label_words"):
        fit("adam", long, tmp_path, begin="linear-probe")
    capped = tiny.prompted("gemma2", "causal", tie_word_embeddings=False)
    with pytest.raises(ModelError, match=r"Gemma2ForCausalLM does more to what its output layer gives"):
        fit("adam", capped, tmp_path, begin={"kind": "linear-probe", "strengths": (1e4,)})
    three = tiny.prompted("roberta", "head", task=tiny.task_of(WORDS), labels=3)
    train = tiny.encoded(three, 8)
    given = Given(three, train, train, 13, tmp_path, lambda line: None, Silent(), tiny.Unmeasured(), 4)
    with pytest.raises(DataError, match=r"method\.begin='linear-probe': no training example is of label 2"):
        METHODS.get("adam")(begin="linear-probe").fit(given)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "features": ({"begin": {"kind": "linear-probe", "features": "mean"}}, r"reads nothing but 'label-word'"),
    "folds": (
        {"begin": {"kind": "linear-probe", "choose_on": "dev", "folds": 3}},
        r"method\.begin\.folds has no effect with method\.begin\.choose_on='dev'",
    ),
    "calibration": ({"begin": "linear-probe", "prompt": {"calibration": "contextual"}}, r"prompt\.calibration with"),
    "values": ({"begin": "linear-probe", "task": "STS-B"}, r"between two label words, .* model\.kind=\"head\""),
    "own answers": (
        {"begin": "linear-probe", "task": "mezo/COPA", "model": {"kind": "causal", "name": "opt"}},
        r"method\.begin tells labels apart, .* answers of their own",
    ),
    "unknown": ({"begin": "probe"}, r"begin"),
}


@pytest.mark.parametrize("kind", ["adam", "mezo", "kernel"])
@pytest.mark.parametrize("case", REFUSED)
def test_what_makes_no_sense_is_refused_when_the_config_is_built(case: str, kind: str) -> None:
    changes, match = REFUSED[case]
    table = {"task": "SST-2", "data": {"source": "data"}, "model": {"kind": "masked", "name": "roberta"}}
    table |= {key: value for key, value in changes.items() if key != "begin"}
    with pytest.raises(ConfigError, match=match):
        load_config(None, table={**table, "method": {"kind": kind, "begin": changes["begin"]}})


def test_a_run_records_where_it_began_and_its_log_is_not_replayed(
    tiny_masked_folder: Path, tiny_original: Path, tmp_path: Path
) -> None:
    method = {"kind": "mezo", "steps": 2, "eval_every": 1, "batch_size": 4, "lr": 1e-3, "begin": "linear-probe"}
    model = {"kind": "head", "name": str(tiny_masked_folder)}
    config = tiny.config(tiny_masked_folder, tiny_original, tmp_path, method=method, model=model)
    record = run(config)
    assert record.facts["begin"]["features"] == 32
    assert record.config["method"]["begin"]["kind"] == "linear-probe"
    assert record.facts["steps"] == 2
    with pytest.raises(TrajectoryError, match=r"began at a linear probe .* output\.keep_model=true"):
        replay_run(config.folder / "trajectory.bin", tmp_path / "out")
