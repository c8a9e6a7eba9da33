"""`nagraph profile TARGET`: arguments and options."""

from __future__ import annotations

import pathlib
from typing import Any

import click

from nagraph.cli.lazy import run
from nagraph.cli.options import TARGETS, backend_option, target_argument


@click.command(short_help="Tell where the time and the memory of a call go.", epilog=TARGETS)
@target_argument
@click.option("--task", type=click.Choice(["train", "infer"]),
              help="Of a model the whole training step, or the forward pass.  [default: train]")
@click.option("--steps", type=click.IntRange(1), default=5, show_default=True,
              help="Recorded steps after one to warm up; the median is shown.")
@backend_option
@click.option("--threads", type=click.IntRange(1), help="Threads of a step.  [default: as many as there are cores]")
@click.option("--out", "place", type=click.Path(path_type=pathlib.Path),
              help="Folder for timeline and picture.  [default: runs/TARGET-profile]")
@click.option("--rows", type=click.IntRange(1), default=25, show_default=True, help="Kernels and buffers that the tables show.")
@click.option("--layers", type=click.IntRange(1), help="Blocks of a model whose depth is one number.  [default: its own]")
def command(**options: Any) -> None:
    """Run TARGET and show its kernels by time and its memory by size.

    A timeline for https://ui.perfetto.dev (one track a thread) and a picture of the memory are left in the folder.
    """
    run("profile", **options)
