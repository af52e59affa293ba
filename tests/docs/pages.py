"""Reading pages: their code blocks, their links, their headings."""

from __future__ import annotations

import re
import shlex
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", *DOCS]
RECIPES = sorted((ROOT / "recipes").rglob("*.toml"))

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
_NAMED = re.compile(r"# a (?:recipe|task file): (\S+)\n")


@dataclass(frozen=True)
class Block:
    """A fenced block of code: its language, its text, the line it begins on."""

    language: str
    text: str
    line: int

    @property
    def path(self) -> str | None:
        """The file that the block's first line says it is."""
        named = _NAMED.match(self.text)
        return named[1] if named else None

    @property
    def table(self) -> dict[str, Any]:
        """The block as TOML."""
        return tomllib.loads(self.text)


def blocks(page: Path, *languages: str) -> list[Block]:
    """Return the blocks of a page in these languages, in order."""
    text = page.read_text(encoding="utf-8")
    found = [Block(match[1], match[2], text[: match.start()].count("\n") + 2) for match in _FENCE.finditer(text)]
    return [block for block in found if block.language in languages]


def commands(page: Path) -> list[list[str]]:
    """Return the arguments of every `shoestring ...` line in the page's console and shell blocks."""
    found: list[list[str]] = []
    for block in blocks(page, "console", "sh"):
        for line in block.text.replace("\\\n", " ").splitlines():
            words = shlex.split(line.strip().removeprefix("$ "), comments=True)
            if words[:1] == ["shoestring"]:
                found.append(words[1:])
    return found


def links(page: Path) -> list[str]:
    """Return the targets of the page's links, those in code left out."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    return [match[1] for match in _LINK.finditer(re.sub(r"`[^`\n]*`", "", text))]


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub makes of the page's headings."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    heads = (line.lstrip("#").strip().lower() for line in text.splitlines() if line.startswith("#"))
    return {re.sub(r"[^\w\- ]", "", head).replace(" ", "-") for head in heads}
