"""Loading by name: the options of a command when it is typed, what it does when it runs.

A command `nagraph NAME` has two modules. `nagraph.cli.commands.NAME` is what one types: arguments, options, help; it loads nothing
that help can do without. `nagraph.cli.NAME` is what happens: its function `run` takes the options by name.
"""

from __future__ import annotations

import importlib
from typing import Any

import click


class Commands(click.Group):
    """A group of commands, each loaded when it is used."""

    #: In the order in which help lists them.
    names: tuple[str, ...] = ("train", "eval", "generate", "inspect", "profile", "tune", "bench", "opt", "run", "export", "fuzz", "cache",
                              "info")

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.names)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.names:
            return None
        found: click.Command = module(f"commands.{cmd_name}").command
        return found


def module(name: str) -> Any:
    """A module of the command line by its name below `nagraph.cli`."""
    return importlib.import_module(f"nagraph.cli.{name}")


def run(name: str, /, **options: Any) -> Any:
    """Do what a command does; its exit code, or None."""
    return module(name).run(**options)
