"""The command line that evaluates an exported model with the lm-evaluation-harness."""

from __future__ import annotations

import ast
import json
import re
import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from shoestring.models.settings import ModelSettings


def harness_command(out: Path, base: ModelSettings, task: str | None, *, adapter: bool) -> str | None:
    """Return a command line for a shell; None where the harness cannot ask a model of this kind.

    Args:
        out: the folder of the model, or of the adapter.
        base: the model it was tuned from.
        task: the harness's name of what is to be asked; left open where it is not known.
        adapter: whether the folder holds an adapter beside the base model.
    """
    if not base.writes:
        return None
    given = {"pretrained": str(out)}
    if adapter:
        # As the run had it: the harness would take the precision that the checkpoint was saved in.
        given = {"pretrained": base.name, "peft": str(out), "dtype": base.dtype}
        given |= {} if base.revision is None else {"revision": base.revision}
    words = ["lm_eval", "--model", "hf", "--model_args", model_arguments(given)]
    return shlex.join([*words, *(["--tasks", task] if task is not None else [])])


def model_arguments(given: dict[str, str]) -> str:
    """Return the harness's `--model_args`: `key=value,...`, or JSON where it would misread a value.

    >>> model_arguments({"pretrained": "facebook/opt-125m", "peft": "tuned"})
    'pretrained=facebook/opt-125m,peft=tuned'
    >>> model_arguments({"pretrained": "my,model"})
    '{"pretrained": "my,model"}'
    """
    if all(map(_read_as_text, given.values())):
        return ",".join(f"{key}={value}" for key, value in given.items())
    return json.dumps(given, ensure_ascii=False)


def _read_as_text(value: str) -> bool:
    """Return whether the harness takes a value as it stands: it makes numbers of what looks like them, and so on."""
    if not re.fullmatch(r"[\w./~@+-]+", value) or value.lower() in ("true", "false", "none"):
        return False
    for read in (float, ast.literal_eval):
        try:
            read(value)
        except (ValueError, SyntaxError):
            continue
        return False
    return True
