"""`nagraph profile MODEL`: arguments and options."""

from __future__ import annotations

import pathlib
from typing import Any

import click

from nagraph.cli.lazy import run


@click.command(short_help="Tell where the time and the memory of a model's step go.")
@click.argument("model")
@click.option("--task", type=click.Choice(["train", "infer"]), default="train", show_default=True,
              help="The whole training step, or the forward pass.")
@click.option("--steps", type=click.IntRange(1), default=5, show_default=True,
              help="Recorded steps after one to warm up; the median is shown.")
@click.option("--threads", type=click.IntRange(1), help="Threads of a step.  [default: as many as there are cores]")
@click.option("--out", "place", type=click.Path(path_type=pathlib.Path),
              help="Folder for timeline and picture.  [default: runs/MODEL-TASK-profile]")
@click.option("--rows", type=click.IntRange(1), default=25, show_default=True, help="Kernels and buffers that the tables show.")
@click.option("--layers", type=click.IntRange(1), help="Transformer blocks.  [default: the model's own]")
def command(**options: Any) -> None:
    """Run the default step of MODEL (such as gpt2) and show its kernels by time and its memory by size.

    A timeline for https://ui.perfetto.dev (one track a thread) and a picture of the memory are left in the folder.
    """
    run("profile", **options)
