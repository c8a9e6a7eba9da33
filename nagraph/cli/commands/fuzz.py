"""`nagraph fuzz`: options."""

from __future__ import annotations

import pathlib
from typing import Any

import click

from nagraph.cli.lazy import run


@click.command(short_help="Check random programs against plain NumPy.")
@click.option("--programs", type=click.IntRange(1), default=300, show_default=True, help="How many programs.")
@click.option("--first", type=click.IntRange(0), default=0, show_default=True, help="The seed of the first one.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes at once.")
@click.option("--out", type=click.Path(path_type=pathlib.Path), default=pathlib.Path("runs/fuzz"), show_default=True,
              help="Folder for the state and a script for each fault. A run with the same folder goes on where the last one stopped.")
def command(**options: Any) -> Any:
    """Check random programs in every way of running them (eagerly, each backend, with and without passes) against plain NumPy,
    and their derivatives against differences. What fails is shrunk to a few lines and kept as a script.

    Exit code 1 if a program failed.
    """
    return run("fuzz", **options)
