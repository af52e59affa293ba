"""A hook of mkdocs: the README and its like become pages of the site, in `project/`, and links lead there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parent.parent
PROJECT = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!https?://|#)([^)\s]+)\)")
_PICTURE = re.compile(r"!\[([^\]]*)\]\(docs/([^)\s]+)\)")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages of the project."""
    for name in PROJECT:
        text = (ROOT / name).read_text(encoding="utf-8")
        text = _PICTURE.sub(r"![\1](../\2)", text)
        files.append(File.generated(config, f"project/{name}", content=_LINK.sub(_from_the_root, text)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Return a page of docs/ with its links to the rest of the repository led to what the site has of it."""
    if page.file.src_uri.startswith("project/"):
        return markdown
    return _LINK.sub(_from_docs, markdown)


def _from_the_root(link: re.Match[str]) -> str:
    text, target = link.groups()
    if target.startswith("docs/"):
        return f"[{text}](../{target.removeprefix('docs/')})"
    return link[0] if target.partition("#")[0] in PROJECT else text


def _from_docs(link: re.Match[str]) -> str:
    text, target = link.groups()
    if not target.startswith("../"):
        return link[0]
    name = target.removeprefix("../")
    return f"[{text}](project/{name})" if name.partition("#")[0] in PROJECT else text
