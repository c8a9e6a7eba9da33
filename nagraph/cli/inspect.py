"""`nagraph inspect gpt2`: the graph before and after passes."""

from __future__ import annotations

from typing import Any

import click
import numpy as np

from nagraph.errors import DataError


@click.command(short_help="Print a model's graph before and after passes.")
@click.argument("model")
@click.option("--pass", "name", help="Show the graph before and after this pass of the pipeline, where it changed most.")
@click.option("--train", is_flag=True, help="The whole training step: forward, backward, clipping, optimiser.")
@click.option("--layers", type=click.IntRange(1), default=1, show_default=True, help="Transformer blocks.")
@click.option("--pipeline", help="Passes to run instead of the default ones, such as \"simplify,cse,dce\".")
@click.option("--diff", is_flag=True, help="Only the lines that change.")
def command(model: str, name: str | None, train: bool, layers: int, pipeline: str | None, diff: bool) -> None:
    """Print the graph of MODEL (gpt2) before and after passes."""
    from nagraph import pipeline as passes

    if model != "gpt2":
        raise DataError(f"unknown model {model!r}; there is gpt2")
    if name is not None:
        passes.load(name)
    graph = gpt2_graph(train, layers)
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


def _lines(graph: Any) -> list[str]:
    from nagraph.ir.printer import format_graph

    return format_graph(graph, blobs=False).splitlines()


def gpt2_graph(train: bool, layers: int) -> Any:
    """The graph of the default recipe's model, forward or as a whole training step."""
    import nagraph as ng
    from nagraph.models.training import Recipe, init_state, make_step

    recipe = Recipe(layers=layers)
    state = init_state(recipe, 103)
    ids = np.zeros((recipe.batch, recipe.context + 1), np.int32)
    if train:
        return make_step(recipe).lower(state, ids, np.int32(0)).graph
    return ng.trace(lambda model, ids: model(ids), state.model, ids[:, :-1])
