"""`nagraph bench [TARGET]...`: arguments and options."""

from __future__ import annotations

import pathlib
from typing import Any

import click

from nagraph.cli.lazy import run
from nagraph.cli.options import TARGETS, backend_option


@click.command(short_help="Time models and single operations, and compare.", epilog=TARGETS)
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@click.option("--only", help="Names of our benchmarks, with commas between; a name stands for all that begin with it.")
@click.option("--quick", is_flag=True, help="Few and short rounds: a look, not a measurement.")
@click.option("--threads", type=click.IntRange(1), help="Threads of a call.  [default: as many as there are cores]")
@backend_option
@click.option("--out", type=click.Path(path_type=pathlib.Path), help="File for the results.  [default: runs/bench/DATE.json]")
@click.option("--compare", type=click.Path(readable=False, path_type=pathlib.Path),
              help="Results of an earlier run to compare with.")
@click.option("--fail-if-slower", is_flag=True, help="With --compare: exit code 1 if something got slower beyond the noise.")
@click.option("--against", help="Frameworks to time in the same rounds, with commas between: torch, jax; of ONNX models ort.")
def command(**options: Any) -> Any:
    """Time training and forward steps of the models and single operations, or the TARGETs named: medians over interleaved rounds."""
    return run("bench", **options)
