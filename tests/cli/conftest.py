"""What the tests of the command line share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from runs.records import record
from shoestring.cli.main import app
from shoestring.runs.record import write_record

Run = Callable[..., subprocess.CompletedProcess[str]]


class Shell:
    """Runs commands in this process."""

    def __call__(self, *arguments: object, code: int = 0) -> tuple[str, str]:
        """Run a command, check its exit status, and return stdout and stderr."""
        result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result.stdout, result.stderr

    def usage_error(self, *arguments: object) -> str:
        """Run a command that is used wrongly and return the message on one line, without its frame."""
        _, err = self(*arguments, code=2)
        return " ".join(err.replace("│", " ").split())

    def error(self, *arguments: object) -> str:
        """Run a command that fails and return its message."""
        out, err = self(*arguments, code=1)
        assert out == ""
        assert err.startswith("error: ")
        return err


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Shell:
    """Commands in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return Shell()


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """The environment of a command in a process of its own: this package, offline, wide lines."""
    source = Path(__file__).resolve().parents[2] / "src"
    return os.environ | {"PYTHONPATH": str(source), "COLUMNS": "200", "PYTHONWARNINGS": "default"}


@pytest.fixture(scope="session")
def program() -> list[str]:
    """The words that start the command in a process of its own."""
    start = "import sys; sys.argv[0] = 'shoestring'; from shoestring.cli.main import main; main()"
    return [sys.executable, "-c", start]


@pytest.fixture(scope="session")
def process(environment: dict[str, str], program: list[str]) -> Run:
    """Commands in a process of their own."""

    def run(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        command = [*program, *map(str, arguments)]
        return subprocess.run(
            command, capture_output=True, text=True, env=environment, cwd=cwd, timeout=120, check=False
        )

    return run


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of two finished runs and a failed one, and the folder of one that has not ended."""
    folder = tmp_path_factory.mktemp("records")
    made = [record(0.5), record(0.7, seed=21), record(seed=42, status="failed", error="step 3: the loss is nan")]
    for run in made:
        (folder / run.run_id).mkdir()
        write_record(folder / run.run_id, run)
    unfinished = folder / "unfinished"
    unfinished.mkdir()
    (unfinished / "config.json").write_text("{}")
    (unfinished / ".lock").touch()
    return folder
