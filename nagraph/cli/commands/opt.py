"""`nagraph opt TARGET -p PASSES`: arguments and options."""

from __future__ import annotations

import pathlib
from typing import Any

import click

from nagraph.cli.lazy import run
from nagraph.cli.options import TARGETS, backend_option, target_argument


@click.command(short_help="Run passes on a graph and print it.", epilog=TARGETS)
@target_argument
@click.option("-p", "--passes", default="",
              help="The pipeline, such as \"simplify,fold_constants,cse,dce\"; empty runs the backend's, or, for files of other forms, "
                   "passes that keep a graph whole.")
@backend_option
@click.option("-o", "--out", type=click.Path(path_type=pathlib.Path),
              help="File for the graph: .ng for the text form, or .onnx, .mlir, .ngx.  [default: print it]")
@click.option("--verify/--no-verify", default=True, show_default=True, help="Verify the graph before and after each pass.")
def command(**options: Any) -> None:
    """Run passes on the graph of TARGET, such as a file.ng or a model.onnx, and print or keep it in the text form."""
    run("opt", **options)
