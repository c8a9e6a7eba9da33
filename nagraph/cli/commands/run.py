"""`nagraph run TARGET`: arguments and options."""

from __future__ import annotations

import pathlib
from typing import Any

import click

from nagraph.cli.lazy import run
from nagraph.cli.options import TARGETS, backend_option, target_argument


@click.command(short_help="Run a graph once and show its results.", epilog=TARGETS)
@target_argument
@click.option("--random", "drawn", is_flag=True, help="Run on random arrays.")
@click.option("--inputs", type=click.Path(path_type=pathlib.Path), help="A safetensors file with an array for each input, by its name.")
@click.option("--out", type=click.Path(path_type=pathlib.Path), help="A safetensors file for the results, by their names.")
@click.option("--threads", type=click.IntRange(1), help="Threads of the call.  [default: as many as there are cores]")
@backend_option
def command(**options: Any) -> None:
    """Compile TARGET, such as a model.onnx, run it once on random arrays or those of a file, and show its results."""
    run("run", **options)
