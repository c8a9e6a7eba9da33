"""`nagraph inspect gpt2`: the graph before and after passes, and why its regions were formed or refused."""

from __future__ import annotations

from typing import Any

import click

from nagraph.errors import DataError


@click.command(short_help="Print a model's graph before and after passes.")
@click.argument("model")
@click.option("--pass", "name", help="Show the graph before and after this pass of the pipeline, where it changed most.")
@click.option("--train", is_flag=True, help="The whole training step: forward, backward, clipping, optimiser.")
@click.option("--layers", type=click.IntRange(1), default=1, show_default=True, help="Transformer blocks.")
@click.option("--pipeline", help="Passes to run instead of the default ones, such as \"simplify,cse,dce\".")
@click.option("--diff", is_flag=True, help="Only the lines that change.")
@click.option("--why", is_flag=True, help="In place of graphs: why regions of kernels were formed, refused or taken apart.")
@click.option("--rows", type=click.IntRange(1), default=30, show_default=True, help="With --why: kinds of refusals to show.")
def command(model: str, name: str | None, train: bool, layers: int, pipeline: str | None, diff: bool, why: bool,
            rows: int) -> None:
    """Print the graph of MODEL (such as gpt2) before and after passes, or why its regions are what they are."""
    from nagraph import pipeline as passes
    from nagraph.models.workloads import workload

    if name is not None:
        passes.load(name)
    graph = workload(model, "train" if train else "infer", layers).graph()
    if why:
        _tell_why(graph, pipeline or passes.KERNELS, rows)
        return
    seen: list[passes.Observation] = []
    chosen = passes.Pipeline.parse(pipeline or passes.DEFAULT).with_observers(seen.append)
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
        from nagraph.ir.difference import difference

        (_, before), (title, changed) = shown
        click.echo(difference(before, changed, title))
        return
    for title, g in shown:
        click.echo(f"// {title}: {len(g.nodes)} nodes")
        click.echo("\n".join(_lines(g)))
        click.echo()


def _tell_why(graph: Any, pipeline: str, rows: int) -> None:
    from nagraph.cli.reasons import decisions, formed_table, refused_table
    from nagraph.cli.terminal import console

    found = decisions(graph, pipeline)
    if not found:
        raise DataError(f"the pipeline {pipeline} does not run fuse, which decides about regions; name another with --pipeline")
    out = console()
    out.print(formed_table(found))
    out.print()
    out.print(refused_table(found, rows))


def _lines(graph: Any) -> list[str]:
    from nagraph.ir.printer import format_graph

    return format_graph(graph, blobs=False).splitlines()
