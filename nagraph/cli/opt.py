"""`nagraph opt TARGET -p PASSES`: runs passes on a graph and prints it."""

from __future__ import annotations

import click

from nagraph.backends import find
from nagraph.cli.targets import resolve
from nagraph.ir.printer import format_graph
from nagraph.pipeline import Pipeline


def run(target: str, passes: str, backend: str, verify: bool) -> None:
    graph = resolve(target).work.graph()
    click.echo(format_graph(Pipeline.parse(passes or find(backend).pipeline, verify=verify)(graph)))
