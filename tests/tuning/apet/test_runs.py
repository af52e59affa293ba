"""APET in runs: looking at examples, checkpoints, logs, records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from shoestring.errors import ConfigError, ModelError
from shoestring.runs.looking import apply_tuning, look_at
from shoestring.runs.replay import replay_run
from shoestring.runs.run import run
from shoestring.training.objective import OBJECTIVES
from shoestring.tuning.apet.load import load_delta
from shoestring.tuning.catalog.apet import APET
from tuning.apet.conftest import chosen

pytestmark = pytest.mark.usefixtures("frozen_imports")
ADAM = {"kind": "adam", "steps": 4, "batch_size": 4, "lr": 1e-2, "eval_every": 2}


def config(folder: Path, data: Path, out: Path, tuning: dict[str, Any], **sections: Any) -> Any:
    return tiny.config(folder, data, out, tuning={"kind": "apet", **tuning}, **sections)


def loaded(folder: Path) -> Any:
    import transformers

    return transformers.AutoModelForMaskedLM.from_pretrained(folder)


def test_a_run_keeps_a_small_file_that_gives_its_model_again(
    tiny_masked_folder: Path, tiny_original: Path, tmp_path: Path
) -> None:
    settings = config(
        tiny_masked_folder, tiny_original, tmp_path, {"budget": 300}, method=ADAM, output={"keep_model": True}
    )
    record = run(settings)
    assert record.status == "ok"
    assert record.weights is not None
    assert record.weights.trained == 300
    kept = settings.folder / "model"
    assert (kept / "delta.safetensors").stat().st_size < 12_000
    model = load_delta(loaded(tiny_masked_folder), kept)
    values = [param for param in model.parameters() if param.requires_grad]
    assert sum(param.numel() for param in values) == 300
    assert any(bool(param.any()) for param in values)


def test_a_zeroth_order_run_is_made_again_from_its_log(
    tiny_masked_folder: Path, tiny_original: Path, tmp_path: Path
) -> None:
    method = {"kind": "mezo", "steps": 4, "batch_size": 4, "lr": 1e-2, "eval_every": 4, "select": "last"}
    settings = config(
        tiny_masked_folder, tiny_original, tmp_path, {"budget": 300}, method=method, output={"keep_model": True}
    )
    run(settings)
    replay_run(settings.folder / "trajectory.bin", tmp_path / "again")
    one, other = (settings.folder / "model" / "delta.safetensors", tmp_path / "again" / "delta.safetensors")
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("scorer", ["fisher", "movement"])
def test_a_run_lets_a_scorer_look_at_training_examples_and_counts_its_passes(
    scorer: str, tiny_masked_folder: Path, tiny_original: Path, tmp_path: Path
) -> None:
    tuning = {"budget": 300, "scorer": scorer}
    plain = run(config(tiny_masked_folder, tiny_original, tmp_path, {"budget": 300}, method=ADAM))
    record = run(config(tiny_masked_folder, tiny_original, tmp_path, tuning, method=ADAM))
    looks = {"fisher": 8, "movement": 16}[scorer]  # eight examples, one by one; sixteen steps
    assert record.passes is not None
    assert plain.passes is not None
    assert record.passes.backward == plain.passes.backward + looks
    assert record.passes.forward == plain.passes.forward + looks


def test_what_training_minimises_is_looked_at_unless_it_has_no_gradient() -> None:
    subject = tiny.prompted("roberta", "masked")
    prompts = tiny.encoded(subject, 4)
    batch = subject.collate(prompts)
    for objective, used in (
        ("language-model", "language-model"),
        ("accuracy", "cross-entropy"),
        (None, "cross-entropy"),
    ):
        found = look_at(subject, prompts, objective)
        assert found.count == 4
        torch.testing.assert_close(found.losses(range(4)), OBJECTIVES.get(used).losses(subject, batch))
    before = subject.passes.backward
    with torch.no_grad():
        look_at(subject, prompts).losses([0])
    assert subject.passes.backward == before


def test_a_tuning_that_does_not_look_is_applied_as_ever() -> None:
    one, other = (tiny.prompted("roberta", "masked") for _ in range(2))
    model = apply_tuning(APET(budget=30), one, [], 5)
    assert chosen(model) == chosen(APET(budget=30).apply(other.model, 5))
    other = tiny.prompted("roberta", "masked")
    with pytest.raises(ModelError, match="looks at training examples, and none were given"):
        apply_tuning(APET.model_validate({"scorer": "fisher"}), other, [], 5)


def test_a_recipe_names_the_scorer_by_a_word_or_by_its_settings(
    tiny_masked_folder: Path, tiny_original: Path, tmp_path: Path
) -> None:
    def identity(tuning: dict[str, Any]) -> str:
        return config(tiny_masked_folder, tiny_original, tmp_path, tuning).run_id

    assert identity({"scorer": "fisher"}) == identity({"scorer": {"kind": "fisher", "examples": 64}})
    assert identity({"scorer": "fisher"}) != identity({})
    with pytest.raises(ConfigError, match=r"tuning\.budget: 0 weights: at least 1 is needed"):
        identity({"budget": 0})
    with pytest.raises(ConfigError, match=r"tuning\.scorer\.kind: there is no 'magnitud'; did you mean 'magnitude'"):
        identity({"scorer": {"kind": "magnitud"}})
