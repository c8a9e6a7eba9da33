"""`nagraph opt TARGET -p PASSES`: runs passes on a graph and prints it, or writes it to a file, in the text form or one of the exports."""

from __future__ import annotations

import pathlib

import click

import nagraph as ng
from nagraph.backends import find
from nagraph.cli.targets import resolve
from nagraph.errors import DataError
from nagraph.export.forms import FORMS
from nagraph.files import write_atomically
from nagraph.ir.named_graph import NamedGraph
from nagraph.ir.printer import format_graph
from nagraph.pipeline import Pipeline

#: Exports of graphs as they are, by the endings of their files.
WRITTEN = {FORMS[name].suffix: name for name in ("onnx", "stablehlo", "program")}


def run(target: str, passes: str, backend: str, verify: bool, out: pathlib.Path | None) -> None:
    if out is not None and out.suffix not in (".ng", *WRITTEN):
        raise DataError(f"{out} would hold a graph; name a file that ends in .ng, for the text form, or in {', '.join(WRITTEN)}")
    work = resolve(target).work
    given = work.graph()
    if out is not None and out.suffix in WRITTEN and not passes:
        getattr(ng.export, WRITTEN[out.suffix])(given, out, optimised=True)
        return
    if not passes:  # a backend's own end with those that want sizes to be known
        given = work.known_graph()
    graph = Pipeline.parse(passes or find(backend).pipeline, verify=verify)(given)
    if out is None:
        click.echo(format_graph(graph))
    elif out.suffix == ".ng":
        write_atomically(out, f"{format_graph(graph)}\n".encode(), DataError)
    else:
        named = NamedGraph(graph, given.input_names, given.output_names) if isinstance(given, NamedGraph) else graph
        getattr(ng.export, WRITTEN[out.suffix])(named, out, optimised=False)
