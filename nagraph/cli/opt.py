"""`nagraph opt FILE -p PASSES`: run passes on a graph in the text form."""

from __future__ import annotations

import sys

import click

from nagraph.errors import DataError, ParseError
from nagraph.files import read_text


@click.command(short_help="Run passes on a graph in the text form.")
@click.argument("file", type=click.Path(readable=False, allow_dash=True))
@click.option("-p", "--passes", default="", help="The pipeline, such as \"simplify,fold,cse,dce\"; empty runs the default one.")
@click.option("--verify/--no-verify", default=True, show_default=True, help="Verify the graph before and after each pass.")
def command(file: str, passes: str, verify: bool) -> None:
    """Read a graph from FILE (- is standard input), run passes on it, print it."""
    import nagraph as ng
    from nagraph.ir.printer import format_graph
    from nagraph.pipeline import DEFAULT, Pipeline

    text = _standard_input() if file == "-" else read_text(file, DataError)
    try:
        graph = ng.parse(text)
    except ParseError as error:
        raise DataError(f"{file}: {error}") from None
    click.echo(format_graph(Pipeline.parse(passes or DEFAULT, verify=verify)(graph)))


def _standard_input() -> str:
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise DataError(f"standard input is no UTF-8 text: byte {error.start} is 0x{error.object[error.start]:02x}") from None
