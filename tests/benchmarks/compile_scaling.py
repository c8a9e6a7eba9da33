"""How the time of everything between a function and its code grows with the number of nodes.

    python tests/benchmarks/compile_scaling.py [nodes ...]

A chain and a tree go to the plan of NumPy's backend; a train step of a deep transformer, by Adam, goes all the way to native code.
Its layers are alike, so there are as many kernels however many layers there are.

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
from nagraph.backends.llvm.calls.native_calls import NativeCalls
from nagraph.backends.llvm.program.functions import kernel_of
from nagraph.backends.llvm.program.images import Image
from nagraph.ir import Graph, spec
from nagraph.nn import functional as F
from nagraph.nn.losses import cross_entropy
from nagraph.optim.base import OptimizerState
from nagraph.pipeline import Pipeline, apply, format_pass
from nagraph.plan import check
from nagraph.plan.kernel_planner import kernel_plan
from nagraph.program.lowering import lower
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


WIDTH, HEADS, TOKENS, SYMBOLS = 32, 2, (4, 16), 64
LAYER = {"g1": (WIDTH,), "b1": (WIDTH,), "qkv": (WIDTH, 3 * WIDTH), "proj": (WIDTH, WIDTH), "g2": (WIDTH,), "b2": (WIDTH,),
         "up": (WIDTH, 4 * WIDTH), "c": (4 * WIDTH,), "down": (4 * WIDTH, WIDTH)}
#: Nodes of a layer in the traced step.
LAYER_NODES = 380


def block(p: dict[str, Any], x: Any) -> Any:
    """A transformer block."""
    q, k, v = (ng.nn.split_heads(part, HEADS) for part in np.split(F.layer_norm(x, p["g1"], p["b1"]) @ p["qkv"], 3, axis=-1))
    x = x + ng.nn.join_heads(F.attention(q, k, v, causal=True)) @ p["proj"]
    return x + F.gelu_tanh(F.layer_norm(x, p["g2"], p["b2"]) @ p["up"] + p["c"]) @ p["down"]


def train_step(nodes: int) -> Callable[[], Graph]:
    """The traced train step of a transformer with about so many nodes."""
    optimiser = ng.optim.Adam(1e-3)
    model = {"symbols": spec((SYMBOLS, WIDTH), "f32"),
             "blocks": [{name: spec(shape, "f32") for name, shape in LAYER.items()} for _ in range(max(2, nodes // LAYER_NODES))]}

    def loss(model: Any, tokens: Any) -> Any:
        x = model["symbols"][tokens]
        for p in model["blocks"]:
            x = block(p, x)
        return cross_entropy(x @ model["symbols"].T, tokens)

    def step(model: Any, state: Any, tokens: Any) -> Any:
        value, gradient = ng.value_and_grad(loss)(model, tokens)
        return value, optimiser.update(model, gradient, state)

    state = OptimizerState(spec((), "i64"), dict.fromkeys(optimiser.slots, model))
    return lambda: ng.trace(step, model, state, spec(TOKENS, "i32"))


def native_stages(trace: Callable[[], Graph]) -> Iterator[tuple[str, int, float]]:
    """The name of each stage from a function to its code, the nodes that it met, its seconds."""
    graph, seconds = timed(trace)
    traced = len(graph.nodes)
    yield "trace", traced, seconds
    for i, step in enumerate(Pipeline.parse(find("llvm").pipeline).passes, 1):
        after, seconds = timed(functools.partial(apply, step, graph))
        yield f"{i}. {format_pass(step)}", len(graph.nodes), seconds
        graph = after
    _, seconds = timed(lambda: ng.verify(graph))
    yield "verify", len(graph.nodes), seconds
    (planner, plan), seconds = timed(lambda: kernel_plan(graph, {}))
    yield "plan, and kernels lowered", traced, seconds
    program, seconds = timed(lambda: lower(planner, plan, lambda kernel: kernel))
    yield "program", traced, seconds
    _, seconds = timed(lambda: [kernel_of(kernel) for kernel in program.functions])
    yield "code of kernels", traced, seconds
    made, seconds = timed(lambda: lower(planner, plan, kernel_of))
    _, more = timed(lambda: NativeCalls(graph, Image.of(made, plan.arena_bytes), {}, None))
    yield "program with its code", traced, seconds + more


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What `work` gives, and its seconds of CPU time; Python's collector looks only at what `work` makes, not at what was there."""
    gc.collect()
    gc.freeze()
    start = time.process_time()
    found = work()
    seconds = time.process_time() - start
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
    shapes = {"chain": (chain, stages), "tree": (wide, stages), "train step": (train_step, native_stages)}
    for name, (shape, through) in shapes.items():
        rows: dict[str, list[tuple[int, float]]] = {}
        list(through(shape(200)))  # imports and caches of the first run
        for n in sizes:
            for stage, nodes, seconds in through(shape(n)):
                rows.setdefault(stage, []).append((nodes, seconds))
        Console(width=140).print(table(name, sizes, rows))


if __name__ == "__main__":
    main()
