"""The hub where it cannot be reached: said at once, not after five attempts."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from shoestring import hub
from shoestring.data.hub import read_hub
from shoestring.errors import DataError, ModelError
from shoestring.models.loading import load_longest_input, load_tokenizer
from shoestring.models.settings import MaskedModel
from shoestring.tasks.load import load_task

Asked = list[tuple[Any, Any]]


@pytest.fixture
def lookups(monkeypatch: pytest.MonkeyPatch) -> Iterator[Asked]:
    """Let no name be known, without a proxy; note which are asked for."""
    asked: Asked = []

    def unknown(host: Any, port: Any, *_: Any, **__: Any) -> Any:
        asked.append((host, port))
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setattr(hub, "getproxies", dict)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: pytest.fail("the hub is asked again"))
    hub._is_found.cache_clear()
    yield asked
    hub._is_found.cache_clear()


def test_a_model_that_is_not_here_is_refused_at_once(lookups: Asked) -> None:
    with pytest.raises(ModelError, match=r"the tokenizer cannot be loaded: .*nor is there a folder of this name here"):
        load_tokenizer(MaskedModel(name="nomodel"))
    with pytest.raises(ModelError, match="the config cannot be loaded"):
        load_longest_input(MaskedModel(name="nomodel"))
    assert lookups == [("huggingface.co", 443)]
    assert not constants.HF_HUB_OFFLINE


def test_a_data_set_that_is_not_here_is_refused_at_once(lookups: Asked) -> None:
    task = load_task("SST-2")
    assert task.sources.hub is not None
    with pytest.raises(DataError, match=r"cannot be loaded: .*; without a network, give data\.source"):
        read_hub(task, task.sources.hub, ["train"], None, None)
    assert lookups == [("huggingface.co", 443)]


def test_nobody_is_asked_about_a_folder_or_offline(
    lookups: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hub.hub_mode(str(tmp_path)):
        assert not constants.HF_HUB_OFFLINE
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with hub.hub_mode("nomodel"):
        assert constants.HF_HUB_OFFLINE
    assert constants.HF_HUB_OFFLINE
    assert lookups == []


def test_a_hub_that_is_found_or_that_a_proxy_may_find_is_asked(lookups: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "getproxies", lambda: {"https": "http://proxy:3128"})
    with hub.hub_mode("nomodel"):
        assert not constants.HF_HUB_OFFLINE
    assert lookups == []
    hub._is_found.cache_clear()
    monkeypatch.setattr(hub, "getproxies", dict)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [])
    with hub.hub_mode("nomodel"):
        assert not constants.HF_HUB_OFFLINE


def test_after_an_error_the_hub_may_be_asked_again(lookups: Asked) -> None:
    def load() -> None:
        with hub.hub_mode("nomodel"):
            raise RuntimeError(constants.HF_HUB_OFFLINE)

    with pytest.raises(RuntimeError, match="True"):
        load()
    assert not constants.HF_HUB_OFFLINE
