"""`nagraph inspect TARGET`: arguments and options."""

from __future__ import annotations

from typing import Any

import click

from nagraph.cli.lazy import run
from nagraph.cli.options import TARGETS, backend_option, machine_option, target_argument


@click.command(short_help="Print a graph before and after passes.", epilog=TARGETS)
@target_argument
@click.option("--pass", "name", help="Show the graph before and after this pass of the pipeline, where it changed most.")
@click.option("--train", is_flag=True, help="Of a model the whole training step: forward, backward, clipping, optimiser.")
@click.option("--layers", type=click.IntRange(1), help="Blocks of a model whose depth is one number.  [default: 1]")
@click.option("--pipeline", help="Passes to run instead of the backend's, such as \"simplify,cse,dce\".")
@backend_option
@machine_option
@click.option("--source", metavar="FORM", help="In place of graphs: the code that runs, as kernel, llvm, asm, cuda, ptx, ...")
@click.option("--diff", is_flag=True, help="Only the lines that change.")
@click.option("--why", is_flag=True, help="In place of graphs: why regions of kernels were formed, refused or taken apart.")
@click.option("--rows", type=click.IntRange(1), default=30, show_default=True, help="With --why: kinds of refusals to show.")
def command(**options: Any) -> None:
    """Print the graph of TARGET before and after passes, or why its regions are what they are.

    With --source the code that it is compiled to; with --target what each kernel takes of that machine.
    """
    run("inspect", **options)
