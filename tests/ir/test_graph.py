"""Graphs are immutable, compare by structure, and rebuild by sharing what they keep."""

import numpy as np

import nagraph as ng
from nagraph.ir import build, spec
from nagraph.ir.interpret import interpret
from nagraph.transforms.reverse import grad_graph, vjp_graph


def square_plus(n):
    return build("f", [spec((3,), "f64"), spec((2, 3), "f64")], lambda x, y: [x * x * n + y])


def test_graphs_compare_by_structure():
    assert square_plus(2.0) == square_plus(2.0)
    assert hash(square_plus(2.0)) == hash(square_plus(2.0))
    assert square_plus(0.0) != square_plus(-0.0)


def test_rebuild_that_keeps_every_node_is_the_same_graph():
    graph = square_plus(2.0)
    assert graph.rebuild(lambda node: None) is graph


def test_rebuild_replaces_and_shares():
    graph = square_plus(2.0)
    doubled = graph.rebuild(lambda node: node.operands[0] if node.op.name == "multiply" else None)
    assert doubled.nodes[-1].op.name == "add" and len(doubled.nodes) < len(graph.nodes)
    x, y = np.arange(3.0), np.ones((2, 3))
    np.testing.assert_array_equal(interpret(doubled, (x, y))[0], x + y)


def test_trace_of_a_function():
    graph = ng.trace(lambda x: x * 2 + 1, ng.spec((3,)))
    assert [n.op.name for n in graph.nodes] == ["const", "multiply", "const", "add"]
    assert graph.inputs[0].name == "x" and graph.nodes[1].location.file == __file__
    np.testing.assert_array_equal(interpret(graph, (np.arange(3, dtype="f4"),))[0], [1, 3, 5])


def test_a_derivative_is_a_graph():
    graph = build("cube", [spec((), "f64")], lambda x: [x * x * x])
    first, second = grad_graph(graph), grad_graph(grad_graph(graph))
    x = np.array(3.0)
    assert interpret(first, (x,))[0] == 27.0 and interpret(second, (x,))[0] == 18.0
    assert vjp_graph(graph).input_types == (graph.input_types[0],) * 2
