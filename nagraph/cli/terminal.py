"""The terminal: how tables are printed where there is none."""

from __future__ import annotations

from rich.console import Console

#: Width of tables where the output is no terminal.
WIDE = 220


def console() -> Console:
    """A console that prints text as it is, and tables whole where the output is a file or a pipe."""
    made = Console(highlight=False, markup=False, emoji=False)
    if not made.is_terminal:
        made.width = WIDE
    return made
