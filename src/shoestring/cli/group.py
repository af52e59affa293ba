"""How every command ends: mistakes without a traceback, interruptions with 130, everything else as Python has it."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from shoestring.errors import ShoestringError

RESUMABLE = ("run", "sweep", "demo")


class Commands(TyperGroup):
    """The group of all commands; typer's own ending turns usage errors into 2 and broken pipes into silence."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except ShoestringError as error:
            report(error, option="output.folder=..." if _name(ctx) in RESUMABLE else "--out")
            raise typer.Exit(1) from None
        except KeyboardInterrupt as interrupt:
            # A run knows from where it would go on; workers, and what comes before a run, leave no note.
            told = getattr(interrupt, "__notes__", ["the same command makes what is not done"])
            typer.echo("; ".join(["\ninterrupted", *(told if _name(ctx) in RESUMABLE else [])]), err=True)
            raise typer.Exit(130) from None


def report(error: ShoestringError, option: str = "output.folder=...") -> None:
    """Print an error and its notes to stderr, without colour where NO_COLOR is set (https://no-color.org).

    Args:
        error: what went wrong.
        option: what chooses another place where the disk refused one.
    """
    said = str(error).replace("choose another place with output.folder=...", f"choose another place with {option}")
    red = None if os.environ.get("NO_COLOR") else "red"
    typer.secho("error: ", fg=red, bold=True, nl=False, err=True)
    typer.echo("\n".join([said, *getattr(error, "__notes__", ())]), err=True)


def end_unprinted(error: OSError) -> NoReturn:
    """End a command whose standard output cannot be written, where this is what the error says; else raise it."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    # Everything is printed by one of these. Files that cannot be written are told by `files.writing`.
    if frame.f_globals["__name__"].partition(".")[0] not in ("click", "rich", "typer"):
        raise error
    for stream, text in ((sys.stderr, error.strerror or str(error)), (sys.stdout, "")):
        try:
            if text:
                report(ShoestringError(f"standard output cannot be written: {text}"))
            stream.flush()
        except OSError:
            # What it still holds goes nowhere, or Python would fail at it once more on its way out.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(1)


def _name(ctx: Any) -> str:
    return str(ctx.invoked_subcommand)
