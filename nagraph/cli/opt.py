"""`nagraph opt FILE -p PASSES`: runs passes on a graph in the text form."""

from __future__ import annotations

import sys

import click

import nagraph as ng
from nagraph.backends import find
from nagraph.errors import DataError, ParseError
from nagraph.files import read_text
from nagraph.ir.printer import format_graph
from nagraph.pipeline import Pipeline


def run(file: str, passes: str, backend: str, verify: bool) -> None:
    text = _standard_input() if file == "-" else read_text(file, DataError)
    try:
        graph = ng.parse(text)
    except ParseError as error:
        raise DataError(f"{file}: {error}") from None
    click.echo(format_graph(Pipeline.parse(passes or find(backend).pipeline, verify=verify)(graph)))


def _standard_input() -> str:
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise DataError(f"standard input is no UTF-8 text: byte {error.start} is 0x{error.object[error.start]:02x}") from None
