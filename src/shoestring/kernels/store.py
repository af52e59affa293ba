"""Kernels on disk: a folder for each, blocks that are whole or not there, and what they depend on beside them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from shoestring.errors import KernelStoreError
from shoestring.files import make_folder, replacing, saving, write_json
from shoestring.kernels.blocks import Block, Layout
from shoestring.kernels.identity import key_of

FORMAT = 1
_MANIFEST = "kernel.json"


class KernelStore:
    """One kernel's folder, `root/KEY`, where KEY is the hash of all that it depends on.

    Attributes:
        folder: the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @staticmethod
    def begin(root: Path, description: Mapping[str, Any], more: Mapping[str, Any]) -> KernelStore:
        """Return the store of a kernel, made if it is not there.

        Args:
            root: where kernels are kept.
            description: what the kernel depends on.
            more: what a reader needs besides: where examples come from, how blocks make up the kernel.

        Raises:
            KernelStoreError: if the folder of this key is of something else.
            OutputError: if the disk refuses.
        """
        store = KernelStore(root / key_of(description))
        make_folder(store.folder)
        if (store.folder / _MANIFEST).exists():
            found = store.manifest()["description"]
            wanted = json.loads(json.dumps(description))
            differing = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
            if differing:
                raise KernelStoreError(
                    f"{store.folder} is of another kernel: it differs in {', '.join(differing)}; "
                    "choose another place, or delete it"
                )
        else:
            write_json(store.folder / _MANIFEST, {"format": FORMAT, "description": description, **more})
        return store

    def manifest(self) -> dict[str, Any]:
        """Return what the kernel depends on and how it is made up.

        Raises:
            KernelStoreError: if there is none, or it is damaged.
        """
        path = self.folder / _MANIFEST
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise KernelStoreError(f"{self.folder} holds no kernel: there is no {_MANIFEST}") from None
        except (OSError, ValueError) as error:
            raise self._damaged(path, str(error)) from error
        if not isinstance(found, dict) or found.get("format") != FORMAT or "description" not in found:
            raise self._damaged(path, f"it is not of format {FORMAT}")
        return found

    def path(self, number: int) -> Path:
        """Return the file of a block."""
        return self.folder / f"block-{number:05d}.safetensors"

    def save(self, number: int, done: int, block: Block) -> None:
        """Write a block, to which `done` groups of parameters have been added; a reader sees the old one or the new.

        Raises:
            OutputError: if the disk refuses; the block as it was is untouched.
        """
        path = self.path(number)
        metadata = {"done": str(done), "digest": _digest(block)}
        with saving(path), replacing(path) as half:
            save_file(block, half, metadata)

    def load(self, number: int, layout: Layout) -> tuple[int, Block] | None:
        """Return how many groups of parameters a block has and the block, or None if it was not begun.

        Raises:
            KernelStoreError: if the file is truncated, or not what was written.
        """
        path = self.path(number)
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                metadata: dict[str, str] = file.metadata() or {}
                block: Block = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        except (SafetensorError, OSError, ValueError) as error:
            raise self._damaged(path, str(error)) from error
        if metadata.get("digest") != _digest(block) or not metadata.get("done", "").isdigit():
            raise self._damaged(path, "its checksum is another")
        expected = {name: value.shape for name, value in layout.empty(number).items()}
        if {name: value.shape for name, value in block.items()} != expected:
            raise self._damaged(path, "it holds other tensors than its kernel has")
        return int(metadata["done"]), block

    def _damaged(self, path: Path, reason: str) -> KernelStoreError:
        return KernelStoreError(f"{path} is damaged ({reason}); delete it, and what it held is computed again")


def layout_of(manifest: Mapping[str, Any]) -> Layout:
    """Return how the blocks of a stored kernel make it up."""
    found = manifest["layout"]
    return Layout(
        blocks=tuple((first, last) for first, last in found["blocks"]),
        columns=found["columns"],
        outputs=found["outputs"],
        symmetric=found["symmetric"],
        formulas=tuple(found["formulas"]),
        layers=tuple(found["layers"]),
    )


def _digest(block: Mapping[str, Tensor]) -> str:
    sha = hashlib.sha256()
    for name, tensor in sorted(block.items()):
        sha.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        sha.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()
