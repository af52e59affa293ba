"""The recipes that come with the package: where they are, and what each of them is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from shoestring.errors import OutputError, RunFolderError, UnknownNameError
from shoestring.files import make_folder, write_bytes
from shoestring.studies.study import Study, load_study

_PACKAGE = Path(__file__).parents[1]
# An installed package has them beside its modules; in a checkout they stand at its root.
_PLACES = (_PACKAGE / "recipes", _PACKAGE.parents[1] / "recipes")


@dataclass(frozen=True)
class Recipe:
    """A recipe of the package.

    Attributes:
        name: such as `mezo/roberta-large-k16`.
        path: its file.
        study: what it is made of.
        about: the comment at its head.
    """

    name: str
    path: Path
    study: Study
    about: str

    @property
    def title(self) -> str:
        """What it is, in a few words."""
        return self.study.title

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models it runs on."""
        found = dict.fromkeys(str(arm.base.get("model", {}).get("name", "")) for arm in self.study.arms)
        swept = [value for arm in self.study.arms for value in arm.over.get("model.name", ())]
        return tuple(dict.fromkeys(map(str, swept))) or tuple(found)

    @property
    def published(self) -> int:
        """How many published numbers stand beside its runs."""
        return sum(len(entry.values) for entry in self.study.settings.published)


def recipe_paths() -> dict[str, Path]:
    """Return name -> file of every recipe of the package, in order of the names.

    Raises:
        RunFolderError: if the package was installed without them.
    """
    for root in _PLACES:
        if found := sorted(root.rglob("*.toml")):
            return {path.relative_to(root).with_suffix("").as_posix(): path for path in found}
    raise RunFolderError(f"this installation has no recipes: there are none in {' or '.join(map(str, _PLACES))}")


def recipe_name(text: str) -> str:
    """Return the name that a text means: `recipes/mezo/opt-13b.toml` is `mezo/opt-13b`.

    >>> recipe_name("recipes/mezo/opt-13b.toml")
    'mezo/opt-13b'
    """
    return text.removeprefix("./").removeprefix("recipes/").removesuffix(".toml")


def find_recipe(text: str) -> Path:
    """Return the file of a recipe of the package, by its name or by its last part where that is no other's.

    Raises:
        UnknownNameError: naming the nearest.
    """
    paths, name = recipe_paths(), recipe_name(text)
    if name in paths:
        return paths[name]
    tails = [known for known in paths if known.rpartition("/")[2] == name]
    if len(tails) == 1:
        return paths[tails[0]]
    raise UnknownNameError("recipe", text, tails or paths)


def recipe_or_file(path: Path) -> Path:
    """Return a path as it is if there is something, else the recipe of the package of that name, else the path."""
    if path.exists():
        return path
    try:
        return recipe_paths().get(recipe_name(path.as_posix()), path)
    except RunFolderError:
        return path


def load_recipe(text: str) -> Recipe:
    """Return a recipe of the package, or of a file.

    Raises:
        UnknownNameError: if there is neither a file nor a recipe of that name.
    """
    own = Path(text).is_file()
    path = Path(text) if own else find_recipe(text)
    name = text if own else next(known for known, file in recipe_paths().items() if file == path)
    return Recipe(name, path, load_study(path), _head(path.read_text(encoding="utf-8")))


def load_recipes() -> list[Recipe]:
    """Return all recipes of the package."""
    return [load_recipe(name) for name in recipe_paths()]


def copy_recipe(text: str, out: Path | None = None, *, force: bool = False) -> Path:
    """Write a copy of a recipe and return where: into `out`, a folder or a file, or the current folder.

    Raises:
        UnknownNameError: if there is no recipe of that name.
        OutputError: if the file is there already, unless `force`, or the disk refuses.
    """
    path = find_recipe(text)
    target = Path(path.name) if out is None else out / path.name if out.is_dir() or out.suffix != ".toml" else out
    if target.exists() and not force:
        raise OutputError(f"{target} is there already; give --force to replace it, or another --out")
    make_folder(target.parent)
    write_bytes(target, path.read_bytes())
    return target


def _head(text: str) -> str:
    found = re.match(r"(?:#.*\n)+", text)
    return re.sub(r"^# ?", "", found[0], flags=re.MULTILINE).strip() if found else ""
