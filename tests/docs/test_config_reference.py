"""The pages of keys and commands are those that the settings classes and the command line give."""

from __future__ import annotations

import runpy

from docs.pages import ROOT

PAGES = runpy.run_path(str(ROOT / "scripts" / "config_reference.py"))["pages"]()


def test_the_pages_of_keys_are_up_to_date() -> None:
    for name, text in PAGES.items():
        assert (ROOT / "docs" / name).read_text(encoding="utf-8") == text, "run python scripts/config_reference.py"


def test_every_key_says_what_it_is() -> None:
    entries = [line for text in PAGES.values() for line in text.split("\n- ")[1:]]
    assert len(entries) > 90
    assert [entry for entry in entries if not entry.split("): ", 1)[-1].strip()] == []


def test_the_page_of_commands_is_up_to_date() -> None:
    page = runpy.run_path(str(ROOT / "scripts" / "command_reference.py"))["page"]()
    assert (ROOT / "docs" / "commands.md").read_text(encoding="utf-8") == page, (
        "run python scripts/command_reference.py"
    )
    assert page.count("\n## ") > 20
