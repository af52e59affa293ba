"""What the pages say is so: code runs, TOML loads, commands exist, links lead somewhere, cited names are there."""

from __future__ import annotations

import doctest
import importlib
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import tiny
from docs.pages import DOCS, PAGES, ROOT, Block, anchors, blocks, commands, links
from shoestring.config import build
from shoestring.prompts import check_task
from shoestring.runs.config import load_config
from shoestring.tasks.load import load_task
from shoestring.tasks.spec import Task

LONGEST, WIDEST = 200, 120
LOOKED_UP = {"commands.md", "config.md", "task-file.md"}  # Generated, and searched rather than read.
COMMANDS = [(page.name, words) for page in PAGES for words in commands(page)]
# What can be run here: not the demo, nor what needs the originals of LM-BFF, a large model (as measuring one does),
# or a reader's own recipe or runs.
# What reads runs comes last; the page that adds tasks has a test of its own, in its own order.
ELSEWHERE = re.compile(r"demo$|data/|recipes/|base\.toml$|opt-|roberta-|runs/[0-9a-f]{16}|runs-|trajectory\.bin$")
INCLUDED = [words for name, words in COMMANDS if name != "add-a-task.md"]
LOCAL = [words for words in INCLUDED if not any(ELSEWHERE.match(word) for word in words)]
LOCAL = [words for words in LOCAL if words[0] != "bench" or "tiny" in words]
LOCAL.sort(key=lambda words: words[0] in ("table", "report", "plot"))


def names(pages: list[Path]) -> list[Any]:
    return [pytest.param(page, id=page.name) for page in pages]


# peft asks transformers for an attribute under its old name when it puts an adapter on a model.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize("page", names(PAGES))
def test_the_code_of_a_page_runs_from_top_to_bottom(page: Path, playground: Path) -> None:
    scope: dict[str, Any] = {"__name__": "page"}
    for block in blocks(page, "python", "toml"):
        if block.language == "toml":
            _write(block, playground)
        elif block.text.startswith(">>>"):
            _doctest(block, scope, page)
        else:
            # The blank lines make tracebacks show the page's own line numbers.
            exec(compile("\n" * (block.line - 1) + block.text, str(page), "exec"), scope)


@pytest.mark.parametrize("page", names(PAGES))
def test_the_toml_of_a_page_is_a_task_or_a_recipe(page: Path, playground: Path) -> None:
    found = blocks(page, "toml")
    for block in found:
        _write(block, playground)
    for block in found:
        table = block.table
        if "task" in table:
            place = Path(block.path) if block.path else playground / "block.toml"
            place.write_text(block.text, encoding="utf-8")
            assert load_config(place).run_id
        elif "name" in table:
            assert build(Task, table, page.name).name
        else:
            base = tiny.task_of().model_dump(exclude={"templates", "labels"})
            labels = [{"name": name, "word": name} for name in ("negative", "positive")]
            assert check_task(build(Task, {**base, "labels": labels, **table}, page.name)) == []


def test_the_worked_task_file_has_nothing_wrong_and_every_part_of_one(playground: Path) -> None:
    block = next(block for block in blocks(ROOT / "docs" / "tasks.md", "toml") if "name" in block.table)
    _write(block, playground)
    task = load_task(str(block.path))
    assert check_task(task) == []
    assert task.golden
    assert task.sources.files
    assert len(task.templates) == 2


@cache
def command_line() -> Any:
    from typer.main import get_command

    from shoestring.cli.main import app

    return get_command(app)


@pytest.mark.parametrize(
    ("page", "words"), [pytest.param(*pair, id=f"{pair[0]} {n}") for n, pair in enumerate(COMMANDS)]
)
def test_a_command_of_a_page_is_one_of_the_command_line(page: str, words: list[str]) -> None:
    command = command_line()
    context, rest = command.make_context("shoestring", list(words)), list(words)
    while hasattr(command, "resolve_command"):
        _, command, rest = command.resolve_command(context, rest)
        context = command.make_context(command.name, list(rest), parent=context)


@pytest.mark.slow
def test_the_commands_that_need_nothing_but_the_playground_succeed(playground: Path) -> None:
    from typer.testing import CliRunner

    from shoestring.cli.main import app

    for page in PAGES:
        for block in blocks(page, "toml"):
            _write(block, playground)
    for words in LOCAL:
        done = CliRunner().invoke(app, [word.replace("$lr", "1e-3") for word in words])
        assert done.exit_code == 0, f"{' '.join(words)}\n{done.output}"


@pytest.mark.parametrize("page", names(PAGES))
def test_links_within_the_repository_lead_somewhere(page: Path) -> None:
    for link in links(page):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_map_names_every_page() -> None:
    linked = {link.partition("#")[0] for link in links(ROOT / "docs" / "index.md")}
    assert {page.name for page in DOCS} - {"index.md"} <= linked


@pytest.mark.parametrize("page", names(DOCS))
def test_a_page_is_short_and_narrow(page: Path) -> None:
    lines = page.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= LONGEST or page.name in LOOKED_UP
    assert [number for number, line in enumerate(lines, start=1) if len(line) > WIDEST] == []


@pytest.mark.parametrize("page", names([*PAGES, ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md"]))
def test_equations_and_code_stand_between_fences_where_nobody_reflows_them(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert re.findall(r"^ {4}.*", text, re.MULTILINE) == []


@pytest.mark.parametrize("page", names(PAGES))
def test_tests_and_names_that_a_page_cites_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for file, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text):
        assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8"), name
    for path in re.findall(r"`(shoestring(?:\.\w+)+)`", text):
        assert _there(path), path
    for file in re.findall(r"`((?:src|recipes|scripts)/[\w./-]+\.\w+)`", text):
        assert (ROOT / file).is_file(), file


def test_the_page_of_differences_lists_every_deliberate_one() -> None:
    source = ROOT / "src" / "shoestring"
    text = (ROOT / "docs" / "differences.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^- `([\w/]+\.py)`:", text, re.MULTILINE))
    differing = {file for file in source.rglob("*.py") if re.search(r"^ +Differs\b", file.read_text(), re.MULTILINE)}
    assert listed == {file.relative_to(source).as_posix() for file in differing}


def _write(block: Block, playground: Path) -> None:
    if block.path is not None:
        (playground.parent / block.path).write_text(block.text, encoding="utf-8")


def _doctest(block: Block, scope: dict[str, Any], page: Path) -> None:
    test = doctest.DocTestParser().get_doctest(block.text, scope, f"{page.stem} {block.line}", str(page), block.line)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    said: list[str] = []
    runner.run(test, out=said.append, clear_globs=False)
    scope.update(test.globs)
    assert not runner.failures, "".join(said)


def _there(path: str) -> bool:
    module, _, name = path.rpartition(".")
    try:
        return hasattr(importlib.import_module(module), name)
    except ModuleNotFoundError:
        return _there(module) and hasattr(_found(module), name)


def _found(path: str) -> object:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)
