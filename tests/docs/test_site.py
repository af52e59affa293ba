"""The documentation as a site: it builds, strictly, and every page is in its map."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from docs.pages import DOCS, ROOT


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_site_builds_without_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("material", reason="needs mkdocs-material: pip install 'shoestring[site]'")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    with caplog.at_level(logging.WARNING, logger="mkdocs"):
        build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path)))
    assert [record.message for record in caplog.records if record.name.startswith("mkdocs")] == []
    made = {page.stem for page in tmp_path.glob("*.html")}
    assert {page.stem for page in DOCS} <= made
    assert {"index", "ARCHITECTURE", "CONTRIBUTING", "CHANGELOG"} <= {p.stem for p in (tmp_path / "project").iterdir()}
    home = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert 'href="project/index.html"' in home
    assert "https://fonts." not in home


def test_every_page_is_in_the_map_of_the_site() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert [page.name for page in DOCS if f" {page.name}\n" not in text] == []
