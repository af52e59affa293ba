"""Values that pydantic would take for something else than was meant."""

from __future__ import annotations

from typing import Any

import pytest

from shoestring.errors import ConfigError
from shoestring.runs.config import load_config

BASE: dict[str, Any] = {
    "task": "SST-2",
    "data": {"source": "data"},
    "model": {"kind": "masked", "name": "roberta-large"},
    "method": {"kind": "mezo"},
}


def test_true_and_false_are_no_numbers() -> None:
    wrong = ["method.patience=true", "method.lr=false", "data.k=true", "output.keep_model=true"]
    with pytest.raises(ConfigError) as caught:
        load_config(None, wrong, BASE)
    assert sorted(str(caught.value).splitlines()[1:]) == [
        "  data.k: got True: should be a whole number",
        "  method.lr: got False: should be a number",
        "  method.patience: got True: should be a whole number",
    ]
    config = load_config(None, ["output.keep_model=true", "method.patience=1"], BASE)
    assert config.output.keep_model


@pytest.mark.parametrize("key", ["output.folder", "model.name", "data.source", "task"])
def test_a_place_without_a_name_is_refused(key: str) -> None:
    """An unset variable of the shell would else mean the current folder."""
    with pytest.raises(ConfigError, match=rf"{key}: .*''"):
        load_config(None, [f"{key}="], BASE)
