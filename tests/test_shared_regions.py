"""Regions that graphs hold often are visited once by all that walks through graphs: what is done does not double with each level."""

import numpy as np
import pytest

import nagraph as ng
from nagraph.analysis.constants import MOST_NBYTES
from nagraph.backends import find
from nagraph.ir.builder import build, current
from nagraph.ir.graph import Graph
from nagraph.ir.types import DTYPES, TensorType
from nagraph.ops.arg_extremum import ArgExtremum, argmax
from nagraph.ops.movement import broadcast_to
from nagraph.ops.slicing import Slice
from nagraph.ops.special import tanh
from nagraph.pipeline import Pipeline, apply, load, pass_names
from nagraph.plan import make_plan
from nagraph.plan.kernel_planner import kernel_plan
from nagraph.regions.base import region_cost
from nagraph.regions.branches import Cond
from nagraph.regions.calls import LARGE, Call
from nagraph.transforms.batching import batch_graph
from nagraph.transforms.forward import jvp_graph
from nagraph.transforms.narrowing import narrowed
from nagraph.transforms.reverse import vjp_graph

TYPE = TensorType(DTYPES["f32"], (4,))


def nested(depth: int, kind: str) -> Graph:
    """Each level calls the one below twice, under two labels."""
    graph = build("f0", [TYPE], lambda x: [tanh(x) * 2])
    for level in range(depth):
        def body(x, below=graph):
            y = Call("first", kind, below)(x)
            return [Cond(below, below)(np.True_, y) if kind == "cond" else Call("second", kind, below)(y)]

        graph = build(f"f{level + 1}", [TYPE], body)
    return graph


def diamonds(depth: int, kind: str) -> Graph:
    """At each level two graphs hold the one below, and one graph holds both."""
    graph = build("f0", [TYPE], lambda x: [tanh(x) * 2])
    for level in range(depth):
        sides = [build(name, [TYPE], lambda x, below=graph, name=name: [Call(name, kind, below)(x)]) for name in ("left", "right")]
        graph = build(f"f{level + 1}", [TYPE], lambda x, sides=sides: [Call("l", kind, sides[0])(x) + Call("r", kind, sides[1])(x)])
    return graph


def regions(graph: Graph) -> dict[int, Graph]:
    """The distinct graphs that a graph is made of, itself included."""
    found, waiting = {id(graph): graph}, [graph]
    while waiting:
        new = {id(r): r for n in waiting.pop().nodes for r in n.op.regions.values() if id(r) not in found}
        found |= new
        waiting += new.values()
    return found


def nodes(graph: Graph) -> int:
    return sum(len(g.nodes) for g in regions(graph).values())


@pytest.mark.parametrize("kind", ["composite", "checkpoint"])
@pytest.mark.parametrize("name", [n for n in pass_names() if getattr(load(n), "on_regions", True)])
def test_a_pass_visits_each_region_once(name, kind):
    graph = diamonds(15, kind)
    visited = []
    (step,) = Pipeline.parse(name).passes

    def counting(g):
        visited.append(id(g))
        assert len(visited) <= len(regions(graph)), "a region is visited again"
        return step(g)

    apply(counting, graph)
    assert len(visited) == len(regions(graph)) == 3 * 15 + 1


@pytest.mark.parametrize("shape", [nested, diamonds])
def test_text_equality_and_hash(shape):
    graph = shape(15, "composite")
    again = ng.parse(str(graph))
    assert again == graph == shape(15, "composite") and hash(again) == hash(graph) and nodes(again) == nodes(graph)
    ng.verify(again)


def test_graphs_that_differ_are_not_equal():
    graph = nested(25, "composite")
    assert nested(25, "checkpoint") != graph != nested(24, "composite")
    assert str(graph).count("graph @") == 26
    ng.verify(graph)


@pytest.mark.parametrize("kind", ["composite", "checkpoint"])
def test_transforms_make_of_each_region_one_other(kind, monkeypatch):
    monkeypatch.setattr("nagraph.regions.calls.LARGE", 64)
    graph = nested(25, kind)
    for made in (batch_graph(graph, 3, [True]), jvp_graph(graph, [0]), vjp_graph(graph), jvp_graph(vjp_graph(nested(14, kind)), [0])):
        ng.verify(made)
        assert len(regions(made)) < 200 and nodes(made) < 10_000
    assert region_cost(graph).transcendental == 2**25 * TYPE.size


def test_a_part_of_what_shared_regions_make():
    graph = nested(25, "composite")
    part = build("part", [TYPE], lambda x: [Slice((1,), (2,), (1,))(Call("all", "composite", graph)(x))])
    found = narrowed(part)
    assert len(regions(found)) < 60 and found != part


