"""Places in a model: which module runs, and which one owns a tensor."""

from __future__ import annotations

from collections.abc import Iterable
from traceback import walk_stack, walk_tb
from types import FrameType

from torch import Tensor, nn


def place_of(param: Tensor) -> str:
    """Return where a model is that just now reads a tensor, in words to append: ` in Linear 'decoder.fc1'`.

    Names are those that the outermost module which runs has for them. Where the tensor is another module's, that one is
    named too: ` of Embedding 'embed' in Head 'head'`. No words if no module runs.
    """
    return _place(reversed([frame for frame, _ in walk_stack(None)]), param)


def place_of_error(error: BaseException) -> str:
    """Return where a model was when it failed, in such words."""
    return _place([frame for frame, _ in walk_tb(error.__traceback__)])


def _place(frames: Iterable[FrameType], param: Tensor | None = None) -> str:
    running = [frame.f_locals.get("self") for frame in frames]
    modules = [module for module in running if isinstance(module, nn.Module)]
    if not modules:
        return ""
    root, inner = modules[0], modules[-1]
    names = {id(module): name for name, module in root.named_modules()}
    owner = next((module for module in root.modules() if _owns(module, param)), None)
    words = f" in {_named(inner, names)}"
    return words if owner is None or owner is inner else f" of {_named(owner, names)}{words}"


def _owns(module: nn.Module, param: Tensor | None) -> bool:
    return any(held is param for held in module.parameters(recurse=False))


def _named(module: nn.Module, names: dict[int, str]) -> str:
    name = names.get(id(module))
    return f"{type(module).__name__} {name!r}" if name else type(module).__name__
