"""`nagraph opt FILE -p PASSES`: arguments and options."""

from __future__ import annotations

from typing import Any

import click

from nagraph.cli.lazy import run
from nagraph.cli.options import backend_option


@click.command(short_help="Run passes on a graph in the text form.")
@click.argument("file", type=click.Path(readable=False, allow_dash=True))
@click.option("-p", "--passes", default="", help="The pipeline, such as \"simplify,fold,cse,dce\"; empty runs the backend's.")
@backend_option
@click.option("--verify/--no-verify", default=True, show_default=True, help="Verify the graph before and after each pass.")
def command(**options: Any) -> None:
    """Read a graph from FILE (- is standard input), run passes on it, print it."""
    run("opt", **options)
