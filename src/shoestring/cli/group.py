"""How every command ends: mistakes without a traceback, interruptions with 130, everything else as Python has it."""

from __future__ import annotations

import os
from typing import Any

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
        except KeyboardInterrupt:
            resumed = "; the same command goes on from the last checkpoint" if _name(ctx) in RESUMABLE else ""
            typer.echo(f"\ninterrupted{resumed}", err=True)
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


def _name(ctx: Any) -> str:
    return str(ctx.invoked_subcommand)
