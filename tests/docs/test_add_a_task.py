"""The page that adds tasks by doing it is done, from top to bottom, and prints what it says."""

from __future__ import annotations

import doctest
import re
import shlex
import subprocess
from pathlib import Path

from typer.testing import CliRunner

from docs.pages import ROOT, blocks
from shoestring.cli.main import app

PAGE = ROOT / "docs" / "add-a-task.md"
_COMMAND = re.compile(r"^\$ (.*?(?:\\\n.*?)*)\n(.*?)(?=^\$ |\Z)", re.MULTILINE | re.DOTALL)


def test_every_step_of_the_page_is_possible_and_prints_what_is_shown(playground: Path) -> None:
    steps = blocks(PAGE, "sh", "toml", "console")
    assert [block.language for block in steps].count("sh") == 4
    for block in steps:
        if block.language == "sh":
            subprocess.run(["sh", "-e", "-c", block.text], check=True)
        elif block.language == "toml":
            assert block.path is not None
            Path(block.path).write_text(block.text, encoding="utf-8")
        else:
            for command, shown in _COMMAND.findall(block.text):
                check(command, shown)


def check(command: str, shown: str) -> None:
    """Run a command and compare what it prints with what is shown, `...` being anything."""
    program, *words = shlex.split(command.replace("\\\n", " "))
    assert program == "shoestring"
    done = CliRunner().invoke(app, words)
    assert done.exit_code == (1 if shown.startswith("error: ") else 0), f"{command}\n{done.output}"
    same = doctest.OutputChecker().check_output(shown, done.output, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert same, f"{command}\n{done.output}\n is not\n{shown}"
