from __future__ import annotations

from typing import Any

import pytest

import tiny
from shoestring.config import build
from shoestring.errors import ConfigError
from shoestring.models.settings import GenerationSettings
from shoestring.tasks.spec import Generation


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"sampling": True, "beams": 2}, "beams look for the likeliest answer and sampling draws one"),
        ({"temperature": 0.5}, "temperature has no effect without sampling=true"),
        ({"top_p": 0.5}, "top_p has no effect without sampling=true"),
        ({"beams": 0}, "beams: got 0"),
        ({"sampling": True, "top_p": 0}, "top_p: got 0"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(GenerationSettings, table, "test")


def test_settings_go_before_what_the_task_says() -> None:
    task = tiny.task_of().model_copy(update={"generation": Generation(max_new_tokens=7, stop="#")})
    assert GenerationSettings().applied_to(task) is task
    assert GenerationSettings(max_new_tokens=3).applied_to(task).generation == Generation(max_new_tokens=3, stop="#")
    assert GenerationSettings(stop="").applied_to(task).generation == Generation(max_new_tokens=7, stop=None)
    assert GenerationSettings(stop=".").applied_to(tiny.task_of()).generation == Generation(stop=".")
