from __future__ import annotations

import io
import sys
import time

import pytest
from typer.testing import CliRunner

from shoestring.cli import screen
from shoestring.cli.main import app


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Make stderr a terminal; called in the test itself, since pytest puts its own stderr back after fixtures."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    return stream


def test_without_a_terminal_nothing_is_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    with screen.waiting("loading"), screen.progress() as progress, progress.bar("work", 2) as bar:
        bar.advance()
        bar.note("half")
    assert capsys.readouterr() == ("", "")


def test_a_letter_that_the_screen_does_not_have_is_a_question_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    screen.out().print("50.0 (–, 1)")  # noqa: RUF001 - the dash of tables
    sys.stdout.flush()
    assert written.getvalue() == b"50.0 (?, 1)\n"


def test_bars_are_drawn_on_stderr_and_stdout_stays_clean(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = terminal(monkeypatch)
    with screen.progress() as progress, progress.bar("outer [x]", 2) as outer, progress.bar("inner", 3) as inner:
        outer.advance()
        inner.advance(2)
        inner.note("loss 0.7")
        print("result")  # noqa: T201 - what a caller may do meanwhile
        time.sleep(0.3)  # bars are drawn ten times a second
    assert capsys.readouterr().out == "result\n"
    drawn = stream.getvalue()
    assert "outer [x]" in drawn
    assert "loss 0.7" in drawn
    assert "2/3" in drawn


def test_what_waits_shows_a_spinner(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = terminal(monkeypatch)
    with screen.waiting("loading torch"):
        pass
    assert "loading torch" in stream.getvalue()


def test_errors_are_red_unless_no_color_is_set() -> None:
    red = CliRunner().invoke(app, ["tasks", "show", "trek"], color=True, env={"NO_COLOR": ""}).stderr
    plain = CliRunner().invoke(app, ["tasks", "show", "trek"], color=True, env={"NO_COLOR": "1"}).stderr
    assert "\x1b[31m" in red
    assert "\x1b[31m" not in plain
    assert "error: " in plain
