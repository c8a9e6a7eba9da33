"""Nothing recurses along a graph: 6,000 nodes in a row, sums as trees, a loop's body of 2,000 nodes. (Python's limit is 1,000.)"""

import sys

import numpy as np
import pytest

import nagraph as ng
from nagraph.backends import find
from nagraph.ir import Graph, build, spec
from nagraph.ir.interpret import interpret
from nagraph.pipeline import Pipeline
from nagraph.regions.calls import Call
from nagraph.regions.scans import Scan
from nagraph.transforms.batching import batch_graph
from nagraph.transforms.forward import jvp_graph
from nagraph.transforms.reverse import grad_graph, vjp_graph

NODES = 6_000
X = np.array([-0.5, 0.25, 1.0])


@pytest.fixture(autouse=True)
def a_low_limit_of_recursion():
    """No test may lean on a raised limit; this one is below Python's own, as far as the test runner itself allows."""
    before = sys.getrecursionlimit()
    assert before <= 1000
    sys.setrecursionlimit(600)
    yield
    sys.setrecursionlimit(before)


def chain(x):
    """x -> sin(x) - x, again and again, sometimes with constants between."""
    for k in range(NODES // 2):
        x = ng.numpy.sin(x) * 1e-6 + x if k % 1000 == 0 else ng.numpy.sin(x) - x
    return ng.numpy.sum(x)


def expected(x):
    """The chain and its derivative, by NumPy."""
    slope = np.ones_like(x)
    for k in range(NODES // 2):
        if k % 1000 == 0:
            slope *= np.cos(x) * 1e-6 + 1
            x = np.sin(x) * 1e-6 + x
        else:
            slope *= np.cos(x) - 1
            x = np.sin(x) - x
    return x.sum(), slope


@pytest.fixture(scope="module")
def traced() -> Graph:
    graph = ng.trace(chain, spec((3,), "f64"))
    assert len(graph.nodes) > NODES
    return graph


def test_printing_parsing_comparing_verifying(traced):
    text = str(traced)
    back = ng.parse(text)
    assert back == traced and hash(back) == hash(traced)
    assert str(back) == text
    ng.verify(back)


def test_the_graph_and_its_derivative_run(traced):
    value, slope = expected(X)
    np.testing.assert_array_equal(interpret(traced, (X,))[0], value)
    derivative = grad_graph(traced)
    ng.verify(derivative)
    np.testing.assert_allclose(interpret(derivative, (X,))[0], slope, rtol=1e-6, atol=1e-300)


def test_forward_mode_and_batching(traced):
    short = Graph(traced.name, traced.inputs, traced.nodes[:NODES // 2], [traced.nodes[NODES // 2 - 1].result])
    moved = jvp_graph(short, [0])
    many = batch_graph(short, 2, [True])
    ng.verify(moved)
    ng.verify(many)
    (y,) = interpret(short, (X,))
    np.testing.assert_array_equal(interpret(moved, (X, X))[0], y)
    np.testing.assert_array_equal(interpret(many, (np.stack([X, X]),))[0], np.stack([y, y]))


def test_compiled_with_the_default_passes(traced):
    exe = ng.compile(traced)
    np.testing.assert_allclose(exe(X)[0], expected(X)[0], rtol=1e-12)


def test_every_pass_on_a_long_derivative():
    """The whole pipeline, verified after every pass, on what differentiation makes of 2,000 nodes; then again through jit."""

    def loss(x):
        for _ in range(1_000):
            x = ng.numpy.tanh(x) * x
        return ng.numpy.sum(x)

    graph = grad_graph(ng.trace(loss, spec((3,), "f64")))
    after = Pipeline.parse(find("numpy").pipeline, verify=True)(graph)
    found = interpret(graph, (X,))[0]
    np.testing.assert_allclose(interpret(after, (X,))[0], found, rtol=1e-10)
    np.testing.assert_allclose(ng.jit(ng.grad(loss))(X), found, rtol=1e-10)


def test_fusion_of_a_long_chain_of_large_arrays():
    """Arrays large enough to be worth fusing: regions of up to 64 nodes, one behind the other."""
    graph = build("f", [spec((130, 130), "f32")], lambda x: [_steps(x, 2_000)])
    fused = Pipeline.parse(find("numpy").pipeline)(graph)
    assert sum(n.op.name == "call" for n in fused.nodes) > 25
    x = np.linspace(-1, 1, 130 * 130, dtype=np.float32).reshape(130, 130)
    np.testing.assert_allclose(ng.compile(graph)(x)[0], interpret(graph, (x,))[0], rtol=1e-5, atol=1e-7)


def test_sums_along_columns_of_what_is_computed_in_many_steps():
    """A chain whose values have one reader each: the native backend's passes look along it for what is computed again."""
    graph = build("f", [spec((30, 4), "f32")], lambda x: [ng.numpy.sum(_tanhs(x, 2_000), axis=0)])
    after = Pipeline.parse(find("llvm").pipeline)(graph)
    assert sum(n.op.name == "call" for n in after.nodes) > 15


def _tanhs(x, count: int):
    for _ in range(count):
        x = ng.numpy.tanh(x)
    return x


def _steps(x, count: int):
    for _ in range(count):
        x = ng.numpy.sin(x) + x * 0.5
    return x


def test_constants_and_dead_nodes_in_a_row():
    """A chain that folds to one constant, and one that nobody reads."""

    def body(x):
        c = ng.ir.constant(np.array([0.5]))
        for _ in range(5_000):
            c = ng.numpy.sin(c)
        for _ in range(5_000):
            ng.numpy.sin(x)
        return [x + c]

    after = Pipeline.parse(find("numpy").pipeline)(build("f", [spec((1,), "f64")], body))
    assert [n.op.name for n in after.nodes] == ["const", "add"]


def test_a_sum_as_a_tree_and_as_a_fan():
    """2^11 leaves summed in pairs; then one value read 2,000 times, whose derivative adds 2,000 cotangents."""

    def tree(x):
        level = [x * float(k) for k in range(1 << 11)]
        while len(level) > 1:
            level = [a + b for a, b in zip(level[::2], level[1::2])]
        return level

    graph = build("tree", [spec((), "f64")], tree)
    weights = float(sum(k for k in range(1 << 11)))
    assert interpret(grad_graph(graph), (np.array(2.0),))[0] == weights
    assert ng.parse(str(graph)) == graph
    assert ng.compile(graph, backend="numpy")(np.array(2.0))[0] == 2 * weights

    def fan(x):
        return [ng.numpy.sum(ng.numpy.concatenate([ng.numpy.sin(x) for _ in range(2_000)]))]

    wide = build("fan", [spec((1,), "f64")], fan)
    np.testing.assert_allclose(interpret(grad_graph(wide), (np.array([0.5]),))[0], 2_000 * np.cos(0.5), rtol=1e-10)
    np.testing.assert_allclose(ng.compile(wide)(np.array([0.5]))[0], 2_000 * np.sin(0.5), rtol=1e-10)


def test_a_loop_with_a_long_body():
    row = spec((2,), "f64")
    body = build("body", [row, row], lambda c, r: [_steps(c, 700) * 1e-3 + r, c])
    assert len(body.nodes) > 2_000
    graph = build("loop", [row, spec((3, 2), "f64")], lambda c, xs: [ng.numpy.sum(Scan(body, 0, 1, 3)(c, xs)[0])])
    arrays = np.array([0.5, -0.25]), np.arange(6.0).reshape(3, 2) / 10
    ng.verify(graph)
    assert ng.parse(str(graph)) == graph
    plain = interpret(graph, arrays)[0]
    np.testing.assert_allclose(ng.compile(graph)(*arrays)[0], plain, rtol=1e-12)
    derivative = vjp_graph(graph)
    found = interpret(derivative, (*arrays, np.array(1.0)))
    compiled = ng.compile(derivative)(*arrays, np.array(1.0))
    for a, b in zip(compiled, found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-300)
    step = 1e-7
    moved = interpret(graph, (arrays[0], arrays[1] + step * np.eye(3, 2)))[0]
    np.testing.assert_allclose((moved - plain) / step, (found[1] * np.eye(3, 2)).sum(), rtol=1e-4)


def test_many_nodes_with_regions():
    """3,000 calls of one composite, and 200 calls of composites that all differ."""
    row = spec((2,), "f64")
    half = build("half", [row], lambda x: [x * 0.5])

    def body(x):
        for _ in range(3_000):
            x = Call("half", "composite", half)(x)
        for k in range(200):
            x = Call("plus", "composite", build("plus", [row], lambda a, k=k: [a + float(k)]))(x)
        return [x]

    graph = build("calls", [row], body)
    text = str(graph)
    assert text.count("graph @") == 202
    assert ng.parse(text) == graph
    after = Pipeline.parse(find("numpy").pipeline)(graph)
    np.testing.assert_array_equal(interpret(after, (np.ones(2),))[0], np.full(2, 200 * 199 / 2))
