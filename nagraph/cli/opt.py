"""`nagraph opt TARGET -p PASSES`: runs passes on a graph and prints it, or writes it to a file."""

from __future__ import annotations

import pathlib

import click

from nagraph.backends import find
from nagraph.cli.targets import resolve
from nagraph.errors import DataError
from nagraph.files import write_atomically
from nagraph.ir.printer import format_graph
from nagraph.pipeline import Pipeline


def run(target: str, passes: str, backend: str, verify: bool, out: pathlib.Path | None) -> None:
    if out is not None and out.suffix != ".ng":
        raise DataError(f"{out} would hold a graph in the text form; name a file that ends in .ng")
    graph = resolve(target).work.graph()
    text = format_graph(Pipeline.parse(passes or find(backend).pipeline, verify=verify)(graph))
    if out is None:
        click.echo(text)
    else:
        write_atomically(out, f"{text}\n".encode(), DataError)
