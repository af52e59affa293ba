from __future__ import annotations

import re
import runpy
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "install.py"
INSTALL: dict[str, Any] = runpy.run_path(str(SCRIPT))
Torch = INSTALL["Torch"]


def fake_python(place: Path, answer: str, *, code: int = 0) -> Path:
    """An executable that answers whatever it is asked."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(f"#!/bin/sh\nprintf '{answer}'\nexit {code}\n")
    place.chmod(0o755)
    return place


def plain_venv(folder: Path, torch: str | None = None) -> Path:
    """A virtual environment without pip, which says that it has a torch of this version; return its Python."""
    venv.EnvBuilder(with_pip=False).create(folder)
    if torch is not None:
        (site,) = folder.glob("lib/python*/site-packages")
        info = site / f"torch-{torch}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: torch\nVersion: {torch}\n")
    return folder / "bin" / "python"


@pytest.mark.parametrize(
    ("answer", "usable"),
    [
        ("2.6.0\\t/x", True),
        ("2.13.0+cu126\\t/x", True),
        ("2.5.1\\t/x", False),
        ("1.13\\t/x", False),
        ("odd\\t/x", False),
    ],
)
def test_a_torch_is_used_if_it_is_new_enough(tmp_path: Path, answer: str, usable: bool) -> None:
    found = INSTALL["find_torch"](fake_python(tmp_path / "python", answer))
    assert (found is not None) == usable
    if usable:
        assert found == Torch(answer.partition("\\t")[0], Path("/x"))


def test_a_python_without_torch_has_none(tmp_path: Path) -> None:
    assert INSTALL["find_torch"](fake_python(tmp_path / "python", "", code=1)) is None
    assert INSTALL["find_torch"](plain_venv(tmp_path / "env")) is None


PINS = ["numpy==2.1", "torch==2.13.0", "torchmetrics==1"]


@pytest.mark.parametrize(
    ("seen", "prefix", "dropped"),
    [
        (Torch("2.7", Path("/base/lib")), Path("/base"), True),
        (Torch("2.7", Path("/env/lib")), Path("/base"), False),  # its own, from an earlier time
        (Torch("2.7", Path("/env/lib")), Path("/env"), True),  # the user's own environment is the target
        (None, Path("/base"), False),
    ],
    ids=["another's", "its own", "the environment itself", "none"],
)
def test_the_pin_of_torch_is_dropped_only_for_a_torch_of_the_users_that_the_environment_sees(
    seen: Any, prefix: Path, dropped: bool
) -> None:
    lent = INSTALL["lent"](seen, Path("/env"), prefix)
    assert (lent is not None) == dropped
    assert INSTALL["without_torch"](PINS) == ["numpy==2.1", "torchmetrics==1"]


@pytest.mark.parametrize("torch", ["2.7.0", "2.5.0", None])
def test_the_torch_of_an_activated_environment_is_seen_in_the_new_one(tmp_path: Path, torch: str | None) -> None:
    own = plain_venv(tmp_path / "own", torch)
    target = tmp_path / "new"
    call = "m['create'](pathlib.Path(sys.argv[2]), m['find_torch'](sys.executable), with_pip=False)"
    code = f"import pathlib, runpy, sys; m = runpy.run_path(sys.argv[1]); {call}"
    subprocess.run([own, "-c", code, SCRIPT, target], check=True)
    seen = INSTALL["find_torch"](target / "bin" / "python")
    assert (seen is not None) == (torch == "2.7.0")
    if seen is not None:
        assert seen.folder.is_relative_to(tmp_path / "own")
        assert INSTALL["lent"](seen, target, Path(sys.prefix)) == seen


def test_a_torch_beside_a_python_that_is_no_virtual_environment_is_seen_through_its_site_packages() -> None:
    see = INSTALL["folders_to_show"]
    assert see(Torch("2.7", Path("/usr/lib/python3")), Path("/usr"), Path("/usr")) == []
    assert see(Torch("2.7", Path("/usr/lib/python3")), Path("/own"), Path("/usr")) == []  # lent to it by the base
    assert see(Torch("2.7", Path("/own/lib/python3")), Path("/own"), Path("/usr")) == [Path("/own/lib/python3")]


def test_tools_that_make_calls_by_path_are_installed_even_where_they_are_lent(tmp_path: Path) -> None:
    fake_python(tmp_path / "bin" / "ruff", "")
    assert INSTALL["missing_tools"](tmp_path) == ["basedpyright"]
    called = set(re.findall(r"\$\(BIN\)/(\w+)", (SCRIPT.parents[1] / "Makefile").read_text()))
    assert called == {"python", "shoestring", *INSTALL["TOOLS"]}
