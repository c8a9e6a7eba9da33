"""The simplify pass as a whole."""

import numpy as np

import nagraph as ng
from nagraph.ir.builder import Builder
from nagraph.ir.interpret import interpret
from nagraph.ir.types import DTYPES, TensorType
from nagraph.passes.simplify import Simplify
from nagraph.pipeline import Pipeline

simplify = Pipeline.parse("simplify,dce")


def ops_of(graph):
    return [n.op.name for n in graph.nodes]


def test_algebra_goes():
    graph = ng.trace(lambda x: np.transpose(np.transpose((-(-x) * 1 + -0.0) / 1)) - 0, ng.spec((2, 3)))
    after = simplify(graph)
    assert after.nodes == () and after.outputs == after.inputs


def test_operands_match_in_either_order():
    graph = ng.trace(lambda x, y: (1 * x, -0.0 + x, (-y) + x), ng.spec((2,)), ng.spec((2,)))
    assert ops_of(simplify(graph)) == ["subtract"]


def test_inexact_rules_are_off_by_default():
    graph = ng.trace(lambda x: np.exp(np.log(x)) + (x - x), ng.spec((2,)))
    assert ops_of(simplify(graph)) == ops_of(graph)
    assert ops_of(Pipeline.parse("simplify{inexact=True},dce")(graph)) == []


def test_regions_are_simplified_inside_and_never_across():
    graph = ng.trace(lambda x: -ng.cond(x.sum() > 0, lambda a: -a, lambda a: -(-a) * 1, x), ng.spec((3,)))
    after = simplify(graph)
    cond = next(n for n in after.nodes if n.op.name == "cond")
    assert ops_of(cond.op.true) == ["negative"] and ops_of(cond.op.false) == []
    assert ops_of(after)[-1] == "negative"


def test_it_is_idempotent_and_deterministic():
    graph = ng.trace(lambda x, y: (x * x + -0.0 - (-y), (x / 4) * 1, np.abs(-x), (-x) * 3), ng.spec((2, 2)), ng.spec((2, 2)))
    once = Simplify()(graph)
    assert Simplify()(once) is once
    assert str(Simplify()(graph)) == str(once)
    arrays = [np.arange(4, dtype=np.float32).reshape(2, 2) - 1, np.full((2, 2), np.nan, np.float32)]
    for a, b in zip(interpret(graph, arrays), interpret(once, arrays)):
        np.testing.assert_array_equal(a, b)


def test_a_long_chain():
    with Builder() as builder:
        v = builder.input(TensorType(DTYPES["f32"], (2,)), "x")
        for _ in range(5000):
            v = -(v * 1 + -0.0)
        graph = builder.graph("chain", [v])
    after = simplify(graph)
    assert after.outputs == after.inputs
