"""How the time of everything between a function and its plan grows with the number of nodes.

    python tests/benchmarks/passes_scaling.py [nodes ...]

For each shape of graph and each stage: milliseconds and microseconds a node at each size, and the growth between the last two
sizes, which is 10 for ten times the nodes where the stage is linear.
"""

import functools
import gc
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import nagraph as ng
from nagraph.backends import find
from nagraph.ir import Graph, spec
from nagraph.pipeline import Pipeline, apply, format_pass
from nagraph.plan import check
from nagraph.transforms.reverse import grad_graph

SIZES = (1_000, 10_000, 100_000)
#: Large enough that fusion has something to gain.
X = spec((64, 512), "f32")


def chain(nodes: int) -> Callable[[Any], Any]:
    """Elementwise ops, a broadcast and a reduction by turns, each on the result of the one before."""

    def f(x: Any) -> Any:
        bias = ng.numpy.sum(x, axis=0)
        for k in range(nodes // 8):
            x = ng.numpy.tanh(x) * 0.5 + bias
            x = x - ng.numpy.max(x, axis=1, keepdims=True)
            bias = bias + float(k % 5)
        return ng.numpy.sum(x)

    return f


def wide(nodes: int) -> Callable[[Any], Any]:
    """Branches of four nodes that all start at the input, merged in pairs."""

    def f(x: Any) -> Any:
        level = [ng.numpy.tanh(x * float(k)) + x for k in range(nodes // 5)]
        while len(level) > 1:
            level = [a + b for a, b in zip(level[::2], level[1::2])] + level[len(level) & ~1:]
        return ng.numpy.sum(level[0])

    return f


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What `work` gives, and its seconds; Python's collector looks only at what `work` makes, not at what was there."""
    gc.collect()
    gc.freeze()
    start = time.perf_counter()
    found = work()
    seconds = time.perf_counter() - start
    gc.unfreeze()
    return found, seconds


def stages(f: Callable[[Any], Any]) -> Iterator[tuple[str, int, float]]:
    """The name of each stage, the nodes that it met, its seconds."""
    graph, seconds = timed(lambda: ng.trace(f, X))
    yield "trace", len(graph.nodes), seconds
    text, seconds = timed(lambda: str(graph))
    yield "print", len(graph.nodes), seconds
    back, seconds = timed(lambda: ng.parse(text))
    yield "parse", len(graph.nodes), seconds
    same, seconds = timed(lambda: back == graph)
    assert same
    yield "compare", len(graph.nodes), seconds
    _, seconds = timed(lambda: ng.verify(graph))
    yield "verify", len(graph.nodes), seconds
    derivative, seconds = timed(lambda: grad_graph(graph))
    yield "grad", len(graph.nodes), seconds
    yield from _passes(derivative)


def _passes(graph: Graph) -> Iterator[tuple[str, int, float]]:
    for i, step in enumerate(Pipeline.parse(find("numpy").pipeline).passes, 1):
        after, seconds = timed(functools.partial(apply, step, graph))
        yield f"{i}. {format_pass(step)}", len(graph.nodes), seconds
        graph = after
    _, seconds = timed(lambda: check(graph.plan))  # type: ignore[attr-defined]
    yield "check the plan", len(graph.plan.steps), seconds  # type: ignore[attr-defined]


def table(title: str, sizes: tuple[int, ...], rows: dict[str, list[tuple[int, float]]]) -> Table:
    made = Table("stage", title=title)
    for n in sizes:
        made.add_column(f"{n:,}: ms", justify="right")
        made.add_column("µs/node", justify="right")
    made.add_column("growth", justify="right")
    for stage, cells in rows.items():
        shown = [text for nodes, s in cells for text in (f"{s * 1e3:,.1f}", f"{s * 1e6 / max(nodes, 1):.1f}")]
        growth = ""
        if len(cells) > 1:
            (n0, s0), (n1, s1) = cells[-2:]
            growth = f"{s1 / s0:.1f} for {n1 / n0:.1f}"
        made.add_row(stage, *shown, growth)
    return made


def main() -> None:
    sizes = tuple(map(int, sys.argv[1:])) or SIZES
    for name, shape in (("chain", chain), ("wide", wide)):
        rows: dict[str, list[tuple[int, float]]] = {}
        list(stages(shape(200)))  # imports and caches of the first run
        for n in sizes:
            for stage, nodes, seconds in stages(shape(n)):
                rows.setdefault(stage, []).append((nodes, seconds))
        Console(width=140).print(table(f"{name}: {np.prod(X.shape):,} elements a value", sizes, rows))


if __name__ == "__main__":
    main()
