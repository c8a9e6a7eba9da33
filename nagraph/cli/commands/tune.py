"""`nagraph tune TARGET`: arguments and options."""

from __future__ import annotations

import pathlib
from typing import Any

import click

from nagraph.cli.lazy import run
from nagraph.cli.options import TARGETS, target_argument


@click.command(short_help="Measure other schedules of costly kernels, and keep the faster ones.", epilog=TARGETS)
@target_argument
@click.option("--task", type=click.Choice(["train", "infer"]),
              help="Of a model the whole training step, or the forward pass.  [default: train]")
@click.option("--threads", type=click.IntRange(1), help="Threads of a step.  [default: as many as there are cores]")
@click.option("--layers", type=click.IntRange(1), help="Blocks of a model whose depth is one number.  [default: its own]")
@click.option("--out", "place", type=click.Path(path_type=pathlib.Path, dir_okay=False),
              help="File for the schedules of all kernels, as ng.compile(schedules=FILE) reads them.")
def command(**options: Any) -> None:
    """Find faster schedules for the kernels of TARGET on this machine.

    A kernel says what is computed; its schedule says how: what a unit of work is, how many rows a block has, along which axis
    vectors run, how large the tiles in registers are. nagraph chooses by rules of thumb. This command runs TARGET on random data, and
    for each kernel that takes a good part of the time measures a dozen other schedules, each beside the one it has, by the time of the
    threads themselves, so that other processes disturb it little. Results have the same bits with every schedule; that is checked
    at each run.

    Faster ones are kept in the cache: whatever is compiled later on this machine and has such a kernel gets them. `nagraph cache --clear`
    forgets them.
    """
    run("tune", **options)
