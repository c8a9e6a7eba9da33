"""`nagraph inspect TARGET`: prints the graph before and after passes, why its regions were formed or refused, or what it is compiled to."""

from __future__ import annotations

from typing import Any

import click
from rich.table import Table

import nagraph as ng
from nagraph import pipeline as passes
from nagraph.backends import find
from nagraph.cli.reasons import formed_table, refused_table, remarks
from nagraph.cli.targets import resolve
from nagraph.cli.terminal import console
from nagraph.errors import DataError
from nagraph.ir.difference import difference
from nagraph.ir.printer import format_graph


def run(target: str, name: str | None, train: bool, layers: int | None, pipeline: str | None, backend: str,
        machine: str | None, source: str | None, diff: bool, why: bool, rows: int) -> None:
    if name is not None:
        passes.load(name)
    graph = resolve(target, "train" if train else None, layers, usual_layers=1).work.known_graph()
    if why:
        _tell_why(graph, pipeline or find(backend).pipeline, rows)
        return
    if machine is not None or source is not None:
        executable = ng.compile(graph, backend=backend, passes=pipeline, target=machine)
        if source is not None:
            click.echo(executable.source(source))
        else:
            _tell_resources(executable)
        return
    seen: list[passes.Observation] = []
    chosen = passes.Pipeline.parse(pipeline or find(backend).pipeline).with_observers(seen.append)
    after = chosen(graph)
    if name is None:
        shown = [("as traced", graph), (f"after {chosen}", after)]
    else:
        ran = [s for s in seen if s.step.partition("{")[0] == name]
        if not ran:
            raise DataError(f"the pipeline {chosen} does not run {name}; name another with --pipeline")
        most = max(ran, key=lambda s: abs(len(s.before.nodes) - len(s.after.nodes)))
        shown = [(f"before {most.step} (pass {most.index})", most.before), (f"after {most.step}", most.after)]
    if diff:
        (_, before), (title, changed) = shown
        click.echo(difference(before, changed, title))
        return
    for title, g in shown:
        click.echo(f"// {title}: {len(g.nodes)} nodes")
        click.echo("\n".join(_lines(g)))
        click.echo()


def _tell_why(graph: Any, pipeline: str, rows: int) -> None:
    found = remarks(graph, pipeline)
    if not found:
        raise DataError(f"the pipeline {pipeline} does not run fuse, which decides about regions; name another with --pipeline")
    out = console()
    out.print(formed_table(found))
    out.print()
    out.print(refused_table(found, rows))


def _tell_resources(executable: Any) -> None:
    """Print what each kernel takes of the machine that it was compiled for."""
    table = Table(box=None, pad_edge=False)
    for name in ("launches", "blocks", "threads", "registers", "shared bytes", "spilled bytes", "occupancy"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("kernel")
    found = executable.resources
    for name, *counts, occupancy in found:
        table.add_row(*(f"{n:,}" for n in counts), f"{occupancy:.0%}", name)
    out = console()
    out.print(table)
    for name, why in executable.product_choices.items():
        out.print(f"{name}: {why}", soft_wrap=True)
    out.print(f"{executable.architecture}: {len(found)} kernels, {sum(r.launches for r in found)} launches, "
              f"{executable.arena_nbytes / 2**20:.1f} MB of memory beside arguments and results")


def _lines(graph: Any) -> list[str]:
    return format_graph(graph, blobs=False).splitlines()