@pytest.mark.parametrize("pipeline", [find("numpy").pipeline, find("llvm").pipeline])
def test_pipelines_and_plans_stay_small(pipeline):
    graph = Pipeline.parse(pipeline)(nested(18, "composite"))
    assert nodes(graph) < 10 * LARGE
    plan = kernel_plan(graph, {})[1] if "kernels=True" in pipeline else make_plan(graph, {})
    assert plan.arena_bytes < 1 << 16


@pytest.mark.parametrize("backend", ["numpy", "llvm"])
def test_they_run(backend):
    graph = nested(13, "composite")
    x = np.linspace(-2, 2, 4, dtype="f")
    expected = x
    for _ in range(2**13):
        expected = np.tanh(expected) * 2
    (got,) = ng.compile(graph, backend=backend)(x)
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    (slope,) = ng.compile(vjp_graph(nested(4, "checkpoint")), backend=backend)(x, np.ones(4, "f"))
    (straight,) = ng.compile(vjp_graph(nested(4, "composite")), backend=backend)(x, np.ones(4, "f"))
    np.testing.assert_allclose(slope, straight, rtol=1e-5)


def test_the_derivative_of_a_large_shared_body_is_that_of_its_parts(monkeypatch):
    graph, x, t = nested(6, "composite"), np.linspace(-2, 2, 4, dtype="f"), np.ones(4, "f")
    expected = [ng.compile(g)(x, t) for g in (vjp_graph(graph), jvp_graph(graph, [0]))]
    monkeypatch.setattr("nagraph.regions.calls.LARGE", 3)
    graph = nested(6, "composite")
    got = [ng.compile(g)(x, t) for g in (vjp_graph(graph), jvp_graph(graph, [0]))]
    for a, b in zip(expected, got, strict=True):
        for u, v in zip(a, b, strict=True):
            np.testing.assert_allclose(u, v, rtol=1e-6)


def spread(*shape):
    """One number, repeated."""
    return ng.numpy.broadcast_to(ng.numpy.eye(2)[0, 0], shape)


# -- what is computed of constants ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["numpy", "llvm"])
@pytest.mark.parametrize("program", [
    lambda: ng.numpy.eye(30000).sum(), lambda: ng.numpy.broadcast_to(ng.numpy.eye(2)[0, 0], (30000, 30000)).sum(),
    lambda: ng.numpy.tril(ng.numpy.broadcast_to(ng.numpy.eye(2)[0], (30000, 2))).sum(0),
    lambda: (ng.numpy.eye(3000) @ ng.numpy.eye(3000))[0], lambda: spread(3000, 3000) @ spread(3000, 3)])
def test_compiling_takes_neither_time_nor_memory_for_large_constants(backend, program, monkeypatch):
    """Nothing that the compiler evaluates reads more than a bound, counted where ops are evaluated."""
    from nagraph.ops.base import Primitive

    evaluate, read = Primitive.evaluate, []

    def counting(self, *arrays):
        read.append(0 if self.view else sum(a.nbytes for a in arrays))
        return evaluate(self, *arrays)

    graph = ng.trace(program)
    monkeypatch.setattr(Primitive, "evaluate", counting)
    executable = ng.compile(graph, backend=backend)
    assert sum(read) <= MOST_NBYTES
    assert backend == "numpy" or sum(c.nbytes for c in executable.calls.image.constants) < 1 << 22


@pytest.mark.parametrize("pipeline", [find("numpy").pipeline, find("llvm").pipeline, ""])
@pytest.mark.parametrize("size", [5, 2000])
@pytest.mark.parametrize("backend", ["numpy", "llvm"])
def test_a_reduction_of_a_repeated_constant_is_evaluated_if_it_reads_little(size, pipeline, backend, monkeypatch):
    def body():
        number = current().constant(np.float64(2))
        return [argmax(broadcast_to(number, (size, size)), 1)]

    evaluate, read = ArgExtremum.evaluate, []
    monkeypatch.setattr(ArgExtremum, "evaluate", lambda self, x: (read.append(x.nbytes), evaluate(self, x))[1])
    graph = build("repeated", [], body)
    executable = ng.compile(graph, passes=pipeline, backend=backend)
    assert sum(read) <= MOST_NBYTES and bool(read) == (size == 5)
    np.testing.assert_array_equal(executable()[0], np.zeros(size))


def test_a_sum_over_what_follows_from_indices_stores_none_of_it():
    assert ng.compile(ng.trace(lambda: ng.numpy.eye(5000).sum())).arena_nbytes < 1 << 16
    assert ng.jit(lambda: ng.numpy.eye(5000).sum())() == 5000
